"""Single posts go by one open stream where the server has one; whatever is wrong with it, by calls, as before."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from engine.rpc import faults
from engine.rpc.faults import Fault, Reason
from postingengine import AsyncClient, DeadlineExceeded, Outcome, new_id
from postingengine import Fault as ClientFault
from postingengine.endpoints import Endpoint
from postingengine.stream import NotAnswered
from postingengine.v1 import posting_service_pb2
from postingengine.wire import numbered_request, packed_request
from tests.client_fakes import FakePosting, ServingStreams, serving
from tests.passing_time import let_pass, standing_still
from tests.unit.conftest import ATTEMPT_S_MAX

pytestmark = pytest.mark.usefixtures("patient_client")
A, B = bytes([1]) * 16, bytes([2]) * 16
WAIT_S_MAX = 30.0


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not met():
            await asyncio.sleep(0.002)


def endpoint_of(client: AsyncClient) -> Endpoint:
    assert client._running is not None
    return client._running.endpoints.current


async def open_stream(client: AsyncClient) -> None:
    """Post once, by a call; return once the stream that it opened is ready."""
    assert (await client.post(A, B, 5, ledger=1)).posted
    await until(lambda: endpoint_of(client).stream)


async def test_the_first_post_is_a_call_and_opens_the_stream_that_later_ones_take() -> None:
    fake = FakePosting()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        assert fake.timeouts_ms == []
        results = [await client.post(A, B, 5, ledger=1) for _ in range(20)]
        assert len(fake.timeouts_ms) == 20 and fake.streams_opened == 1
        assert [result.position for result in results] == list(range(1, 21))
        assert client.seen_log_indexes == {0: 21}


async def test_a_batch_brings_its_caller_s_time_and_no_more_than_an_attempt_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postingengine.coalescer.ATTEMPT_S_MAX", 3.0)
    fake = FakePosting()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        with standing_still():
            await client.post(A, B, 5, ledger=1, timeout_s=1.5)
            await client.post(A, B, 5, ledger=1, timeout_s=60)
    assert fake.timeouts_ms == [pytest.approx(1500, abs=1), pytest.approx(3000, abs=1)]


async def test_batches_in_flight_on_a_stream_are_answered_in_any_order() -> None:
    fake, gates = FakePosting(), deque([asyncio.Event(), asyncio.Event()])
    first, second = gates
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        fake.gate = lambda: gates.popleft().wait()
        slow = asyncio.create_task(client.post(A, B, 5, ledger=1))
        await until(lambda: fake.calls_now == 1)
        quick = asyncio.create_task(client.post(A, B, 5, ledger=1))
        await until(lambda: fake.calls_now == 2)
        second.set()
        assert (await quick).posted and not slow.done()
        first.set()
        assert (await slow).posted


async def test_a_late_answer_is_nobody_s_and_the_stream_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.rpc.streams.LATE_S_MAX", 3600.0)  # here, the server gives up no batch
    fake, gate = FakePosting(), asyncio.Event()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        fake.gate = gate.wait
        late = asyncio.create_task(client.post(A, B, 5, ledger=1, timeout_s=100))
        await until(lambda: fake.calls_now == 1)
        let_pass(101)
        with pytest.raises(DeadlineExceeded) as caught:
            await late
        assert caught.value.outcome_unknown
        gate.set()
        assert (await client.post(A, B, 5, ledger=1)).position == 2
        assert (len(fake.timeouts_ms), fake.streams_opened) == (2, 1)


async def test_each_batch_of_a_stream_is_given_up_at_its_own_time() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        stream, request = endpoint_of(client).stream, packed_request(bytes(128), 1)
        assert stream is not None
        fake.gate = gate.wait
        patient, hasty = (asyncio.create_task(stream.post(request, within_s)) for within_s in (200, 100))
        await until(lambda: fake.calls_now == 2)
        for task in (hasty, patient):
            assert not patient.done()
            let_pass(101)
            with pytest.raises(NotAnswered, match="no answer came in time"):  # not the server's word for it
                await task
        assert stream.is_ready
        gate.set()


async def test_a_stream_that_is_silent_through_an_attempt_is_left_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postingengine.stream.SILENT_S_MAX", ATTEMPT_S_MAX / 2)
    fake, gates = FakePosting(), deque([asyncio.Event()])
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        stream = endpoint_of(client).stream
        fake.gate = lambda: gates.popleft().wait() if gates else asyncio.sleep(0)
        post = asyncio.create_task(client.post(A, B, 5, ledger=1, timeout_s=2 * ATTEMPT_S_MAX))
        await until(lambda: fake.calls_now == 1)
        let_pass(ATTEMPT_S_MAX + 1)
        assert (await post).posted
        assert stream is not None and stream.ended_s is not None
        assert fake.attempts == [1, 1, 2] and len(fake.timeouts_ms) == 1


async def test_a_stream_broken_midway_leaves_one_outcome() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        fake.gate = gate.wait
        posts = [asyncio.create_task(client.post(A, B, 5, ledger=1)) for _ in range(3)]
        await until(lambda: fake.calls_now == 1)
        for one in list(server.streams._open):
            one._over.set_exception(RuntimeError("a proxy ended it"))
        gate.set()
        results = await asyncio.gather(*posts)
    assert {result.outcome for result in results} == {Outcome.POSTED}
    assert len(fake.stored) == 4
    assert fake.batches[1] == fake.batches[2], "the same batch again"
    assert fake.attempts == [1, 1, 2] and len(fake.timeouts_ms) == 1, "by a call"


async def test_a_stream_that_ended_is_opened_again_after_a_while() -> None:
    fake = FakePosting()
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        for one in list(server.streams._open):
            one.end()
        await until(lambda: endpoint_of(client).stream is None)
        for _ in range(1000):
            assert (await client.post(A, B, 5, ledger=1)).posted
            if fake.timeouts_ms:
                break
            await asyncio.sleep(0.005)
        assert fake.streams_opened == 2


async def test_without_streams_at_the_server_posts_are_calls() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address) as client:
        for _ in range(20):
            assert (await client.post(A, B, 5, ledger=1)).posted
            await asyncio.sleep(0.01)
        assert endpoint_of(client).stream is None
    assert fake.attempts == [1] * 20, "none was asked again"


async def test_a_server_that_does_not_take_times_gets_calls() -> None:
    """An older one: it has streams, and says nothing of timeout_ms."""
    fake, opened = FakePosting(), asyncio.Event()

    async def older(context: Any) -> None:
        await context.send_initial_metadata(())
        opened.set()
        while isinstance(await context.read(), bytes):
            pass

    async with ServingStreams(fake, older) as server, AsyncClient(server.address) as client:
        assert (await client.post(A, B, 5, ledger=1)).posted
        await until(opened.is_set)
        for _ in range(20):
            assert (await client.post(A, B, 5, ledger=1)).posted
            await asyncio.sleep(0.01)
        assert endpoint_of(client).stream is None
    assert fake.attempts == [1] * 21


FAULTS = [
    faults.invalid(Reason.BATCH_LENGTH_ODD, "odd", field="packed"),
    faults.overloaded("the queue is full")._replace(retry_after_ms=5000),
    faults.unavailable(Reason.NOT_LEADER, "no leader")._replace(retry_after_ms=5000),
    faults.fate_unknown("leadership changed")._replace(retry_after_ms=5000),
    Fault(grpc.StatusCode.PERMISSION_DENIED.value[0], "ROLE_MISSING", "the role post is needed"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.reason for fault in FAULTS])
async def test_a_fault_of_a_batch_is_the_same_by_stream_and_by_call(fault: Fault) -> None:
    told = []
    fake = FakePosting()
    async with ServingStreams(fake) as server:
        for by_stream in (False, True):
            async with AsyncClient(server.address, timeout_s=5) as client:
                if by_stream:
                    await open_stream(client)
                fake.call_faults = deque([fault])
                with pytest.raises(ClientFault) as caught:
                    await client.post(A, B, 5, ledger=1)
                told.append((type(caught.value), caught.value.told, caught.value.outcome_unknown))
                let_pass(10)  # so long a client that is closed would wait: it was asked to
    assert told[0] == told[1]
    assert len(fake.timeouts_ms) == 1


async def test_what_failed_by_stream_is_asked_again_with_the_same_ids() -> None:
    fake, id = FakePosting(), new_id().bytes
    async with ServingStreams(fake) as server, AsyncClient(server.address) as client:
        await open_stream(client)
        fake.call_faults = deque([faults.unavailable(Reason.NOT_LEADER, "no leader"), None])
        result = await client.post(A, B, 5, ledger=1, id=id)
    assert (result.posted, result.replayed) == (True, True)
    assert fake.attempts == [1, 1, 2, 3] and len(fake.timeouts_ms) == 3


async def test_a_large_batch_goes_by_a_call_of_its_own() -> None:
    fake = FakePosting()
    async with ServingStreams(fake) as server, AsyncClient(server.address, timeout_s=300) as client:
        await open_stream(client)
        await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(2000)))
        assert fake.timeouts_ms == []
        await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(200)))
        assert len(fake.timeouts_ms) == 1


async def test_closing_ends_the_stream_at_the_server() -> None:
    fake = FakePosting()
    async with ServingStreams(fake) as server:
        async with AsyncClient(server.address) as client:
            await open_stream(client)
            assert len(server.streams._open) == 1
        await until(lambda: fake.streams_ended)


async def test_a_server_that_stops_costs_a_stream_s_callers_nothing_but_time() -> None:
    first, second = FakePosting(), FakePosting()
    async with (
        ServingStreams(second) as other,
        ServingStreams(first) as server,
        AsyncClient([server.address, other.address]) as client,
    ):
        await open_stream(client)
        callers = [asyncio.create_task(_post_some(client, 50)) for _ in range(8)]
        await until(lambda: len(first.batches) > 10)
        server.streams.end()
        await server.server.stop(WAIT_S_MAX)
        await asyncio.gather(*callers)
    assert second.batches
    assert len(first.stored | second.stored) == 401


async def _post_some(client: AsyncClient, count: int) -> None:
    for _ in range(count):
        assert (await client.post(A, B, 5, ledger=1)).posted


def test_a_request_written_by_hand_is_the_contract_s() -> None:
    data = numbered_request(300, packed_request(b"x" * 128, 7), 70_000)
    read = posting_service_pb2.StreamTransfersRequest.FromString(data)
    assert (read.batch_number, read.timeout_ms, read.batch.attempt) == (300, 70_000, 7)
    assert read.batch.packed == b"x" * 128
