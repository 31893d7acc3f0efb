"""Calls of the contract as the callers of these tests make them: to a cluster whose processes come and go."""

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc

from postingengine.v1 import account_pb2, posting_service_pb2, posting_service_pb2_grpc

LEDGER: Final = 1
POSTED: Final = 1
ACCOUNT_CREATED: Final = 2
CALL_S: Final = 2.0
"""Of a post under load: what is not answered in this time is unknown, and settled later."""
PATIENT_CALL_S: Final = 20.0
"""Of everything else."""
HEAL_S_MAX: Final = 180.0
UNSURE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
    }
)


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel that reconnects at once."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(address, options=options)


async def create_accounts(
    stub: posting_service_pb2_grpc.PostingServiceStub, accounts: Sequence[account_pb2.Account]
) -> None:
    """Create accounts, retrying until the cluster answers."""
    request = posting_service_pb2.CreateAccountsRequest(accounts=accounts)
    while True:
        answer = await tried(stub.CreateAccounts(request, timeout=PATIENT_CALL_S))
        if answer and all(one.outcome == ACCOUNT_CREATED for one in answer.results):
            return
        await asyncio.sleep(0.1)


async def tried(call):  # type: ignore[no-untyped-def]
    """Await one call: its answer, or None where the outcome is unknown."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() not in UNSURE:
            raise
        return None


async def until_answered(make_call):  # type: ignore[no-untyped-def]
    """Make a call again and again until its outcome is known; return its answer."""
    while (answer := await tried(make_call())) is None:
        await asyncio.sleep(0.1)
    return answer
