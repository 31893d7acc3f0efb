"""One open StreamTransfers call that takes a server's posts: each is a message either way, not a call.

A unary call passes through several of gRPC's threads on both sides, which is most of what a lone post takes. Nothing
depends on the stream: until the server has said that it takes batches with a time of their own, and once anything is
wrong with it, posts go by unary calls. What it leaves unanswered has an outcome that is unknown, as behind any broken
call, and is asked again with the same ids.
"""

import asyncio
import contextlib
from typing import Final, TypeAlias

import grpc
import grpc.aio

from postingengine.faults import Told, told_by
from postingengine.v1.posting_service_pb2 import PostTransfersResponse, StreamTransfersResponse
from postingengine.wire import numbered_request

REQUEST_BYTES_MAX: Final = 128 << 10
"""A larger request goes by a call of its own: on a stream, those behind it would wait until it has arrived."""
OPEN_S_MAX: Final = 5.0
"""A server that has not said by then what it takes is an older one."""
SILENT_S_MAX: Final = 1.0
"""A stream that has answered nothing for so long when a batch's time is over is left."""
CLOSE_S_MAX: Final = 0.5
ACCEPTS_KEY: Final = "postingengine-stream"
ACCEPTS: Final = "timeout_ms"
"""The server's initial metadata (posting_service.proto)."""

_LATE: Final = Told(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came in time")

StreamCall: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


class NotAnswered(Exception):
    """A batch has no answer; `told` says why, as a failed call would."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.message)
        self.told = told


class Stream:
    """A call from its beginning to its end. Lives on one event loop."""

    def __init__(self, call: StreamCall) -> None:
        """Open it in the background."""
        self._loop = asyncio.get_running_loop()
        self._call = call
        self.is_ready = self.has_answered = False
        """Whether posts may go by it; whether any was answered."""
        self.ended_s: float | None = None
        """When it ended, on the loop's clock."""
        self._waiting: dict[int, asyncio.Future[PostTransfersResponse]] = {}
        """By number: the batches without an answer yet."""
        self._until_s: dict[int, float] = {}
        """By number, on the loop's clock: when their time is over."""
        self._timer: asyncio.TimerHandle | None = None
        """Set for the first of these times, or sooner: a timer for each batch would cost several times as much."""
        self._unsent: set[int] = set()
        self._writing = asyncio.Lock()
        self._number = 0
        self._silent_since_s: float | None = None
        """When the first batch was given to it after the last answer."""
        self._running = self._loop.create_task(self._run())

    async def post(self, request: bytes, timeout_s: float) -> PostTransfersResponse:
        """Send a serialised PostTransfersRequest and return its answer; raises `NotAnswered`."""
        self._number = number = self._number + 1
        answered = self._waiting[number] = self._loop.create_future()
        self._unsent.add(number)
        now_s = self._loop.time()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        self._until_s[number] = until_s = now_s + timeout_s
        if self._timer is None or until_s < self._timer.when():
            self._look_at(until_s)
        try:
            await self._send(number, numbered_request(number, request, max(int(timeout_s * 1000), 1)))
            response: PostTransfersResponse = await answered
            return response
        finally:
            del self._waiting[number], self._until_s[number]
            self._unsent.discard(number)

    async def close(self) -> None:
        """Say that no more comes, and give the server a moment to end it. Idempotent."""
        if self.is_ready:
            self.is_ready = False
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                async with asyncio.timeout(CLOSE_S_MAX):
                    async with self._writing:
                        await self._call.done_writing()
                    await asyncio.wait({self._running})
        self._end("the client closed it")
        self._running.cancel()
        await asyncio.wait({self._running}, timeout=CLOSE_S_MAX)

    async def _send(self, number: int, message: bytes) -> None:
        """Write a message; if that fails, the stream ends, and the answer's future says so."""
        try:
            async with self._writing:  # gRPC takes one write at a time
                await self._call.write(message)
            self._unsent.discard(number)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._end("it was given up")  # gRPC says so of a call that was cancelled here
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._end(f"it took no message: {error}")

    async def _run(self) -> None:
        """Wait until the server takes batches, then hand on its answers, to the end."""
        why = "the server ended it"
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                told = await self._call.initial_metadata()
            if self.ended_s is None and dict(told or ()).get(ACCEPTS_KEY) == ACCEPTS:
                self.is_ready = True
                await self._hand_on()
        except grpc.aio.AioRpcError as error:
            why = f"{error.code().name}: {error.details()}"
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            self._end(why)

    async def _hand_on(self) -> None:
        while isinstance(answer := await self._call.read(), bytes):  # else gRPC's mark of the end
            self._take(StreamTransfersResponse.FromString(answer))

    def _take(self, answer: StreamTransfersResponse) -> None:
        """Hand an answer to who waits for it; nobody does if it is late."""
        self.has_answered, self._silent_since_s = True, None
        answered = self._waiting.get(answer.batch_number)
        if answered is None or answered.done():
            return
        if answer.WhichOneof("answer") == "results":
            answered.set_result(answer.results)
        else:
            answered.set_exception(NotAnswered(told_by(answer.fault)))

    def _look_at(self, when_s: float) -> None:
        """Look for batches whose time is over then, not later."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer, now_s = None, self._loop.time()
        for number in [number for number, until_s in self._until_s.items() if until_s <= now_s]:
            self._give_up(number)
        later = [until_s for until_s in self._until_s.values() if until_s > now_s]
        if later:
            self._look_at(min(later))

    def _give_up(self, number: int) -> None:
        """A batch's time is over."""
        answered, since_s = self._waiting[number], self._silent_since_s
        if not answered.done():
            answered.set_exception(NotAnswered(_LATE))
        is_silent = since_s is not None and self._loop.time() - since_s >= SILENT_S_MAX
        if is_silent or number in self._unsent:
            self._end("it did not answer")

    def _end(self, why: str) -> None:
        """Whoever waits has no answer; idempotent."""
        if self.ended_s is not None:
            return
        self.is_ready, self.ended_s = False, self._loop.time()
        self._call.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        told = Told(grpc.StatusCode.UNAVAILABLE, f"the stream of posts ended before the answer: {why}")
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(NotAnswered(told))
