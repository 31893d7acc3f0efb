"""Rows that lie in one group whole: sent there as a packed batch, until no item's fate is open."""

import asyncio
import time
from typing import Final, NamedTuple

import numpy as np

from engine.core.known import RESULT
from engine.core.records import Words
from engine.rpc import faults
from engine.rpc.batch import encode_varint
from engine.rpc.faults import Fault, Reason
from engine.rpc.group_client import ELSEWHERE, GroupClient
from engine.rpc.link_frames import POST_TRANSFERS, Metadata
from engine.rpc.steps import EPOCH_KEY, SPLIT_EPOCH_KEY
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, PostTransfersResponse
from router.chains.network import LocalAnswers

AGAIN: Final = ELSEWHERE | {Reason.FATE_UNKNOWN}
RETRY_PAUSE_S: Final = 0.02
RETRY_RESERVE_S: Final = 0.05
"""An answer with faults is better than none: no further try in the last moments before the deadline."""
_PACKED_TAG: Final = b"\x12"
_ATTEMPT_TAG: Final = b"\x18"


class Epochs(NamedTuple):
    """What rows were placed by."""

    placement: int
    splits: int
    """The newest epoch of the map of split accounts, if that placed some of them; else 0."""


async def post_local(
    client: GroupClient, words: Words, attempt: int, epochs: Epochs, deadline_s: float, caller: Metadata
) -> LocalAnswers:
    """Post rows, shape (n, 16), placed by these epochs; raises `CallFailed`."""
    rows = words.tobytes()
    request = b"".join((_PACKED_TAG, encode_varint(len(rows)), rows, _ATTEMPT_TAG, encode_varint(max(attempt, 1))))
    metadata: Metadata = (*caller, (EPOCH_KEY, str(epochs.placement)))
    if epochs.splits:
        metadata = (*metadata, (SPLIT_EPOCH_KEY, str(epochs.splits)))
    answer = await post_until_closed(client, request, deadline_s, metadata)
    response = PostTransfersResponse.FromString(answer)
    found = [_fault_of(one.index, faults.fault_of(one.status)) for one in response.faults]
    log_index = max((one.log_index for one in response.log_indexes), default=0)
    return LocalAnswers(np.frombuffer(response.packed_results, RESULT), found, log_index)


async def post_until_closed(client: GroupClient, request: bytes, deadline_s: float, metadata: Metadata) -> bytes:
    """Send until no item's fate is open, or the deadline is near; what was posted meanwhile comes back REPLAYED.

    deadline_s: on the monotonic clock. Raises `CallFailed`.
    """
    while True:
        answer = await client.call(POST_TRANSFERS, request, deadline_s, metadata)
        if not _has_open_items(PostTransfersResponse.FromString(answer)):
            return answer
        if time.monotonic() + RETRY_PAUSE_S + RETRY_RESERVE_S >= deadline_s:
            return answer
        await asyncio.sleep(RETRY_PAUSE_S)
        request = _next_attempt(request)


def _has_open_items(answer: PostTransfersResponse) -> bool:
    if not answer.faults and not answer.results:
        return False
    statuses = [one.status for one in answer.faults]
    statuses += [one.fault for one in answer.results if one.WhichOneof("answer") == "fault"]
    found = [faults.fault_of(status) for status in statuses]
    return any(one is not None and one.reason in AGAIN for one in found)


def _next_attempt(request: bytes) -> bytes:
    again = PostTransfersRequest.FromString(request)
    again.attempt = max(again.attempt, 1) + 1
    return again.SerializeToString()


def _fault_of(item: int, fault: Fault | None) -> Fault:
    """A status that is not ours says nothing of the item's fate."""
    return faults.at_item(fault or faults.fate_unknown("a group gave no outcome; ask again with the same ids"), item)
