"""Sending batches and single transfers until their outcome is known: the same ids again after every fault."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from bench.bulk import CALL_S_MAX, MESSAGE_BYTES_MAX
from engine.core.known import RESULT
from engine.core.records import Words
from postingengine.v1.posting_service_pb2 import PostTransfersResponse
from postingengine.wire import POST_TRANSFERS, packed_request

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
)
AGAIN: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
)
PAUSE_S: Final = 0.02
KNOWN_S_MAX: Final = 60.0
"""Whose outcome is not known after so long makes the run void."""

Outcomes = npt.NDArray[np.uint16]


class Sender:
    """A channel to a router. Counts what had to be sent again."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._post: Any = self._channel.unary_unary(POST_TRANSFERS)
        self.sent_again = 0

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def post(self, packed: bytes) -> Outcomes:
        """Return the outcome of each packed record; raises RuntimeError if one stays unknown for too long."""
        until_s = time.monotonic() + KNOWN_S_MAX
        attempt = 1
        while time.monotonic() < until_s:
            answer = await self._answer(packed, attempt)
            if answer is not None and not answer.faults:
                return np.frombuffer(answer.packed_results, RESULT)["outcome"]
            attempt += 1
            self.sent_again += 1
            await asyncio.sleep(PAUSE_S)
        raise RuntimeError(f"a batch has no outcome after {KNOWN_S_MAX:g} s and {attempt - 1} attempts: {answer}")

    async def _answer(self, packed: bytes, attempt: int) -> PostTransfersResponse | None:
        try:
            data: bytes = await self._post(packed_request(packed, attempt), timeout=CALL_S_MAX)
        except grpc.aio.AioRpcError as error:
            if error.code() in AGAIN:
                return None
            raise
        return PostTransfersResponse.FromString(data)


class Slice(NamedTuple):
    """What one run of batches did."""

    rows: int
    seconds: float
    outcomes: list[Outcomes]
    """Of each batch, in order."""

    @property
    def per_s(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


async def post_all(sender: Sender, batches: Sequence[Words], *, in_flight: int, rate: float = 0.0) -> Slice:
    """Send batches, `in_flight` calls at a time: as fast as they go, or `rate` rows a second where that is above 0."""
    packed = [batch.tobytes() for batch in batches]
    outcomes: list[Outcomes] = [np.empty(0, np.uint16)] * len(batches)
    due_s = _due(batches, rate)
    waiting = iter(range(len(batches)))
    started = time.perf_counter()

    async def caller() -> None:
        for number in waiting:
            await asyncio.sleep(max(0.0, due_s[number] - (time.perf_counter() - started)))
            outcomes[number] = await sender.post(packed[number])

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Slice(sum(map(len, batches)), time.perf_counter() - started, outcomes)


def _due(batches: Sequence[Words], rate: float) -> list[float]:
    """Return when each batch is to be sent, seconds from the start."""
    if rate <= 0:
        return [0.0] * len(batches)
    return [float(rows / rate) for rows in np.cumsum([0, *map(len, batches[:-1])])]
