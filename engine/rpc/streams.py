"""StreamTransfers, as nodes and routers serve it: batches in a pipeline over one call, answered as they are ready.

A batch counts as a call would: against the bound of calls, with the caller's own time, and with a status of its own.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from engine.rpc.batch import encode_varint, read_fields
from engine.rpc.faults import (
    CallFailed,
    Fault,
    Logged,
    Reason,
    deadline_passed,
    fate_unknown,
    invalid,
    overloaded,
    status_of,
    unavailable,
)
from engine.rpc.server import Calls, Context
from postingengine.v1.posting_service_pb2 import StreamTransfersRequest, StreamTransfersResponse

LOG: Final = logging.getLogger(__name__)

STREAMS_MAX: Final = 4096
"""Open at a time at one server: each client process holds one. Who gets none calls PostTransfers."""
ACCEPTS: Final = (("postingengine-stream", "timeout_ms"),)
"""Initial metadata: what callers may count on (posting_service.proto)."""
TIMEOUT_MS_MAX: Final = 3_600_000
LATE_S_MAX: Final = 0.1
"""A batch that is not answered so long after its time is given up, as gRPC gives up a call."""

_NUMBER_TAG: Final = 0x08
_BATCH_TAG: Final = 0x12
_TIMEOUT_MS_TAG: Final = 0x18
_TAGS: Final = frozenset({_NUMBER_TAG, _BATCH_TAG, _TIMEOUT_MS_TAG})
_RESULTS_TAG: Final = b"\x12"


class NumberedBatch(msgspec.Struct, frozen=True):
    """One message of the stream."""

    number: int
    batch: bytes
    """A serialised `PostTransfersRequest`."""
    timeout_ms: int
    """How long its caller waits, at most `TIMEOUT_MS_MAX`; 0: the server's default."""


PostBatch = Callable[[NumberedBatch], Awaitable[bytes]]
"""Returns a serialised `PostTransfersResponse`; raises `CallFailed`."""


class Streams:
    """The open streams of one server. Lives on one event loop."""

    def __init__(self, calls: Calls, in_flight_max: int) -> None:
        """Count each batch in `calls`; read on while fewer than `in_flight_max` of a stream wait for their answers."""
        self._calls, self._in_flight_max = calls, in_flight_max
        self._open: set[_Stream] = set()
        self._is_ending = False

    async def serve(self, context: Context, post: PostBatch) -> None:
        """Serve one stream to its end; raises `CallFailed`.

        A batch that fails as a whole is answered with its status, and the stream goes on.
        """
        if self._is_ending:
            raise CallFailed(_STOPPING)
        if len(self._open) >= STREAMS_MAX:
            raise CallFailed(overloaded(f"{STREAMS_MAX} streams are open, as many as may; call PostTransfers"))
        stream = _Stream(context, post, self._calls, self._in_flight_max)
        self._open.add(stream)
        try:
            await context.send_initial_metadata(ACCEPTS)
            await stream.serve()
        finally:
            self._open.discard(stream)

    def end(self) -> None:
        """Take no new batches, and end each stream once those that it brought are answered: idle ones at once."""
        self._is_ending = True
        for stream in self._open:
            stream.end()


class _Stream:
    """One stream: whichever task has read a batch answers it, and leaves reading to a new one."""

    def __init__(self, context: Context, post: PostBatch, calls: Calls, in_flight_max: int) -> None:
        self._context, self._post, self._calls, self._in_flight_max = context, post, calls, in_flight_max
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None]
        """The task that was made last: it reads a batch while `_is_reading`, then answers it."""
        self._late: set[asyncio.Task[None]] = set()
        """The tasks that were cancelled because their batch's time is over."""
        self._in_flight = 0
        self._is_reading = self._is_read = self._is_ending = self._is_over = self._is_writing = False
        self._unwritten: deque[bytes] = deque()
        self._failure: CallFailed | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def serve(self) -> None:
        """Return once the caller has sent its last batch, or `end` was called, and all are answered."""
        self._read_on()
        self._look_for_end()
        try:
            await self._over
        finally:
            self._is_over = True
            for task in self._tasks:
                task.cancel()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Answer what was read, then end."""
        self._is_ending = True
        self._look_for_end()

    def _read_on(self) -> None:
        if self._is_reading or self._is_read or self._is_over or self._in_flight >= self._in_flight_max:
            return
        self._is_reading = True
        self._reader = self._loop.create_task(self._take())
        self._tasks.add(self._reader)

    async def _take(self) -> None:
        """Read a batch and answer it."""
        task = self._reader
        try:
            data = await self._context.read()
            self._is_reading = False
            numbered = self._read(data) if isinstance(data, bytes) else None  # else gRPC's mark of the end
            if numbered is None:
                self._is_read = True
                self._look_for_end()
                return
            self._in_flight += 1
            self._read_on()
            await self._write(await self._answer(numbered, task))
        except Exception as error:
            LOG.debug("a stream's caller is gone", exc_info=error)  # gRPC could not read from it, or write to it
            self._is_read = self._is_ending = True
            self._in_flight = 0
            self._look_for_end()
        finally:
            self._tasks.discard(task)

    async def _write(self, answer: bytes) -> None:
        """Send an answer, and those that come meanwhile: gRPC takes one write at a time."""
        self._unwritten.append(answer)
        if self._is_writing:
            return
        self._is_writing = True
        try:
            while self._unwritten:
                await self._context.write(self._unwritten.popleft())
                self._in_flight -= 1
                self._read_on()
        finally:
            self._is_writing = False
        self._look_for_end()

    def _read(self, data: bytes) -> NumberedBatch | None:
        """Return a message read; None for one without a number to answer by, which ends the stream."""
        try:
            return read_numbered_batch(data)
        except CallFailed as failed:
            self._failure = failed
            return None

    async def _answer(self, numbered: NumberedBatch, task: "asyncio.Task[None]") -> bytes:
        expiry: asyncio.TimerHandle | None = None
        if numbered.timeout_ms:  # `asyncio.timeout` would cost several times as much
            expiry = self._loop.call_later(numbered.timeout_ms / 1000 + LATE_S_MAX, self._give_up, task)
        try:
            if self._is_ending:
                raise CallFailed(_STOPPING)
            self._calls.enter()
            try:
                return _with_results(numbered.number, await self._post(numbered))
            finally:
                self._calls.leave()
        except CallFailed as failed:
            return _with_fault(numbered.number, failed.fault)
        except asyncio.CancelledError:
            if task not in self._late or task.uncancel():
                raise
            self._late.remove(task)
            return _with_fault(numbered.number, deadline_passed(_TOO_LATE, logged=Logged.UNKNOWN))
        except TimeoutError:
            return _with_fault(numbered.number, deadline_passed(_TOO_LATE, logged=Logged.UNKNOWN))
        except Exception:
            LOG.exception("a batch of a stream failed")
            return _with_fault(numbered.number, fate_unknown("the server met a bug; ask again with the same ids"))
        finally:
            if expiry is not None:
                expiry.cancel()

    def _give_up(self, task: "asyncio.Task[None]") -> None:
        """A batch's time is over."""
        self._late.add(task)
        task.cancel()

    def _look_for_end(self) -> None:
        if (self._is_read or self._is_ending) and not self._in_flight and not self._is_over:
            self._is_over = True
            self._over.set_result(None)


def read_numbered_batch(data: bytes) -> NumberedBatch:
    """Read one message without parsing the batch; raises `CallFailed` (INVALID_ARGUMENT)."""
    fields = read_fields(data, _TAGS)
    if fields is not None:
        numbers, pieces = fields
        number, timeout_ms = numbers.get(_NUMBER_TAG, 0), numbers.get(_TIMEOUT_MS_TAG, 0) & (1 << 32) - 1
        batch = bytes(pieces.get(_BATCH_TAG, b""))
        return NumberedBatch(number & (1 << 64) - 1, batch, min(timeout_ms, TIMEOUT_MS_MAX))
    try:
        request = StreamTransfersRequest.FromString(data)
    except DecodeError as error:
        message = "a message of the stream is not a StreamTransfersRequest"
        raise CallFailed(invalid(Reason.BATCH_UNREADABLE, message)) from error
    timeout_ms = min(request.timeout_ms, TIMEOUT_MS_MAX)
    return NumberedBatch(request.batch_number, request.batch.SerializeToString(), timeout_ms)


def _with_results(number: int, response: bytes) -> bytes:
    head = b"\x08" + encode_varint(number) if number else b""
    return head + _RESULTS_TAG + encode_varint(len(response)) + response


def _with_fault(number: int, fault: Fault) -> bytes:
    return StreamTransfersResponse(batch_number=number, fault=status_of(fault)).SerializeToString()


_TOO_LATE: Final = "no answer came within the batch's time; ask again with the same ids"
_STOPPING: Final = unavailable(Reason.STOPPING, "the server is stopping; ask another, or this one a little later")
