"""ListOpen: what is open in one group, a page at a time: chains over groups, then reservations, oldest first."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Side
from engine.core.records import RECORD_WORDS, Words, as_records, as_words
from engine.rpc.faults import CallFailed, Reason, invalid
from engine.rpc.page_tokens import PAGE_SIZE_MAX, make_token, page_size_of, read_token
from engine.rpc.typed import uint128
from engine.service.replica import Replica
from engine.storage.open_chains import OpenChain
from postingengine.v1.admin_service_pb2 import ListOpenRequest, ListOpenResponse, OpenLeg, OpenReservation
from postingengine.v1.admin_service_pb2 import OpenChain as OpenChainMessage
from postingengine.v1.transfer_pb2 import TransferKind
from postingengine.v1.types_pb2 import Consistency, ReadPoint

CHAINS: Final = 0
RESERVATIONS: Final = 1
_TIMESTAMP: Final = 11
_POSITION: Final = 12
_NO_ROWS: Final[Words] = np.empty((0, RECORD_WORDS), np.uint64)
LINEARIZABLE: Final = Consistency(linearizable=Consistency.Linearizable())


WaitsFor = Callable[[bytes], frozenset[int]]
"""By chain id: the groups that did not answer the courier when it drove the chain last."""


class _Page(NamedTuple):
    """A part of the list."""

    chains: list[OpenChain]
    reservations: Words
    next: tuple[int, int] | None
    """Where the next page goes on: which of the lists, behind which position; None at the end."""
    read_at: ReadPoint


async def list_open(
    replica: Replica, waits_for: WaitsFor, request: ListOpenRequest, deadline_s: float
) -> ListOpenResponse:
    """Read a page; raises `CallFailed` on a token of other arguments."""
    group, arguments = replica.place.group, tuple(sorted(request.groups))
    size = page_size_of(request.page_size)
    begin = _place(read_token(request.page_token, arguments)) if request.page_token else (CHAINS, -1)
    if request.groups and group not in request.groups:
        return ListOpenResponse()
    page = await replica.read(LINEARIZABLE, deadline_s, lambda: _page(replica, *begin, size))
    now_ns = time.time_ns()
    return ListOpenResponse(
        reservations=[_reservation(row, group, now_ns) for row in page.reservations],
        chains=[_chain(opened, group, waits_for, now_ns) for opened in page.chains],
        next_page_token="" if page.next is None else make_token(arguments, page.next),
        read_at=[page.read_at],
    )


def _page(replica: Replica, which: int, after: int, size: int) -> _Page:
    """Copy the `size` oldest entries behind a place. On the apply thread."""
    chains: list[OpenChain] = []
    if which == CHAINS:
        chains = _within_legs(replica.machine.open_chains(after, size + 1), size)
        if chains and replica.machine.open_chains(chains[-1].word.position, 1):
            return _Page(chains, _NO_ROWS, (CHAINS, chains[-1].word.position), replica.read_point())
        after = -1
    table = replica.machine.book.open_reservations()
    rows = np.flatnonzero(table[:, _POSITION].astype(np.int64) > after)
    rows = rows[np.argsort(table[rows, _POSITION], kind="stable")]
    left = size - len(chains)
    chosen = table[rows[:left]]
    going_on = (RESERVATIONS, int(chosen[-1, _POSITION]) if left else -1) if len(rows) > left else None
    return _Page(chains, chosen, going_on, replica.read_point())


def _within_legs(chains: list[OpenChain], size: int) -> list[OpenChain]:
    """Cut a page before it has more legs than it may have entries; one chain alone may."""
    legs = np.cumsum([opened.word.chain.legs for opened in chains])
    return chains[: max(1, int(np.searchsorted(legs, PAGE_SIZE_MAX, "right")))][:size]


def _chain(opened: OpenChain, group: int, waits_for: WaitsFor, now_ns: int) -> OpenChainMessage:
    word, chain = opened.word, opened.word.chain
    return OpenChainMessage(
        id=chain.chain_id,
        group=group,
        decider=chain.decider,
        groups=chain.groups,
        waits_for=sorted(waits_for(chain.chain_id)) or [chain.decider],
        timestamp=word.timestamp_ns,
        deadline=opened.deadline_ns,
        age_ns=max(0, now_ns - word.timestamp_ns),
        position=word.position,
        legs=[
            _leg(row, side, amount)
            for row, side, amount in zip(as_records(as_words(chain.rows)), chain.plan.sides, word.amounts, strict=True)
        ],
    )


def _leg(row: npt.NDArray[np.void], side: Side, amount: int) -> OpenLeg:
    return OpenLeg(
        id=row["id"].tobytes(),
        kind=TransferKind.Name(int(row["kind"])),
        debit_account=row["debit"].tobytes(),
        credit_account=row["credit"].tobytes(),
        ledger=int(row["ledger"]),
        amount=uint128(amount),
        debit_group=side.debit,
        credit_group=side.credit,
    )


def _reservation(row: Words, group: int, now_ns: int) -> OpenReservation:
    identities = row[0:6].tobytes()
    decider = int(row[14]) >> 32 & 0xFFFF
    return OpenReservation(
        id=identities[0:16],
        debit_account=identities[16:32],
        credit_account=identities[32:48],
        ledger=int(row[14]) & 0xFFFFFFFF,
        amount=uint128(int(row[8]) | int(row[9]) << 64),
        remaining=uint128(int(row[6]) | int(row[7]) << 64),
        timestamp=int(row[_TIMESTAMP]),
        deadline=int(row[10]),
        age_ns=max(0, now_ns - int(row[_TIMESTAMP])),
        group=group,
        position=int(row[_POSITION]),
        decider=decider - 1 if decider else group,
    )


def _place(state: list[object]) -> tuple[int, int]:
    if len(state) == 2:
        which, position = state
        if isinstance(which, int) and isinstance(position, int):
            return which, position
    raise CallFailed(invalid(Reason.PAGE_TOKEN_INVALID, "page_token is not of this list", field="page_token"))
