"""StreamTransfers at a server: each batch counts as a call; a server that stops ends its streams, not their batches."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.core.outcomes import Outcome
from engine.rpc.faults import CallFailed, Reason, fault_of, fault_of_error, overloaded
from engine.rpc.server import Calls, Context, streaming
from engine.rpc.streams import ACCEPTS, NumberedBatch, Streams
from engine.service import posting
from engine.service.submission import Lane
from postingengine.v1.posting_service_pb2 import (
    PostTransfersRequest,
    PostTransfersResponse,
    StreamTransfersRequest,
    StreamTransfersResponse,
)
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub
from tests.running_cluster import running, two_groups
from tests.running_node import cluster, identity, running_node, transfer

METHOD = "/test/StreamTransfers"
WAIT_S_MAX = 10.0
GRACE_S = 60.0
"""Longer than any test: who waited for it would be late."""
ALICE, BOB = identity(0xA11CE), identity(0xB0B)


class Writes:
    """A call's context whose writes wait until they may begin, and which counts how many are under way at once."""

    def __init__(self, context: Context, may_begin: asyncio.Event) -> None:
        self._context, self._may_begin = context, may_begin
        self._under_way = self.most_under_way = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: bytes) -> None:
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        await self._may_begin.wait()
        await self._context.write(message)
        self._under_way -= 1


class Served:
    """A server of one method, and who posts there."""

    def __init__(self, streams: Streams, calls: Calls) -> None:
        self.streams, self.calls = streams, calls
        self.posted: list[NumberedBatch] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.answer_bytes = 1
        self.server = grpc.aio.server()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.writes: Any = None

    async def serve(self, context: Context) -> None:
        self.writes = Writes(context, self.may_write)
        await self.streams.serve(self.writes, self.post)

    async def post(self, numbered: NumberedBatch) -> bytes:
        self.posted.append(numbered)
        if numbered.number in self.gates:
            await self.gates[numbered.number].wait()
        if numbered.batch == b"":
            raise RuntimeError("a bug")
        if PostTransfersRequest.FromString(numbered.batch).attempt == 9:
            raise CallFailed(overloaded("full"))
        return PostTransfersResponse(packed_results=bytes([numbered.number]) * self.answer_bytes).SerializeToString()

    async def stop(self) -> None:
        """Stop as nodes and routers do."""
        self.streams.end()
        await self.server.stop(GRACE_S)


Call = Any
Opened = Callable[[], Call]


@asynccontextmanager
async def serving(*, calls_max: int = 10, in_flight_max: int = 16) -> AsyncIterator[tuple[Served, Opened]]:
    calls = Calls(calls_max)
    served = Served(Streams(calls, in_flight_max), calls)
    handlers = {"StreamTransfers": grpc.stream_stream_rpc_method_handler(streaming(served.serve))}
    served.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    address = f"127.0.0.1:{served.server.add_insecure_port('127.0.0.1:0')}"
    await served.server.start()
    try:
        async with asyncio.timeout(30), grpc.aio.insecure_channel(address) as channel:
            yield served, channel.stream_stream(METHOD)
    finally:
        await served.server.stop(0)


def batch(number: int, attempt: int = 1, **fields: Any) -> bytes:
    request = PostTransfersRequest(packed=b"x", attempt=attempt)
    return StreamTransfersRequest(batch_number=number, batch=request, **fields).SerializeToString()


async def answer_of(call: Call) -> StreamTransfersResponse:
    return StreamTransfersResponse.FromString(await call.read())


def reason_of(answer: StreamTransfersResponse) -> str:
    fault = fault_of(answer.fault)
    assert fault is not None and answer.WhichOneof("answer") == "fault"
    return fault.reason


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not met():
            await asyncio.sleep(0.002)


async def test_a_stream_says_at_once_that_it_takes_times() -> None:
    async with serving() as (_, opened):
        assert ACCEPTS[0] in tuple(await opened().initial_metadata())


async def test_a_batch_s_time_number_and_bytes_reach_who_posts_it() -> None:
    async with serving() as (served, opened):
        call = opened()
        await call.write(batch(3, timeout_ms=700))
        answer = await answer_of(call)
        assert (answer.batch_number, answer.results.packed_results) == (3, b"\x03")
        (seen,) = served.posted
        assert (seen.number, seen.timeout_ms) == (3, 700)
        assert PostTransfersRequest.FromString(seen.batch).packed == b"x"


async def test_a_batch_that_fails_is_answered_so_and_the_stream_goes_on() -> None:
    async with serving() as (_, opened):
        call = opened()
        await call.write(batch(1, attempt=9))
        assert reason_of(await answer_of(call)) == Reason.OVERLOADED
        await call.write(StreamTransfersRequest(batch_number=2).SerializeToString())
        assert reason_of(await answer_of(call)) == Reason.FATE_UNKNOWN
        await call.write(batch(3))
        assert (await answer_of(call)).results.packed_results == b"\x03"


async def test_batches_count_as_calls_and_idle_streams_do_not() -> None:
    async with serving(calls_max=1) as (served, opened):
        idle, call = opened(), opened()
        await idle.initial_metadata()
        served.gates[1] = asyncio.Event()
        await call.write(batch(1))
        await until(lambda: served.calls.running == 1)
        await call.write(batch(2))
        refused = await answer_of(call)
        assert (refused.batch_number, reason_of(refused)) == (2, Reason.OVERLOADED)
        assert served.calls.refused == 1
        served.gates[1].set()
        assert (await answer_of(call)).results.packed_results == b"\x01"
        assert served.calls.running == 0


async def test_a_batch_that_nobody_ends_is_given_up_behind_its_time() -> None:
    async with serving() as (served, opened):
        served.gates[1] = asyncio.Event()
        call = opened()
        await call.write(batch(1, timeout_ms=20))
        given_up = await answer_of(call)
        assert (given_up.batch_number, reason_of(given_up)) == (1, Reason.DEADLINE_PASSED)
        assert served.calls.running == 0


async def test_no_more_is_read_than_may_wait_for_answers() -> None:
    async with serving(in_flight_max=2) as (served, opened):
        served.gates = {number: asyncio.Event() for number in (1, 2)}
        call = opened()
        for number in (1, 2, 3):
            await call.write(batch(number))
        await until(lambda: len(served.posted) == 2)
        await asyncio.sleep(0.05)
        assert len(served.posted) == 2
        served.gates[2].set()
        assert sorted([(await answer_of(call)).batch_number for _ in range(2)]) == [2, 3]


async def test_answers_that_are_ready_at_once_are_written_one_at_a_time_and_each_arrives() -> None:
    async with serving(in_flight_max=8) as (served, opened):
        served.answer_bytes = 1_500_000  # more than is taken before somebody reads
        gate = asyncio.Event()
        served.gates = dict.fromkeys(range(1, 9), gate)
        served.may_write.clear()
        call = opened()
        for number in range(1, 13):
            await call.write(batch(number))
        await until(lambda: len(served.posted) == 8)
        gate.set()
        await asyncio.sleep(0.05)
        assert len(served.posted) == 8  # what is not written yet still counts
        served.may_write.set()
        answers = [await answer_of(call) for _ in range(12)]
        assert sorted(answer.batch_number for answer in answers) == list(range(1, 13))
        assert all(set(one.results.packed_results) == {one.batch_number} for one in answers)
        assert served.writes.most_under_way == 1


async def test_the_last_answers_come_after_the_caller_has_sent_its_last_batch() -> None:
    async with serving() as (served, opened):
        served.gates[1] = asyncio.Event()
        call = opened()
        await call.write(batch(1))
        await call.done_writing()
        await until(lambda: served.posted)
        served.gates[1].set()
        assert (await answer_of(call)).batch_number == 1
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_message_that_cannot_be_read_ends_the_stream_behind_the_answers_before_it() -> None:
    async with serving() as (served, opened):
        served.gates[1] = asyncio.Event()
        call = opened()
        await call.write(batch(1))
        await call.write(b"\xff")
        await until(lambda: served.posted)
        served.gates[1].set()
        assert (await answer_of(call)).batch_number == 1
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        fault = fault_of_error(failed.value)
        assert fault is not None and fault.reason == Reason.BATCH_UNREADABLE


async def test_a_caller_that_goes_takes_its_batches_along() -> None:
    async with serving() as (served, opened):
        served.gates[1] = asyncio.Event()
        call = opened()
        await call.write(batch(1))
        await until(lambda: served.calls.running == 1)
        call.cancel()
        await until(lambda: not served.calls.running and not served.streams._open)


async def test_a_server_that_stops_ends_idle_streams_at_once() -> None:
    async with serving() as (served, opened):
        call = opened()
        await call.initial_metadata()
        async with asyncio.timeout(WAIT_S_MAX):
            await served.stop()
        assert await call.code() is grpc.StatusCode.OK


async def test_a_server_that_stops_answers_what_it_has_read_and_takes_nothing_new() -> None:
    async with serving() as (served, opened):
        served.gates[1] = asyncio.Event()
        call = opened()
        await call.write(batch(1))
        await until(lambda: served.posted)
        stopping = asyncio.create_task(served.stop())
        await asyncio.sleep(0)
        await call.write(batch(2))
        late = await answer_of(call)
        assert (late.batch_number, reason_of(late)) == (2, Reason.STOPPING)
        served.gates[1].set()
        assert (await answer_of(call)).results.packed_results == b"\x01"
        async with asyncio.timeout(WAIT_S_MAX):
            await stopping
        assert len(served.posted) == 1


async def test_more_streams_than_may_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.rpc.streams.STREAMS_MAX", 1)
    async with serving() as (_, opened):
        first = opened()
        await first.initial_metadata()
        assert await opened().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.write(batch(1))
        assert (await answer_of(first)).batch_number == 1


async def test_at_a_node_a_batch_with_a_time_takes_the_lane_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Lane | None, float]] = []
    post: Callable[..., Awaitable[Any]] = posting.post

    async def watched(replica: Any, words: Any, found: Any, caller: Any, until_s: float) -> Any:
        seen.append((caller.lane, until_s - asyncio.get_running_loop().time()))
        return await post(replica, words, found, caller, until_s)

    monkeypatch.setattr(posting, "post", watched)
    async with running_node(cluster(tmp_path)) as node:
        await node.make_accounts(ALICE, BOB)
        seen.clear()
        call = node.posting.StreamTransfers()
        for number, timeout_ms in enumerate((0, 9_000)):
            request = PostTransfersRequest(transfers=[transfer(number + 1, ALICE, BOB)])
            await call.write(StreamTransfersRequest(batch_number=number, batch=request, timeout_ms=timeout_ms))
            assert (await call.read()).results.results[0].outcome == Outcome.POSTED
    (plain, by_default), (timed, by_time) = seen
    assert (plain, timed) == (Lane.BULK, None)
    assert 20 < by_default <= 30 and 5 < by_time <= 9


async def test_a_router_posts_by_stream_within_each_batch_s_time_and_stops_beside_an_open_one(tmp_path: Path) -> None:
    config = two_groups(tmp_path, drain_ms_max=int(GRACE_S * 1000))
    async with asyncio.timeout(GRACE_S / 2), grpc.aio.insecure_channel(config.routers[0].grpc) as channel:
        async with running(config) as served:
            (debit,), (credit,) = served.accounts(0), served.accounts(1)
            await served.node.make_accounts(debit, credit)
            posting: Any = PostingServiceStub(channel)
            call = posting.StreamTransfers()
            paid = PostTransfersRequest(transfers=[served.pay(debit, credit)])
            await call.write(StreamTransfersRequest(batch_number=1, batch=paid, timeout_ms=9_000))
            assert (await call.read()).results.results[0].outcome == Outcome.POSTED
            assert served.router._calls.running == 0
        assert await call.code() is grpc.StatusCode.OK
