"""ListOpen: the open reservations of one group, oldest first, a bounded page at a time."""

import time
from typing import Final

import numpy as np

from engine.core.records import Words
from engine.rpc.faults import CallFailed, Reason, invalid
from engine.rpc.page_tokens import make_token, page_size_of, read_token
from engine.rpc.typed import uint128
from engine.service.replica import Replica
from postingengine.v1.admin_service_pb2 import ListOpenRequest, ListOpenResponse, OpenReservation
from postingengine.v1.types_pb2 import Consistency, ReadPoint

_TIMESTAMP: Final = 11
_POSITION: Final = 12
_IS_OPEN: Final = 15
LINEARIZABLE: Final = Consistency(linearizable=Consistency.Linearizable())


async def list_open(replica: Replica, request: ListOpenRequest, deadline_s: float) -> ListOpenResponse:
    """Read a page; raises `CallFailed` on a token of other arguments."""
    group, arguments = replica.place.group, tuple(sorted(request.groups))
    size = page_size_of(request.page_size)
    after = _position(read_token(request.page_token, arguments)) if request.page_token else -1
    if request.groups and group not in request.groups:
        return ListOpenResponse()
    rows, is_last, read_at = await replica.read(LINEARIZABLE, deadline_s, lambda: _page(replica, after, size))
    now_ns = time.time_ns()
    return ListOpenResponse(
        reservations=[_reservation(row, group, now_ns) for row in rows],
        next_page_token="" if is_last else make_token(arguments, (int(rows[-1, _POSITION]),)),
        read_at=[read_at],
    )


def _page(replica: Replica, after: int, size: int) -> tuple[Words, bool, ReadPoint]:
    """Copy the `size` oldest reservations behind a position. On the apply thread."""
    table = replica.machine.book.tables.reservations
    rows = np.flatnonzero((table[:, _IS_OPEN] != 0) & (table[:, _POSITION].astype(np.int64) > after))
    is_last = len(rows) <= size
    if not is_last:
        rows = rows[np.argpartition(table[rows, _POSITION], size)[:size]]
    return table[rows[np.argsort(table[rows, _POSITION])]], is_last, replica.read_point()


def _reservation(row: Words, group: int, now_ns: int) -> OpenReservation:
    identities = row[0:6].tobytes()
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
    )


def _position(state: list[object]) -> int:
    if len(state) != 1 or not isinstance(state[0], int):
        raise CallFailed(invalid(Reason.PAGE_TOKEN_INVALID, "page_token is not of this list", field="page_token"))
    return state[0]
