import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from engine.rpc import faults, group_client
from engine.rpc.batch import read_batch
from engine.rpc.faults import CallFailed, Reason
from engine.rpc.group_client import GroupClient, client_of
from engine.rpc.link_client import Links
from engine.rpc.link_frames import FRAME_BYTES_MAX, GREETING, METHODS, POST_TRANSFERS, STEP, greeting
from engine.rpc.link_server import LinkServer
from engine.rpc.server import Calls
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, PostTransfersResponse
from tests.ports import free_address
from tests.running_node import CLUSTER_ID, cluster, running_node

API = "127.0.0.1:1"
"""Nobody answers there: what comes back came by link."""
HELLO = greeting(CLUSTER_ID, 0)

Behaviour = Callable[[bytes, Any], Awaitable[bytes]]


async def echo(data: bytes, _: Any) -> bytes:
    return bytes(data)


@asynccontextmanager
async def serving(behaviour: Behaviour = echo, *, calls_max: int = 100) -> AsyncIterator[str]:
    address = free_address()
    server = LinkServer(address, HELLO, dict.fromkeys(METHODS, behaviour), Calls(calls_max))
    await server.start()
    try:
        yield address
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def linked(*addresses: str, greets_with: bytes = HELLO) -> AsyncIterator[GroupClient]:
    """A client whose links are open."""
    apis = [f"127.0.0.1:{number}" for number in range(1, len(addresses) + 1)]
    links = Links(greets_with, dict(zip(apis, addresses, strict=True)))
    client = GroupClient(0, apis, links)
    async with asyncio.timeout(30):
        while not all(links.ready(api, POST_TRANSFERS) for api in apis):
            await asyncio.sleep(0.005)
    yield client
    await client.close()


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("size", [0, 1, 1000, 40_000, 100_000, FRAME_BYTES_MAX - 200])
async def test_what_goes_by_link_comes_back_whole(size: int) -> None:
    async with serving() as address, linked(address) as client:
        asked = [bytes([number]) + bytes(size) for number in range(3)]
        assert await asyncio.gather(*(client.call(POST_TRANSFERS, one, soon()) for one in asked)) == asked


async def test_the_records_of_a_large_batch_arrive_where_they_need_not_be_copied() -> None:
    packed = np.arange(8000 * 16, dtype=np.uint64).tobytes()
    request = PostTransfersRequest(packed=packed).SerializeToString()
    shared: list[bool] = []

    async def look(data: bytes, _: Any) -> bytes:
        words = read_batch(data).words
        shared.append(np.shares_memory(words, np.frombuffer(data, np.uint8)))
        assert words.tobytes() == packed
        return b""

    async with serving(look) as address, linked(address) as client:
        for peer in ("", "a", "longer"):
            await client.call(POST_TRANSFERS, request, soon(), (("peer", peer),))
    assert shared == [True] * 3


async def test_a_call_by_link_says_for_whom_it_is_and_until_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_client, "ATTEMPT_S_MAX", 1000.0)
    seen: list[tuple[float, str]] = []

    async def tell(_: bytes, context: Any) -> bytes:
        seen.append((context.time_remaining(), context.peer()))
        return repr(context.invocation_metadata()).encode()

    async with serving(tell) as address, linked(address) as client:
        told = await client.call(STEP, b"", soon(1000), (("postingengine-caller", "payroll"),))
    assert told == b"(('postingengine-caller', 'payroll'),)"
    ((left_s, peer),) = seen
    assert 500 < left_s <= 1000
    assert peer.startswith("ipv4:127.0.0.1:")


async def test_a_fault_by_link_is_the_same_fault() -> None:
    async def refuse(_: bytes, __: Any) -> bytes:
        raise CallFailed(faults.invalid(Reason.BATCH_EMPTY, "no transfers", field="packed", item=3))

    async with serving(refuse) as address, linked(address) as client:
        with pytest.raises(CallFailed) as failed:
            await client.call(POST_TRANSFERS, b"", soon())
    assert failed.value.fault == faults.invalid(Reason.BATCH_EMPTY, "no transfers", field="packed", item=3)


async def test_a_follower_that_names_the_leader_by_link_is_believed() -> None:
    async def follow(_: bytes, __: Any) -> bytes:
        raise CallFailed(faults.unavailable(Reason.NOT_LEADER, "ask the leader", leader="127.0.0.1:2"))

    async with serving(follow) as follower, serving() as leader, linked(follower, leader) as client:
        assert await client.call(POST_TRANSFERS, b"x", soon()) == b"x"


async def test_a_replica_that_dies_with_a_call_leaves_its_fate_unknown_and_another_is_asked() -> None:
    asked = asyncio.Event()

    async def hang(_: bytes, __: Any) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return b""

    async with serving() as other, serving(hang) as address, linked(address, other) as client:
        calling = asyncio.create_task(client.call(POST_TRANSFERS, b"x", soon()))
        await asked.wait()
        for link in list(client._links._links.values())[:1]:  # type: ignore[union-attr]
            link.abort()
        assert await calling == b"x"


async def test_a_call_that_is_given_up_is_given_up_at_the_replica() -> None:
    given_up = asyncio.Event()

    async def hang(_: bytes, __: Any) -> bytes:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            given_up.set()
            raise
        return b""

    async with serving(hang) as address, linked(address) as client:
        with pytest.raises(CallFailed) as failed:
            await client.call(POST_TRANSFERS, b"x", soon(0.2))
        assert failed.value.fault.reason == Reason.FATE_UNKNOWN
        async with asyncio.timeout(5):
            await given_up.wait()


async def test_calls_by_link_count_against_the_bound_of_calls() -> None:
    over = asyncio.Event()

    async def wait(_: bytes, __: Any) -> bytes:
        await over.wait()
        return b""

    async with serving(wait, calls_max=1) as address, linked(address) as client:
        calls = {asyncio.create_task(client.call(POST_TRANSFERS, b"", soon())) for _ in range(2)}
        (refused,), (served,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(CallFailed) as failed:
            await refused
        over.set()
        assert await served == b""
    assert (failed.value.fault.reason, failed.value.fault.logged) == (Reason.OVERLOADED, "no")


async def test_a_bug_behind_a_link_leaves_the_fate_unknown() -> None:
    async def break_down(_: bytes, __: Any) -> bytes:
        raise ZeroDivisionError

    async with serving(break_down) as address, linked(address) as client:
        with pytest.raises(CallFailed) as failed:
            await client.call(POST_TRANSFERS, b"", soon(0.3))
    assert failed.value.fault.logged == "unknown"


@pytest.mark.parametrize(
    "said",
    [
        greeting("f" * 32, 0),
        greeting(CLUSTER_ID, 1),
        b"GET / HTTP/1.1\r\nHost: a.long.name.of.somebody.else\r\n\r\n",
        HELLO + (FRAME_BYTES_MAX + 1).to_bytes(4, "little"),
        HELLO + (3).to_bytes(4, "little") + b"abc",
        HELLO + (11).to_bytes(4, "little") + b"\0\0\0\0\x77\0\0\0\0\0\0",
        HELLO + (13).to_bytes(4, "little") + b"\0\0\0\0\0\2\0\0\0\0\0\xc1\xc1",
    ],
)
async def test_whoever_is_no_link_of_this_group_is_closed_and_disturbs_nobody(said: bytes) -> None:
    async with serving() as address, linked(address) as client:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        async with asyncio.timeout(5):
            assert await reader.read() in {HELLO, b""}
        writer.close()
        assert await client.call(POST_TRANSFERS, b"x", soon()) == b"x"


async def test_a_link_to_another_cluster_is_never_used() -> None:
    async with serving() as address:
        links = Links(greeting("e" * 32, 0), {API: address})
        for _ in range(20):
            assert links.ready(API, POST_TRANSFERS) is None
            await asyncio.sleep(0.01)
        await links.close()


async def test_what_is_silent_is_closed() -> None:
    async with serving() as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(10):
            assert len(await reader.read()) == GREETING.size
        writer.close()


async def test_only_the_hot_path_goes_by_link() -> None:
    links = Links(HELLO, {API: "127.0.0.1:2"})
    assert links.ready(API, "/postingengine.v1.PostingService/GetAccounts") is None
    assert links.ready("127.0.0.1:9", POST_TRANSFERS) is None
    await links.close()


async def test_a_node_answers_by_link_what_it_answers_by_grpc(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    section = config.groups[0]
    async with running_node(config):
        client = client_of(config, section)
        plain = GroupClient(0, [section.replicas[0].grpc])
        request = PostTransfersRequest(packed=bytes(128)).SerializeToString()
        by_grpc = await plain.call(POST_TRANSFERS, request, soon())
        assert client._links is not None
        while (link := client._links.ready(section.replicas[0].grpc, POST_TRANSFERS)) is None:
            await asyncio.sleep(0.01)
        by_link = await link.call(POST_TRANSFERS, request, 5.0, ())
        await client.close()
        await plain.close()
    assert by_link == by_grpc
    assert PostTransfersResponse.FromString(by_link).faults


async def test_a_port_in_use_is_told_by_name(tmp_path: Path) -> None:
    async with serving() as address:
        server = LinkServer(address, HELLO, dict.fromkeys(METHODS, echo), Calls(1))
        with pytest.raises(Exception, match=f"{address} is in use"):
            await server.start()


async def test_without_a_link_grpc_serves(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config):
        client = client_of(config, config.groups[0])  # its link is only being dialled
        answer = await client.call(POST_TRANSFERS, PostTransfersRequest(packed=bytes(128)).SerializeToString(), soon())
        await client.close()
    assert PostTransfersResponse.FromString(answer).faults
    assert isinstance(client._channels[config.groups[0].replicas[0].grpc], grpc.aio.Channel)
