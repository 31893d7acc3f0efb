"""GetTransfers: stored transfers with their outcomes, from the journal."""

from typing import Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from engine.core.known import Ended
from engine.core.outcomes import took_effect
from engine.core.records import CALLER_TRANSFER_KINDS, Flag, Kind, Words
from engine.core.records import RECORD as ROW
from engine.rpc.faults import NOT_FOUND, Fault, Reason, at_item, status_of
from engine.rpc.typed import transfer_of, uint128, words_of_ids
from engine.service.accounts import IDS_PER_JOB_MAX, require_ids
from engine.service.replica import Replica
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import GetTransfersRequest, GetTransfersResponse, TransferAnswer
from postingengine.v1.transfer_pb2 import ChainState, ReservationState, StoredTransfer
from postingengine.v1.types_pb2 import ReadPoint


class _Read(NamedTuple):
    """Some transfers at one moment."""

    found: npt.NDArray[np.int64]
    """Per id: which of the rows; -1 unknown."""
    positions: npt.NDArray[np.uint64]
    rows: Words
    requested: Words
    chain_last: npt.NDArray[np.bool_]
    ended: npt.NDArray[np.uint8]
    reversed: Words
    read_at: ReadPoint


async def get_transfers(replica: Replica, request: GetTransfersRequest, deadline_s: float) -> GetTransfersResponse:
    """Read transfers; raises `CallFailed` if the request is not valid, or no read that fresh is possible here."""
    require_ids(request.ids)
    response = GetTransfersResponse()
    for first in range(0, len(request.ids), IDS_PER_JOB_MAX):
        ids = words_of_ids(request.ids[first : first + IDS_PER_JOB_MAX])
        read = await replica.read(request.consistency, deadline_s, lambda ids=ids: _read(replica, ids))  # type: ignore[misc]
        response.transfers.extend(_answers(read, first, replica.place.group))
        if not first:
            response.read_at.append(read.read_at)
    return response


def _read(replica: Replica, ids: Words) -> _Read:
    """Copy what is asked for. On the apply thread."""
    loader = replica.machine.loader
    at = loader.positions_of(ids)
    positions, index = np.unique(at[at >= 0].astype(np.uint64), return_inverse=True)
    stored = loader.stored_at(positions)
    became = loader.became(stored.rows)
    found = np.full(len(ids), -1, np.int64)
    found[at >= 0] = index
    return _Read(
        found,
        positions,
        stored.rows,
        stored.requested,
        stored.chain_last,
        became.ended,
        became.reversed,
        replica.read_point(),
    )


def _answers(read: _Read, first_item: int, group: int) -> list[TransferAnswer]:
    return [
        TransferAnswer(stored=_stored(read, at, group))
        if at >= 0 and _is_transfer(read.rows[at])
        else TransferAnswer(fault=status_of(at_item(_NOT_FOUND, first_item + number)))
        for number, at in enumerate(read.found.tolist())
    ]


def _is_transfer(row: Words) -> bool:
    """Account commands have ids too; they are no transfers."""
    return int(row.view(ROW)["kind"][0]) in CALLER_TRANSFER_KINDS


def _stored(read: _Read, at: int, group: int) -> StoredTransfer:
    row = read.rows[at].view(ROW)[0]
    outcome = int(row["outcome"])
    moved = int(row["amount_low"]) | int(row["amount_high"]) << 64
    return StoredTransfer(
        transfer=transfer_of(read.rows[at], _joined(read.requested[at])),
        moved=uint128(moved if took_effect(outcome) else 0),
        outcome=cast("Outcome", outcome),
        timestamp=int(row["timestamp"]),
        group=group,
        position=int(read.positions[at]),
        leg=int(row["leg"]),
        chain_state=_chain_state(row, bool(read.chain_last[at])),
        reservation_state=_reservation_state(row, int(read.ended[at])),
        reversed=uint128(_joined(read.reversed[at])),
    )


def _chain_state(row: npt.NDArray[np.void], is_last: bool) -> ChainState:
    """Of a chain all legs took effect, or none did."""
    if is_last and not row["leg"] and not int(row["flags"]) & Flag.LINKED:
        return ChainState.CHAIN_STATE_UNSPECIFIED
    if took_effect(int(row["outcome"])):
        return ChainState.CHAIN_STATE_POSTED
    return ChainState.CHAIN_STATE_REFUSED


_RESERVATION_STATES: Final = {
    Ended.OPEN: ReservationState.RESERVATION_STATE_OPEN,
    Ended.COMMITTED: ReservationState.RESERVATION_STATE_COMMITTED,
    Ended.RELEASED: ReservationState.RESERVATION_STATE_RELEASED,
    Ended.EXPIRED: ReservationState.RESERVATION_STATE_EXPIRED,
}


def _reservation_state(row: npt.NDArray[np.void], ended: int) -> ReservationState:
    if int(row["kind"]) != Kind.RESERVE or not took_effect(int(row["outcome"])):
        return ReservationState.RESERVATION_STATE_UNSPECIFIED
    return _RESERVATION_STATES[ended]


def _joined(words: Words) -> int:
    return int(words[0]) | int(words[1]) << 64


_NOT_FOUND: Final = Fault(NOT_FOUND, Reason.TRANSFER_NOT_FOUND, "no transfer of that id is stored here", field="ids")
