"""GetAccounts: balances from the book, with what they are true at."""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from engine.core.records import ACCOUNT, AccountFlag, Words
from engine.rpc.batch import require_count
from engine.rpc.faults import FAILED_PRECONDITION, NOT_FOUND, CallFailed, Fault, Reason, at_item, invalid, status_of
from engine.rpc.typed import ID_BYTES, NO_ID, RECORD, int128, uint128, words_of_ids
from engine.service.replica import Replica
from engine.storage.state_machine import StateMachine
from postingengine.v1.account_pb2 import Account, AccountAnswer, AccountState, Balances
from postingengine.v1.account_pb2 import AccountFlag as AccountFlagMessage
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, GetAccountsResponse
from postingengine.v1.types_pb2 import ReadPoint

IDS_PER_JOB_MAX: Final = 1024
"""Accounts read in one go on the apply thread; between two goes it applies."""
_REFERENCE: Final = 6
"""Where `RECORD.unpack` has the reference."""
_COUNTERS: Final = ("debits_posted", "credits_posted", "debits_reserved", "credits_reserved")


class _Read(NamedTuple):
    """Some accounts at one moment."""

    found: npt.NDArray[np.int64]
    """Per id: which of `rows`; -1 unknown, -2 of another group."""
    rows: npt.NDArray[np.void]
    """Dtype `ACCOUNT`."""
    creations: Words
    """The CREATE_ACCOUNT rows of `rows`, shape (m, 16)."""
    read_at: ReadPoint


async def get_accounts(replica: Replica, request: GetAccountsRequest, deadline_s: float) -> GetAccountsResponse:
    """Read accounts; raises `CallFailed` if the request is not valid, or no read that fresh is possible here."""
    require_ids(request.ids)
    response = GetAccountsResponse()
    for first in range(0, len(request.ids), IDS_PER_JOB_MAX):
        ids = words_of_ids(request.ids[first : first + IDS_PER_JOB_MAX])
        read = await replica.read(request.consistency, deadline_s, lambda ids=ids: _read(replica, ids))  # type: ignore[misc]
        response.accounts.extend(_answers(read, first, replica.place.group))
    return response


def require_ids(ids: Sequence[bytes]) -> None:
    """Raise `CallFailed` unless there are 1 to 8190 ids of 16 bytes."""
    require_count(len(ids), "ids")
    for item, identity in enumerate(ids):
        if len(identity) != ID_BYTES:
            message = f"ids[{item}] has {len(identity)} bytes; an id has {ID_BYTES}"
            raise CallFailed(invalid(Reason.ID_LENGTH_INVALID, message, field="ids", item=item))


def balances_of(row: npt.NDArray[np.void]) -> Balances:
    """Return what an account, one row of dtype `ACCOUNT`, holds."""
    debits, credits, debits_held, credits_held = (_amount(row, name) for name in _COUNTERS)
    limit = _amount(row, "overdraft")
    available = credits - debits - debits_held + limit
    if int(row["flags"]) & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS:
        available = debits - credits - credits_held + limit
    return Balances(
        debits_posted=uint128(debits),
        credits_posted=uint128(credits),
        debits_reserved=uint128(debits_held),
        credits_reserved=uint128(credits_held),
        balance=int128(credits - debits),
        available=int128(available),
    )


def account_rows_at(machine: StateMachine, positions: npt.NDArray[np.uint64]) -> Words:
    """Return journal rows by position, shape (m, 16), in the order asked. On the apply thread."""
    ascending, index = np.unique(positions, return_inverse=True)
    return machine.loader.stored_at(ascending).rows[index]


def _read(replica: Replica, ids: Words) -> _Read:
    """Copy what is asked for. On the apply thread."""
    machine = replica.machine
    placed = machine.book.place_accounts(ids)
    here = np.flatnonzero(placed >= 0)
    rows = machine.book.account_rows()[placed[here]].reshape(-1).view(ACCOUNT)
    placed[here] = np.arange(len(here))
    return _Read(placed, rows, account_rows_at(machine, rows["position"]), replica.read_point())


def _answers(read: _Read, first_item: int, group: int) -> "list[AccountAnswer]":
    answers = []
    for number, at in enumerate(read.found.tolist()):
        if at >= 0:
            state = _state(read.rows[at], read.creations[at])
            answers.append(AccountAnswer(state=state, read_at=read.read_at))
        else:
            fault = at_item(not_here(group, "ids") if at < -1 else _NOT_FOUND, first_item + number)
            answers.append(AccountAnswer(fault=status_of(fault), read_at=read.read_at))
    return answers


def _state(row: npt.NDArray[np.void], creation: Words) -> AccountState:
    reference = RECORD.unpack(creation.tobytes())[_REFERENCE]
    flags = int(row["flags"])
    return AccountState(
        account=Account(
            id=row["id"].tobytes(),
            ledger=int(row["ledger"]),
            code=int(row["code"]),
            flags=[cast("AccountFlagMessage", int(flag)) for flag in AccountFlag if flag & flags],
            overdraft_limit=uint128(_amount(row, "overdraft")),
            reference=b"" if reference == NO_ID else reference,
        ),
        version=int(row["version"]),
        created_at=int(row["created_at"]),
        balances=balances_of(row),
    )


def _amount(row: npt.NDArray[np.void], name: str) -> int:
    return int(row[name + "_low"]) | int(row[name + "_high"]) << 64


_NOT_FOUND: Final = Fault(NOT_FOUND, Reason.ACCOUNT_NOT_FOUND, "there is no account of that id", field="ids")


def not_here(group: int, field: str) -> Fault:
    """Return the fault of an account that another group owns."""
    message = f"this account is not placed in group {group}; ask a router"
    return Fault(FAILED_PRECONDITION, Reason.PLACED_ELSEWHERE, message, field=field)
