"""Typed messages to records and back: one item at a time, for people and low rates."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from engine.core.records import RECORD_BYTES, AccountFlag, Flag, Kind, Words, as_words
from engine.rpc.faults import Fault, Reason, invalid
from postingengine.v1.account_pb2 import Account, AccountUpdate
from postingengine.v1.transfer_pb2 import Transfer, TransferFlag, TransferKind
from postingengine.v1.types_pb2 import Int128, Uint128

RECORD: Final = struct.Struct("<16s16s16sQQ16s16sQQIIHBBI")
"""The same layout as `engine.core.records.RECORD`: outcome and leg are zero on the wire."""
ID_BYTES: Final = 16
NO_ID: Final = bytes(ID_BYTES)
CODE_MAX: Final = 0xFFFF
KIND_MAX: Final = 0xFF
MASK_64: Final = (1 << 64) - 1
SIGN_BIT: Final = 1 << 127

Item = TypeVar("Item")


class _NotARecord(Exception):
    """A field of an item does not fit its place in the record."""

    def __init__(self, reason: Reason, field: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


def words_of_transfers(transfers: Sequence[Transfer]) -> tuple[Words, list[Fault]]:
    """Convert transfers to rows, shape (n, 16), and the faults of those that cannot be rows."""
    return _words_of(transfers, _record_of_transfer, _linked_only)


def words_of_accounts(accounts: Sequence[Account]) -> tuple[Words, list[Fault]]:
    """Convert accounts to CREATE_ACCOUNT rows, shape (n, 16), and the faults of those that cannot be rows."""
    return _words_of(accounts, _record_of_account, lambda _: 0)


def words_of_updates(updates: Sequence[AccountUpdate]) -> tuple[Words, list[Fault]]:
    """Convert updates to UPDATE_ACCOUNT rows, shape (n, 16), and the faults of those that cannot be rows."""
    return _words_of(updates, _record_of_update, lambda _: 0)


def words_of_ids(ids: Sequence[bytes]) -> Words:
    """Return ids of 16 bytes as words, shape (n, 2)."""
    return np.frombuffer(b"".join(ids), "<u8").reshape(len(ids), 2).astype(np.uint64)


def transfer_of(row: Words, requested: int) -> Transfer:
    """Return one journal row, shape (16,), as the transfer that was asked for, of `requested` minor units."""
    fields = RECORD.unpack(row.tobytes())
    identity, debit, credit, _, _, followed, reference, effective_at, _, ledger, timeout_s, code, kind, flags, _ = (
        fields
    )
    return Transfer(
        id=identity,
        debit_account=debit,
        credit_account=credit,
        amount=uint128(requested),
        ledger=ledger,
        kind=TransferKind.Name(kind) if kind in TransferKind.values() else TransferKind.TRANSFER_KIND_UNSPECIFIED,
        flags=[TransferFlag.Name(flag) for flag in TransferFlag.values() if flag & flags],
        followed=b"" if followed == NO_ID else followed,
        reference=b"" if reference == NO_ID else reference,
        code=code,
        timeout_s=timeout_s,
        effective_at=effective_at,
    )


def uint128(number: int) -> Uint128:
    """Return a number from 0 to 2^128-1 for the wire."""
    return Uint128(low=number & MASK_64, high=number >> 64)


def int128(number: int) -> Int128:
    """Return a number from -2^127 to 2^127-1 for the wire: two's complement."""
    wrapped = number & ((1 << 128) - 1)
    return Int128(low=wrapped & MASK_64, high=wrapped >> 64)


def _words_of(
    items: Sequence[Item], record_of: Callable[[Item], bytes], flags_of: Callable[[Item], int]
) -> tuple[Words, list[Fault]]:
    packed, faults = bytearray(len(items) * RECORD_BYTES), list[Fault]()
    for number, item in enumerate(items):
        try:
            record = record_of(item)
        except _NotARecord as problem:
            faults.append(invalid(problem.reason, str(problem), field=problem.field, item=number))
            record = RECORD.pack(NO_ID, NO_ID, NO_ID, 0, 0, NO_ID, NO_ID, 0, 0, 0, 0, 0, 0, flags_of(item), 0)
        packed[number * RECORD_BYTES : (number + 1) * RECORD_BYTES] = record
    return as_words(packed), faults


def _record_of_transfer(transfer: Transfer) -> bytes:
    amount = transfer.amount
    return RECORD.pack(
        _id(transfer.id, "id"),
        _id(transfer.debit_account, "debit_account"),
        _id(transfer.credit_account, "credit_account"),
        amount.low,
        amount.high,
        _id_or_none(transfer.followed, "followed"),
        _id_or_none(transfer.reference, "reference"),
        transfer.effective_at,
        0,
        transfer.ledger,
        transfer.timeout_s,
        _at_most(transfer.code, CODE_MAX, "code"),
        _at_most(transfer.kind, KIND_MAX, "kind"),
        _bits(transfer.flags, Flag),
        0,
    )


def _record_of_account(account: Account) -> bytes:
    overdraft = account.overdraft_limit
    return RECORD.pack(
        _id(account.id, "id"),
        NO_ID,
        NO_ID,
        overdraft.low,
        overdraft.high,
        NO_ID,
        _id_or_none(account.reference, "reference"),
        0,
        0,
        account.ledger,
        0,
        _at_most(account.code, CODE_MAX, "code"),
        Kind.CREATE_ACCOUNT,
        _bits(account.flags, AccountFlag),
        0,
    )


def _record_of_update(update: AccountUpdate) -> bytes:
    overdraft = update.overdraft_limit
    marks = update.frozen * AccountFlag.FROZEN | update.closed * AccountFlag.CLOSED
    return RECORD.pack(
        _id(update.id, "id"),
        _id(update.account, "account"),
        NO_ID,
        overdraft.low,
        overdraft.high,
        NO_ID,
        _id_or_none(update.reference, "reference"),
        0,
        0,
        update.ledger,
        update.expected_version,
        _at_most(update.code, CODE_MAX, "code"),
        Kind.UPDATE_ACCOUNT,
        marks,
        0,
    )


def _linked_only(transfer: Transfer) -> int:
    """A faulty item still says where its chain goes on, so that the chain fails with it and its neighbours do not."""
    return int(Flag.LINKED) if TransferFlag.TRANSFER_FLAG_LINKED in transfer.flags else 0


def _id(value: bytes, field: str) -> bytes:
    if len(value) != ID_BYTES:
        raise _NotARecord(Reason.ID_LENGTH_INVALID, field, f"{field} has {len(value)} bytes; an id has {ID_BYTES}")
    return value


def _id_or_none(value: bytes, field: str) -> bytes:
    return _id(value, field) if value else NO_ID


def _at_most(value: int, most: int, field: str) -> int:
    if not 0 <= value <= most:
        raise _NotARecord(Reason.VALUE_OUT_OF_RANGE, field, f"{field} is {value}; it may be 0 to {most}")
    return value


def _bits(flags: Iterable[int], known: type[Flag] | type[AccountFlag]) -> int:
    bits = 0
    for flag in flags:
        if flag and (flag not in known._value2member_map_ or flag & bits):
            raise _NotARecord(Reason.FLAGS_INVALID, "flags", f"flag {flag} is unknown, or stands there twice")
        bits |= flag
    return bits
