"""Transfers as upstream services make them, and the 128 bytes that carry one (DESIGN §5)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from typing import Final, TypeAlias

from postingengine.amounts import AMOUNT_ALL, AMOUNT_MAX, Amount
from postingengine.ids import NO_ID, Id, as_id, new_id_bytes

RECORD: Final = struct.Struct("<16s16s16sQQ16s16sQQIIHBBI")
"""id, debit, credit, amount low, high, followed, reference, effective_at, 0, ledger, timeout_s, code, kind, flags."""
RECORD_BYTES: Final = 128
FLAGS_AT: Final = 123
"""The offset of the flags byte in a record."""
BATCH_TRANSFERS_MAX: Final = 8190

_MASK_64: Final = (1 << 64) - 1
_TIME_NS_MAX: Final = (1 << 63) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Time: TypeAlias = int | datetime
"""An int counts nanoseconds since 1970, UTC; a `datetime` must know its time zone."""


class Kind(IntEnum):
    """What a transfer does."""

    POST = 1
    RESERVE = 2
    COMMIT = 3
    RELEASE = 4
    REVERSE = 5


class Flag(IntFlag):
    """Flags of a transfer."""

    NONE = 0
    LINKED = 1
    """This transfer and the next are legs of one chain; `post_chain` sets it."""
    BALANCING_DEBIT = 2
    """Move what is available on the debit account, up to the amount."""
    BALANCING_CREDIT = 4
    FORCE = 8
    """Skip limits and nothing else; needs a role of its own."""
    KEEP_REST = 16
    """COMMIT only: what is left stays reserved and allows further commits."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One immutable instruction that moves an amount from a debit account to a credit account of one ledger.

    A new id is made where none is given: keep it, and ask again with it whenever the outcome is unknown.
    """

    debit: Id
    credit: Id
    amount: Amount
    ledger: int
    kind: Kind = Kind.POST
    id: Id = field(default_factory=new_id_bytes)
    flags: Flag = Flag.NONE
    followed: Id = NO_ID
    """Followers only: the reservation to commit or release, or the transfer to reverse."""
    reference: Id = NO_ID
    """The business key."""
    code: int = 0
    """Chart of accounts, or the reason, 0 to 65535."""
    expires_after_s: int = 0
    """RESERVE only: seconds until what is left is released by itself; 0: never."""
    effective_at: Time = 0
    """The business date; 0: when the engine books it."""

    def commit(self, amount: Amount = AMOUNT_ALL, *, keep_rest: bool = False, id: Id | None = None) -> "Transfer":
        """Return the COMMIT of this reservation: of an amount up to what is left of it; of all that is left."""
        return self._followed_by(Kind.COMMIT, amount, id, Flag.KEEP_REST if keep_rest else Flag.NONE)

    def release(self, *, id: Id | None = None) -> "Transfer":
        """Return the RELEASE of what is left of this reservation."""
        return self._followed_by(Kind.RELEASE, 0, id)

    def reverse(self, amount: Amount | None = None, *, id: Id | None = None) -> "Transfer":
        """Return the REVERSE of this transfer: of an amount of it; of the whole."""
        return self._followed_by(Kind.REVERSE, self.amount if amount is None else amount, id)

    def _followed_by(self, kind: Kind, amount: Amount, id: Id | None, flags: Flag = Flag.NONE) -> "Transfer":
        return Transfer(
            self.debit,
            self.credit,
            amount,
            self.ledger,
            kind,
            new_id_bytes() if id is None else id,
            flags,
            followed=self.id,
        )

    def linked(self) -> "Transfer":
        """Return this transfer as a leg of a chain that goes on."""
        return replace(self, flags=self.flags | Flag.LINKED)


def follower(
    kind: Kind,
    followed: Id,
    debit: Id,
    credit: Id,
    amount: Amount,
    ledger: int,
    id: Id | None,
    code: int,
    reference: Id,
    flags: Flag = Flag.NONE,
) -> Transfer:
    """Return a COMMIT, RELEASE or REVERSE; a new id is made where none is given."""
    new = new_id_bytes() if id is None else id
    return Transfer(debit, credit, amount, ledger, kind, new, flags, followed, reference, code)


def pack_transfer(transfer: Transfer, minor: int) -> bytes:
    """Return the record of a transfer whose amount is `minor` units; raises ValueError naming the field."""
    return pack(
        transfer.kind,
        transfer.id,
        transfer.debit,
        transfer.credit,
        minor,
        transfer.ledger,
        transfer.followed,
        transfer.reference,
        transfer.code,
        transfer.flags,
        transfer.expires_after_s,
        transfer.effective_at,
    )


def pack(
    kind: int,
    id: Id,
    debit: Id,
    credit: Id,
    amount: int,
    ledger: int,
    followed: Id = NO_ID,
    reference: Id = NO_ID,
    code: int = 0,
    flags: int = 0,
    expires_after_s: int = 0,
    effective_at: Time = 0,
) -> bytes:
    """Return one record, 128 bytes, `amount` in minor units; raises ValueError or TypeError naming the field."""
    try:
        return RECORD.pack(
            # A call per field would double the cost of a post: ids that are bytes already pass at once.
            id if type(id) is bytes and len(id) == 16 else as_id(id, "id"),
            debit if type(debit) is bytes and len(debit) == 16 else as_id(debit, "debit"),
            credit if type(credit) is bytes and len(credit) == 16 else as_id(credit, "credit"),
            amount & _MASK_64,
            amount >> 64,
            followed if followed is NO_ID else as_id(followed, "followed"),
            reference if reference is NO_ID else as_id(reference, "reference"),
            effective_at if type(effective_at) is int else time_ns(effective_at, "effective_at"),
            0,
            ledger,
            expires_after_s,
            code,
            kind,
            flags,
            0,
        )
    except struct.error:
        raise _out_of_range(amount, ledger, expires_after_s, code, flags, effective_at) from None


def chain_records(legs: Sequence[Transfer], minors: Sequence[int]) -> list[bytes]:
    """Return the records of one chain, all but the last leg LINKED, with these amounts in minor units."""
    if not 1 <= len(legs) <= BATCH_TRANSFERS_MAX:
        raise ValueError(f"a chain has 1 to {BATCH_TRANSFERS_MAX} legs, not {len(legs)}")
    linked = [*(leg.linked() for leg in legs[:-1]), legs[-1]]
    return [pack_transfer(leg, minor) for leg, minor in zip(linked, minors, strict=True)]


def chain_of(packed: bytes | bytearray, row: int) -> range:
    """Return the rows of the chain that a row of packed records is a leg of."""
    first, last, rows = row, row, len(packed) // RECORD_BYTES
    while first > 0 and _is_linked(packed, first - 1):
        first -= 1
    while last + 1 < rows and _is_linked(packed, last):
        last += 1
    return range(first, last + 1)


def _is_linked(packed: bytes | bytearray, row: int) -> bool:
    return bool(packed[row * RECORD_BYTES + FLAGS_AT] & Flag.LINKED)


def time_ns(value: Time, field_name: str) -> int:
    """Return a time as nanoseconds since 1970, UTC; raises ValueError naming the field."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{field_name} has no time zone: give it one, such as datetime.UTC")
        value = (value - _EPOCH) // _MICROSECOND * 1000
    if not 0 <= value <= _TIME_NS_MAX:
        raise ValueError(f"{field_name} is out of range: 1970 to 2262")
    return value


def _out_of_range(
    amount: int, ledger: int, expires_after_s: int, code: int, flags: int, effective_at: Time
) -> ValueError | TypeError:
    """Say which field does not fit; only asked once one does not."""
    bounds = (
        ("amount", amount, AMOUNT_MAX),
        ("ledger", ledger, (1 << 32) - 1),
        ("expires_after_s", expires_after_s, (1 << 32) - 1),
        ("code", code, 0xFFFF),
        ("flags", flags, 0xFF),
        ("effective_at", effective_at, _TIME_NS_MAX),
    )
    for name, value, most in bounds:
        misfit = misfit_of(value, name, most)
        if misfit is not None:
            return misfit
    return ValueError("a field does not fit the record")


def misfit_of(value: object, name: str, most: int) -> ValueError | TypeError | None:
    """Say what keeps a value out of the field of a whole number from 0 to `most`; None if nothing does."""
    if not isinstance(value, int) or isinstance(value, bool):
        what = ", the ledger's number: see ledgers()" if name == "ledger" else ""
        return TypeError(f"{name} is a {type(value).__name__}; it must be an int{what}")
    if not 0 <= value <= most:
        return ValueError(f"{name} is {value}; it may be 0 to {most}")
    return None
