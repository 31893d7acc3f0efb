"""Building answers: `RESULT` rows and faults to the messages of the contract."""

from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.known import NO_POSITION, RESULT
from engine.core.outcomes import ResultFlag
from engine.rpc.batch import encode_varint
from engine.rpc.faults import Fault, status_of
from postingengine.v1.account_pb2 import AccountResult
from postingengine.v1.fault_pb2 import ItemFault
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import PostTransfersResponse
from postingengine.v1.transfer_pb2 import TransferResult
from postingengine.v1.types_pb2 import GroupLogIndex

Results = npt.NDArray[np.void]
"""Dtype `RESULT`, shape (n,)."""

_PACKED_RESULTS_TAG: Final = b"\x12"
_LOG_INDEXES_TAG: Final = b"\x22"


class Answered(msgspec.Struct, frozen=True):
    """What became of a batch: each item has an outcome in `results`, or is in `faults` and has outcome 0 there."""

    results: Results
    faults: list[Fault]
    """Each with its item, by ascending item."""
    log_indexes: Sequence[tuple[int, int]]
    """(group, log index) at which these outcomes are applied."""


def no_results(items: int) -> Results:
    """Return what `items` faults would leave: outcome 0, no position."""
    results = np.zeros(items, RESULT)
    results["position"] = NO_POSITION
    return results


def post_response(answered: Answered, *, is_packed: bool) -> bytes:
    """Serialise a `PostTransfersResponse`."""
    if not is_packed:
        return PostTransfersResponse(
            results=transfer_results(answered), log_indexes=log_indexes(answered.log_indexes)
        ).SerializeToString()
    rest = b""
    for group, index in answered.log_indexes:
        if index:
            rest += _packed_log_index(group, index)
    if answered.faults:
        faults = [ItemFault(index=fault.item or 0, status=status_of(fault)) for fault in answered.faults]
        rest += PostTransfersResponse(faults=faults).SerializeToString()
    packed = answered.results.tobytes()
    # Fields may come in any order, so the bulk goes in as it is and the rest behind it.
    return b"".join((_PACKED_RESULTS_TAG, encode_varint(len(packed)), packed, rest))


def _packed_log_index(group: int, log_index: int) -> bytes:
    """Serialise one `log_indexes` field by hand: it is in every answer, and building messages costs more."""
    body = b"\x08" + encode_varint(group) + b"\x10" + encode_varint(log_index)
    return _LOG_INDEXES_TAG + encode_varint(len(body)) + body


def log_indexes(pairs: Iterable[tuple[int, int]]) -> list[GroupLogIndex]:
    """Return (group, log index) pairs for the wire; pairs without a log index are left out."""
    return [GroupLogIndex(group=group, log_index=index) for group, index in pairs if index]


def transfer_results(answered: Answered) -> list[TransferResult]:
    """Return one message per item."""
    return [
        TransferResult(fault=status_of(fault))
        if fault is not None
        else TransferResult(
            outcome=cast("Outcome", outcome),
            replayed=bool(flags & ResultFlag.REPLAYED),
            in_flight=bool(flags & ResultFlag.IN_FLIGHT),
            timestamp=timestamp,
            group=group,
            position=None if position == NO_POSITION else position,
        )
        for fault, position, timestamp, outcome, flags, group in _items(answered)
    ]


def account_results(answered: Answered) -> list[AccountResult]:
    """Return one message per account or update."""
    return [
        AccountResult(fault=status_of(fault))
        if fault is not None
        else AccountResult(
            outcome=cast("Outcome", outcome),
            replayed=bool(flags & ResultFlag.REPLAYED),
            timestamp=timestamp,
            group=group,
            position=None if position == NO_POSITION else position,
        )
        for fault, position, timestamp, outcome, flags, group in _items(answered)
    ]


def _items(answered: Answered) -> Iterable[tuple[Fault | None, int, int, int, int, int]]:
    """Yield (fault, position, timestamp, outcome, flags, group) of each item."""
    faults = {fault.item: fault for fault in answered.faults}
    for item, (position, timestamp, outcome, flags, group) in enumerate(answered.results.tolist()):
        yield faults.get(item), position, timestamp, outcome, flags, group
