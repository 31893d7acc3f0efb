import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from engine.rpc import faults
from engine.rpc.faults import CallFailed, Reason
from engine.rpc.group_client import GroupClient

METHOD = "/test.Service/Call"

Answer = Callable[[bytes, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]


@asynccontextmanager
async def node(answer: Answer):  # type: ignore[no-untyped-def]
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


async def test_a_follower_that_names_the_leader_is_believed_at_once() -> None:
    async def lead(request: bytes, _: object) -> bytes:
        return b"led " + request

    async with node(lead) as leader:

        async def follow(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            await faults.abort(context, faults.unavailable(Reason.NOT_LEADER, "ask the leader", leader=leader))
            return b""

        async with node(follow) as follower:
            client = GroupClient(0, [follower, leader])
            assert await client.call(METHOD, b"x", soon()) == b"led x"
            await client.close()


async def test_a_dead_replica_is_passed_over() -> None:
    async def lead(request: bytes, _: object) -> bytes:
        return request

    async with node(lead) as leader:
        client = GroupClient(0, ["127.0.0.1:1", leader])
        assert await client.call(METHOD, b"x", soon()) == b"x"
        await client.close()


async def test_a_final_fault_is_not_tried_again() -> None:
    calls = 0

    async def refuse(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        nonlocal calls
        calls += 1
        await faults.abort(context, faults.invalid(Reason.BATCH_EMPTY, "no transfers"))
        return b""

    async with node(refuse) as one:
        client = GroupClient(0, [one])
        with pytest.raises(CallFailed) as failed:
            await client.call(METHOD, b"", soon())
        await client.close()
    assert failed.value.fault.reason == "BATCH_EMPTY"
    assert calls == 1


async def test_an_answer_that_does_not_come_leaves_the_fate_unknown() -> None:
    async def hang(_: bytes, __: object) -> bytes:
        await asyncio.sleep(60)
        return b""

    async with node(hang) as one:
        client = GroupClient(0, [one])
        with pytest.raises(CallFailed) as failed:
            await client.call(METHOD, b"", soon(0.3))
        await client.close()
    assert failed.value.fault.reason == Reason.FATE_UNKNOWN
    assert failed.value.fault.logged == "unknown"
