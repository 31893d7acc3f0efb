"""Bulk load: packed batches, a few calls in flight, from one asyncio client; every answer is counted."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from engine.core.known import RESULT
from engine.core.outcomes import Outcome
from postingengine.v1 import account_pb2, posting_service_pb2, posting_service_pb2_grpc

MESSAGE_BYTES_MAX: Final = 8 << 20
CALL_S_MAX: Final = 60
ACCOUNTS_A_CALL: Final = 4000
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)


class BulkRun(NamedTuple):
    """What one bulk run did."""

    posted: int
    seconds: float
    latencies_ms: tuple[float, ...]
    """One per call, sorted."""


def open_stub(address: str) -> tuple[grpc.aio.Channel, "posting_service_pb2_grpc.PostingServiceAsyncStub"]:
    """Open a channel to a router or node; the caller closes it."""
    channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return channel, posting_service_pb2_grpc.PostingServiceStub(channel)


async def create_accounts(
    stub: "posting_service_pb2_grpc.PostingServiceAsyncStub",
    ids: npt.NDArray[np.uint64],
    *,
    ledger: int,
    flags: Sequence["account_pb2.AccountFlag"] = (),
) -> None:
    """Create accounts of one ledger, unlimited without flags; raise RuntimeError if any is not created."""
    accounts = [account_pb2.Account(id=row.tobytes(), ledger=ledger, code=1, flags=flags) for row in ids]
    for start in range(0, len(accounts), ACCOUNTS_A_CALL):
        request = posting_service_pb2.CreateAccountsRequest(accounts=accounts[start : start + ACCOUNTS_A_CALL])
        answer = await stub.CreateAccounts(request, timeout=CALL_S_MAX)
        if any(int(result.outcome) != Outcome.ACCOUNT_CREATED for result in answer.results):
            raise RuntimeError(f"an account was not created: {answer.results[0]}")


async def post_batches(
    stub: "posting_service_pb2_grpc.PostingServiceAsyncStub", batches: Sequence[bytes], *, in_flight: int
) -> BulkRun:
    """Send packed batches with `in_flight` calls at a time; raise RuntimeError unless every transfer is POSTED."""
    waiting = iter(batches)
    latencies: list[float] = []
    posted = 0

    async def caller() -> None:
        nonlocal posted
        for packed in waiting:
            sent = time.perf_counter()
            request = posting_service_pb2.PostTransfersRequest(packed=packed)
            answer = await stub.PostTransfers(request, timeout=CALL_S_MAX)
            latencies.append((time.perf_counter() - sent) * 1e3)
            posted += _count_posted(answer)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return BulkRun(posted, time.perf_counter() - started, tuple(sorted(latencies)))


def _count_posted(answer: posting_service_pb2.PostTransfersResponse) -> int:
    outcomes = np.frombuffer(answer.packed_results, RESULT)["outcome"]
    if answer.faults or (outcomes != Outcome.POSTED).any():
        raise RuntimeError(f"{len(answer.faults)} faults; outcomes {np.unique(outcomes).tolist()}")
    return len(outcomes)


async def balances(
    stub: "posting_service_pb2_grpc.PostingServiceAsyncStub", ids: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Read credits less debits posted of each account, linearizable, shape (n,), minor units."""
    found = []
    for start in range(0, len(ids), ACCOUNTS_A_CALL):
        chosen = [row.tobytes() for row in ids[start : start + ACCOUNTS_A_CALL]]
        answer = await stub.GetAccounts(posting_service_pb2.GetAccountsRequest(ids=chosen), timeout=CALL_S_MAX)
        found += [_net(one.state.balances) for one in answer.accounts]
    return np.array(found, np.int64)


def _net(balances_of: account_pb2.Balances) -> int:
    return int(balances_of.credits_posted.low) - int(balances_of.debits_posted.low)
