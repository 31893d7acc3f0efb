"""Between the messages of the contract and the values of this package."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from postingengine.accounts import Account, AccountFlag, AccountState, AccountUpdate, Balance, ReadPoint
from postingengine.bulk import Answers
from postingengine.faults import Told, told_by
from postingengine.ids import NO_ID, as_id
from postingengine.results import NO_POSITION, OUTCOMES, PACKED_RESULT, REPLAYED
from postingengine.statements import (
    ChainState,
    Entry,
    PostedBalance,
    ReservationState,
    Side,
    StoredTransfer,
)
from postingengine.transfers import Flag, Kind, Transfer, misfit_of
from postingengine.v1 import account_pb2, posting_service_pb2, statement_pb2, transfer_pb2, types_pb2
from postingengine.v1.outcomes import Outcome

FLAG_BITS: Final = 16
LEDGER_MAX: Final = (1 << 32) - 1
CODE_MAX: Final = 0xFFFF
VERSION_MAX: Final = (1 << 32) - 1
_MASK_64: Final = (1 << 64) - 1
_SIGN_BIT: Final = 1 << 127


def uint128(number: int) -> types_pb2.Uint128:
    """Return a number from 0 to 2^128-1 for the wire."""
    return types_pb2.Uint128(low=number & _MASK_64, high=number >> 64)


def unsigned(number: types_pb2.Uint128) -> int:
    """Read an unsigned number."""
    return number.high << 64 | number.low


def signed(number: types_pb2.Int128) -> int:
    """Read a signed number: two's complement."""
    value = number.high << 64 | number.low
    return value - (1 << 128) if value & _SIGN_BIT else value


def account_message(account: Account, overdraft_minor: int) -> account_pb2.Account:
    """Return an account to create for the wire; raises ValueError or TypeError naming the field."""
    return account_pb2.Account(
        id=as_id(account.id),
        ledger=_whole(account.ledger, "ledger", LEDGER_MAX),
        code=_whole(account.code, "code", CODE_MAX),
        flags=[cast(account_pb2.AccountFlag, 1 << bit) for bit in range(FLAG_BITS) if account.flags >> bit & 1],
        overdraft_limit=uint128(overdraft_minor),
        reference=_optional(as_id(account.reference, "reference")),
    )


def update_message(update: AccountUpdate, overdraft_minor: int) -> account_pb2.AccountUpdate:
    """Return an update for the wire; raises ValueError or TypeError naming the field."""
    return account_pb2.AccountUpdate(
        id=as_id(update.id),
        account=as_id(update.account, "account"),
        ledger=_whole(update.ledger, "ledger", LEDGER_MAX),
        expected_version=_whole(update.expected_version, "expected_version", VERSION_MAX),
        overdraft_limit=uint128(overdraft_minor),
        frozen=update.frozen,
        closed=update.closed,
        reference=_optional(as_id(update.reference, "reference")),
        code=_whole(update.code, "code", CODE_MAX),
    )


def account_answers(
    results: Iterable[account_pb2.AccountResult], log_indexes: Iterable[types_pb2.GroupLogIndex]
) -> Answers:
    """Read typed results of account requests as packed ones."""
    packed, told = bytearray(), dict[int, Told]()
    for place, result in enumerate(results):
        if result.WhichOneof("answer") != "outcome":
            told[place] = told_by(result.fault)
        position = result.position if result.HasField("position") else NO_POSITION
        flags = REPLAYED if result.replayed else 0
        packed += PACKED_RESULT.pack(position, result.timestamp, result.outcome, flags, result.group)
    return Answers(bytes(packed), told, log_index_pairs(log_indexes))


def post_answers(response: posting_service_pb2.PostTransfersResponse) -> Answers:
    """Read the answer to a packed batch."""
    told = {fault.index: told_by(fault.status) for fault in response.faults}
    return Answers(response.packed_results, told, log_index_pairs(response.log_indexes))


def log_index_pairs(log_indexes: Iterable[types_pb2.GroupLogIndex]) -> tuple[tuple[int, int], ...]:
    """Read (group, log index) pairs."""
    return tuple((one.group, one.log_index) for one in log_indexes)


def read_point(point: types_pb2.ReadPoint) -> ReadPoint:
    """Read what an answer is true at."""
    stale_ms = point.stale_ms if point.HasField("stale_ms") else None
    return ReadPoint(point.group, point.log_index, point.as_of, stale_ms)


def account_state(state: account_pb2.AccountState, point: types_pb2.ReadPoint, scale: int) -> AccountState:
    """Read an account."""
    account, held = state.account, state.balances
    flags = AccountFlag(sum(account.flags))
    balance = Balance(
        unsigned(held.debits_posted),
        unsigned(held.credits_posted),
        unsigned(held.debits_reserved),
        unsigned(held.credits_reserved),
        signed(held.balance),
        signed(held.available),
        scale,
        read_point(point),
    )
    return AccountState(
        account.id,
        account.ledger,
        account.code,
        flags,
        unsigned(account.overdraft_limit),
        account.reference or NO_ID,
        state.version,
        state.created_at,
        balance,
    )


def entry_of(entry: statement_pb2.Entry, scale: int) -> Entry:
    """Read a statement line."""
    return Entry(
        entry.transfer_id,
        Kind(entry.kind),
        Side(entry.side),
        unsigned(entry.amount),
        signed(entry.running_balance),
        entry.counter_account,
        entry.ledger,
        entry.code,
        entry.reference or NO_ID,
        entry.followed or NO_ID,
        entry.timestamp,
        entry.effective_at,
        entry.group,
        entry.position,
        scale,
    )


def posted_balance(response: posting_service_pb2.GetBalanceAtResponse) -> PostedBalance:
    """Read a balance of the past."""
    posted = response.balance
    return PostedBalance(
        unsigned(posted.debits_posted),
        unsigned(posted.credits_posted),
        signed(posted.balance),
        read_point(response.read_at),
    )


def transfer_of(message: transfer_pb2.Transfer) -> Transfer:
    """Read a transfer, its amount in minor units."""
    return Transfer(
        message.debit_account,
        message.credit_account,
        unsigned(message.amount),
        message.ledger,
        Kind(message.kind),
        message.id,
        Flag(sum(message.flags)),
        message.followed or NO_ID,
        message.reference or NO_ID,
        message.code,
        message.timeout_s,
        message.effective_at,
    )


def stored_transfer(stored: transfer_pb2.StoredTransfer) -> StoredTransfer:
    """Read a transfer as the journal keeps it."""
    return StoredTransfer(
        transfer_of(stored.transfer),
        unsigned(stored.moved),
        OUTCOMES.get(stored.outcome) or Outcome(stored.outcome),
        stored.timestamp,
        stored.group,
        stored.position,
        stored.leg,
        ChainState(stored.chain_state),
        ReservationState(stored.reservation_state),
        unsigned(stored.reversed),
    )


def at_least(log_indexes: Mapping[int, int]) -> types_pb2.Consistency:
    """Return the consistency "at least these log indexes by group"."""
    pairs = [types_pb2.GroupLogIndex(group=group, log_index=index) for group, index in sorted(log_indexes.items())]
    return types_pb2.Consistency(at_least=types_pb2.Consistency.AtLeast(log_indexes=pairs))


def _whole(value: int, field: str, most: int) -> int:
    """Return a number that fits its field; protobuf's own complaint would not name it."""
    misfit = misfit_of(value, field, most)
    if misfit is not None:
        raise misfit
    return value


def _optional(value: bytes) -> bytes:
    return b"" if value == NO_ID else value
