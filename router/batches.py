"""Batches cut by group and their answers put together again in the order of the request. No state, no sockets."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.known import RESULT
from engine.core.records import RECORD_BYTES, as_words
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault
from postingengine.v1 import fault_pb2, posting_service_pb2, transfer_pb2
from router.placement import Placement

PACKED_LINKED: Final = 1


class Part(NamedTuple):
    """What one group gets of a batch."""

    group: int
    items: npt.NDArray[np.int64]
    """Shape (k,): the indices of its items in the whole batch, ascending."""
    request: posting_service_pb2.PostTransfersRequest


def cut(request: posting_service_pb2.PostTransfersRequest, placement: Placement) -> list[Part]:
    """Cut a batch by group; a batch that is not whole records goes to one group, which says what is wrong."""
    if request.packed and not request.transfers and not len(request.packed) % RECORD_BYTES:
        words = as_words(bytearray(request.packed))  # a copy: compiled code takes writable arrays only
        groups = placement.groups_of_rows(words)
        return [_packed_part(request, words, groups, group) for group in np.unique(groups).tolist()]
    if request.transfers and not request.packed:
        groups = _typed_groups(request.transfers, placement)
        return [_typed_part(request, groups, group) for group in np.unique(groups).tolist()]
    return [Part(placement.groups[0], np.arange(0), request)]


def join(
    request: posting_service_pb2.PostTransfersRequest,
    parts: Sequence[Part],
    answers: Sequence[posting_service_pb2.PostTransfersResponse | Fault],
) -> posting_service_pb2.PostTransfersResponse:
    """Put the groups' answers together; a group that failed gives its fault to each of its items."""
    if len(parts) == 1 and isinstance(answers[0], Fault):
        raise CallFailed(answers[0])
    answer = posting_service_pb2.PostTransfersResponse()
    for one in answers:
        if not isinstance(one, Fault):
            answer.log_indexes.extend(one.log_indexes)
    if request.packed:
        _join_packed(answer, len(request.packed) // RECORD_BYTES, parts, answers)
    else:
        _join_typed(answer, len(request.transfers), parts, answers)
    return answer


def _packed_part(
    request: posting_service_pb2.PostTransfersRequest,
    words: npt.NDArray[np.uint64],
    groups: npt.NDArray[np.int64],
    group: int,
) -> Part:
    items = np.flatnonzero(groups == group)
    packed = words[items].tobytes()
    return Part(group, items, posting_service_pb2.PostTransfersRequest(packed=packed, attempt=request.attempt))


def _typed_part(request: posting_service_pb2.PostTransfersRequest, groups: npt.NDArray[np.int64], group: int) -> Part:
    items = np.flatnonzero(groups == group)
    transfers = [request.transfers[item] for item in items.tolist()]
    return Part(group, items, posting_service_pb2.PostTransfersRequest(transfers=transfers, attempt=request.attempt))


def _typed_groups(transfers: Sequence[transfer_pb2.Transfer], placement: Placement) -> npt.NDArray[np.int64]:
    groups = placement.groups_of_ids([one.debit_account for one in transfers])
    for item in range(1, len(transfers)):
        if PACKED_LINKED in transfers[item - 1].flags:
            groups[item] = groups[item - 1]
    return groups


def _join_packed(
    answer: posting_service_pb2.PostTransfersResponse,
    count: int,
    parts: Sequence[Part],
    answers: Sequence[posting_service_pb2.PostTransfersResponse | Fault],
) -> None:
    results = np.zeros(count, RESULT)
    found: list[fault_pb2.ItemFault] = []
    for part, one in zip(parts, answers, strict=True):
        items = part.items.tolist()
        if isinstance(one, Fault):
            found += [_item_fault(item, one) for item in items]
            continue
        results[part.items] = np.frombuffer(one.packed_results, RESULT)
        found += [_moved(fault, items[fault.index]) for fault in one.faults]
    answer.packed_results = results.tobytes()
    answer.faults.extend(sorted(found, key=lambda fault: fault.index))


def _join_typed(
    answer: posting_service_pb2.PostTransfersResponse,
    count: int,
    parts: Sequence[Part],
    answers: Sequence[posting_service_pb2.PostTransfersResponse | Fault],
) -> None:
    results: list[transfer_pb2.TransferResult] = [transfer_pb2.TransferResult()] * count
    for part, one in zip(parts, answers, strict=True):
        for number, item in enumerate(part.items.tolist()):
            if isinstance(one, Fault):
                results[item] = transfer_pb2.TransferResult(fault=faults.status_of(faults.at_item(one, item)))
            else:
                results[item] = _placed(one.results[number], item)
    answer.results.extend(results)


def _placed(result: transfer_pb2.TransferResult, item: int) -> transfer_pb2.TransferResult:
    """Let a fault name the item's index in the caller's batch, not in the group's."""
    fault = faults.fault_of(result.fault) if result.WhichOneof("answer") == "fault" else None
    if fault is None:
        return result
    return transfer_pb2.TransferResult(fault=faults.status_of(faults.at_item(fault, item)))


def _moved(fault: fault_pb2.ItemFault, item: int) -> fault_pb2.ItemFault:
    known = faults.fault_of(fault.status)
    status = fault.status if known is None else faults.status_of(faults.at_item(known, item))
    return fault_pb2.ItemFault(index=item, status=status)


def _item_fault(item: int, fault: Fault) -> fault_pb2.ItemFault:
    return fault_pb2.ItemFault(index=item, status=faults.status_of(faults.at_item(fault, item)))
