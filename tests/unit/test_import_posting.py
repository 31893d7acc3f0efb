"""Posting an import: batches of whole chains, and unknown outcomes asked again with the same ids."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from cli.beancount.plan import PlannedTransfer
from cli.beancount.posting import Pace, Poster, Tally, batches_of, connect
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, PostTransfersResponse
from postingengine.v1.posting_service_pb2_grpc import PostingServiceServicer, add_PostingServiceServicer_to_server
from postingengine.v1.transfer_pb2 import Transfer, TransferResult

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def chain(number: int, legs: int = 1) -> tuple[PlannedTransfer, ...]:
    return tuple(
        PlannedTransfer(bytes([number, leg]) * 8, b"d" * 16, b"c" * 16, "USD", 5, 7, b"r" * 16, leg + 1 < legs)
        for leg in range(legs)
    )


class FakeEngine(PostingServiceServicer):
    """Remembers ids, and fails as told: `faults` are given, one a batch, in place of answers."""

    def __init__(self, *faults: Any) -> None:
        self.posted: dict[bytes, Transfer] = {}
        self.faults = list(faults)
        self.attempts: list[int] = []

    async def PostTransfers(self, request: PostTransfersRequest, context: Any) -> PostTransfersResponse:  # noqa: N802
        self.attempts.append(request.attempt)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, grpc.StatusCode):
            self.posted |= {one.id: one for one in request.transfers}  # logged, but the answer is lost
            await context.abort(fault, "the connection broke")
        results = [TransferResult(fault=fault) for _ in request.transfers if fault is not None]
        return PostTransfersResponse(results=results or [self._post(one) for one in request.transfers])

    def _post(self, transfer: Transfer) -> TransferResult:
        known = transfer.id in self.posted
        self.posted[transfer.id] = transfer
        refused = transfer.id[0] == 0xFF
        outcome = Outcome.OUTCOME_DEBIT_ACCOUNT_FROZEN if refused else Outcome.OUTCOME_POSTED
        return TransferResult(outcome=outcome, replayed=known)


@asynccontextmanager
async def served(engine: FakeEngine, **pace: Any) -> AsyncIterator[Poster]:
    server = grpc.aio.server()
    add_PostingServiceServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield Poster(channel, {"USD": 1}, Pace(**pace), lambda _: None)
    await server.stop(None)


def numbers(tally: Tally) -> tuple[int, int, int, int]:
    return tally.posted, tally.replayed, tally.refused, tally.unknown


def test_batches_never_cut_a_chain() -> None:
    chains = [chain(1, 3), chain(2, 3), chain(3, 9), chain(4)]
    assert [[len(one) for one in batch] for batch in batches_of(chains, 5)] == [[3], [3], [9], [1]]
    assert [[len(one) for one in batch] for batch in batches_of(chains, 6)] == [[3, 3], [9], [1]]


async def test_an_outcome_lost_on_the_way_is_asked_again_and_counted_as_unknown() -> None:
    engine = FakeEngine(grpc.StatusCode.UNAVAILABLE)
    async with served(engine, in_flight_batches=1) as poster:
        tally = await poster.post([chain(1, 2), chain(2)])
    assert numbers(tally) == (0, 3, 0, 3)
    assert engine.attempts == [1, 2]


async def test_a_fault_that_logged_nothing_is_asked_again_and_is_not_unknown() -> None:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason="OVERLOADED", domain="postingengine", metadata={"logged": "no"}))
    engine = FakeEngine(Status(code=UNAVAILABLE, message="not now", details=[detail]))
    async with served(engine, in_flight_batches=1) as poster:
        assert numbers(await poster.post([chain(1, 2)])) == (2, 0, 0, 0)


async def test_posting_all_a_second_time_replays_every_transfer() -> None:
    engine = FakeEngine()
    chains = [chain(number, 3) for number in range(1, 50)]
    async with served(engine, batch_transfers=10) as poster:
        assert numbers(await poster.post(chains)) == (147, 0, 0, 0)
    async with served(engine, batch_transfers=7) as poster:
        assert numbers(await poster.post(chains)) == (0, 147, 0, 0)


async def test_a_refusal_is_counted_with_its_outcome() -> None:
    async with served(FakeEngine()) as poster:
        tally = await poster.post([chain(0xFF), chain(1)])
    assert numbers(tally) == (1, 0, 1, 0)
    assert [outcome for _, outcome in tally.refusals] == ["DEBIT_ACCOUNT_FROZEN"]


async def test_a_fault_that_can_never_heal_ends_the_import() -> None:
    async with served(FakeEngine(Status(code=INVALID_ARGUMENT, message="the amount is zero"))) as poster:
        with pytest.raises(EngineStopped, match="the amount is zero") as stopped:
            await poster.post([chain(1)])
    assert stopped.value.code == ExitCode.REFUSED


async def test_without_an_answer_for_too_long_the_import_stops_and_says_that_it_resumes() -> None:
    engine = FakeEngine(*[grpc.StatusCode.UNAVAILABLE] * 50)
    async with served(engine, give_up_s=0.0) as poster:
        with pytest.raises(EngineStopped, match="it resumes") as stopped:
            await poster.post([chain(1)])
    assert stopped.value.code == ExitCode.UNREACHABLE


async def test_what_progress_returns_is_waited_for_before_more_is_asked() -> None:
    engine, asked = FakeEngine(), list[int]()

    async def look() -> None:
        await asyncio.sleep(0.02)
        asked.append(len(engine.attempts))

    async with served(engine, in_flight_batches=1, batch_transfers=1) as poster:
        poster._progress = lambda _: look()
        await poster.post([chain(1), chain(2), chain(3)])
    assert asked == [1, 2, 3]


async def test_legs_of_a_transaction_are_linked() -> None:
    engine = FakeEngine()
    async with served(engine) as poster:
        await poster.post([chain(1, 3)])
    assert [list(one.flags) for one in engine.posted.values()] == [[1], [1], []]
