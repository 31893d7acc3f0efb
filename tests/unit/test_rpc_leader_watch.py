"""A leader that is silent: stopped, or on a machine that is gone. Nothing resets the connections to it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from engine.rpc import group_client
from engine.rpc.group_client import GroupClient
from engine.rpc.leader_watch import LeaderClaim, LeaderWatch, claim_in
from postingengine.v1.admin_service_pb2 import DescribeClusterResponse, GroupDescription, ReplicaDescription
from tests.simulation.virtual_loop import virtually

METHOD = "/test.Service/Call"
CALL_S = 30.0
GROUP = 3


class Member:
    """A replica: answers calls while it is not `silent`, and says of the leader what it is told to."""

    def __init__(self) -> None:
        self.address = ""
        self.term, self.leader = 1, "a"
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()
        self.called = self.gave_up = self.described = 0
        self.addresses: dict[str, str] = {}

    async def call(self, request: bytes, _: object) -> bytes:
        self.called += 1
        self.asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.gave_up += 1
            raise
        return self.address.encode() + b" " + request

    async def describe(self, _: bytes, __: object) -> bytes:
        self.described += 1
        return self.description().SerializeToString()

    def description(self) -> DescribeClusterResponse:
        rows = [
            ReplicaDescription(replica=name, address=address, term=self.term if address == self.address else 0)
            for name, address in self.addresses.items()
        ]
        return DescribeClusterResponse(groups=[GroupDescription(group=GROUP, leader=self.leader, replicas=rows)])


@pytest.fixture
async def members() -> AsyncIterator[dict[str, Member]]:
    made = {name: Member() for name in "abc"}
    servers = [await started(member) for member in made.values()]
    for member in made.values():
        member.addresses = {name: one.address for name, one in made.items()}
    yield made
    for server in servers:
        await server.stop(None)


async def started(member: Member) -> grpc.aio.Server:
    server = grpc.aio.server()
    services = {
        "test.Service": {"Call": grpc.unary_unary_rpc_method_handler(member.call)},
        "postingengine.v1.AdminService": {"DescribeCluster": grpc.unary_unary_rpc_method_handler(member.describe)},
    }
    for name, handlers in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    member.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    return server


@asynccontextmanager
async def client_of(members: dict[str, Member], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GroupClient]:
    monkeypatch.setattr(group_client, "ATTEMPT_S_MAX", CALL_S)  # nobody is saved by the end of an attempt
    client = GroupClient(GROUP, [one.address for one in members.values()])
    yield client
    await client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(CALL_S):
        while not condition():
            await asyncio.sleep(0.005)


def soon() -> float:
    return time.monotonic() + CALL_S


async def test_calls_that_wait_for_a_silent_leader_go_to_the_one_that_the_others_follow_now(
    members: dict[str, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = members.values()
    a.may_answer.clear()
    async with client_of(members, monkeypatch) as client:
        calls = [asyncio.create_task(client.call(METHOD, b"%d" % number, soon())) for number in range(3)]
        await until(lambda: b.described > 2)  # they follow the silent one still
        assert (a.called, b.called, c.called) == (3, 0, 0)
        for member in (b, c):
            member.term, member.leader = 2, "c"
        assert await asyncio.gather(*calls) == [f"{c.address} {number}".encode() for number in range(3)]
        assert (a.called, b.called, c.called) == (3, 0, 3)
        await until(lambda: a.gave_up == 3)
        assert await client.call(METHOD, b"later", soon()) == f"{c.address} later".encode()
        assert a.called == 3


async def test_a_leader_that_is_only_slow_is_waited_for(
    members: dict[str, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = members.values()
    a.may_answer.clear()
    a.term = b.term = 5
    c.term, c.leader = 4, "c"  # deposed, and does not know it
    async with client_of(members, monkeypatch) as client:
        call = asyncio.create_task(client.call(METHOD, b"x", soon()))
        await until(lambda: b.described > 3 and c.described > 3)
        a.may_answer.set()
        assert await call == f"{a.address} x".encode()
    assert (a.called, b.called, c.called) == (1, 0, 0)


class Watched:
    """A watch in virtual time, and when it asked whom."""

    def __init__(self, claims: dict[str, LeaderClaim]) -> None:
        self.claims, self.asked, self.moved = claims, list[tuple[float, str]](), list[str]()
        self.watch = LeaderWatch(self.ask, "abc", self.moved.append)

    async def ask(self, address: str) -> LeaderClaim | None:
        self.asked.append((round(asyncio.get_running_loop().time(), 3), address))
        return self.claims.get(address)

    async def answer(self, address: str, after_s: float) -> bytes:
        async def later() -> bytes:
            await asyncio.sleep(after_s)
            return b"x"

        return await self.watch.answer_of(address, later())


def test_a_replica_is_silent_once_it_has_answered_nobody_for_long_enough() -> None:
    async def work() -> None:
        watched = Watched({"c": LeaderClaim(2, "c")})
        with pytest.raises(TimeoutError):
            await watched.answer("a", 60)
        assert watched.asked == [(0.3, "b"), (0.3, "c")]
        assert watched.moved == ["c"]
        assert round(asyncio.get_running_loop().time(), 3) == 0.3

    virtually(work())


def test_nobody_is_asked_while_the_leader_answers_others() -> None:
    async def work() -> None:
        watched = Watched({"c": LeaderClaim(2, "c")})
        slow = asyncio.create_task(watched.answer("a", 5))
        for _ in range(24):
            await watched.answer("a", 0.2)
        assert watched.asked == []
        assert await slow == b"x"

    virtually(work())


def test_a_silent_replica_is_asked_after_again_and_again_until_another_one_leads() -> None:
    async def work() -> None:
        watched = Watched({"b": LeaderClaim(1, "a"), "c": LeaderClaim(1, "")})
        call = asyncio.create_task(watched.answer("a", 60))
        await asyncio.sleep(1.05)
        assert watched.asked == [(at_s / 10, one) for at_s in range(3, 11) for one in "bc"]
        watched.claims["c"] = LeaderClaim(2, "c")
        with pytest.raises(TimeoutError):
            await call
        assert watched.moved == ["c"]

    virtually(work())


def test_a_leader_that_is_not_among_the_replicas_is_nobody_to_go_to() -> None:
    async def work() -> None:
        watched = Watched({"c": LeaderClaim(2, "z")})
        assert await watched.answer("a", 1) == b"x"
        assert watched.asked and watched.moved == []

    virtually(work())


def test_who_waits_for_another_replica_than_the_silent_one_waits_on() -> None:
    async def work() -> None:
        watched = Watched({"c": LeaderClaim(2, "c")})
        calls = [asyncio.create_task(watched.answer(one, after_s)) for one, after_s in (("a", 60), ("c", 0.31))]
        assert [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)] == [TimeoutError, bytes]

    virtually(work())


async def test_a_caller_that_gives_up_is_cancelled_and_no_longer_waits(
    members: dict[str, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = members["a"]
    a.may_answer.clear()
    async with client_of(members, monkeypatch) as client:
        call = asyncio.create_task(client.call(METHOD, b"x", soon()))
        await a.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not client._watch._waiting
        await until(lambda: client._watch._looking is None)


def test_a_claim_is_of_the_group_and_the_replica_that_makes_it() -> None:
    member = Member()
    member.address, member.term, member.leader = "x:2", 7, "a"
    member.addresses = {"a": "x:1", "b": "x:2"}
    described = member.description()
    assert claim_in(described, GROUP, "x:2") == LeaderClaim(7, "x:1")
    assert claim_in(described, GROUP + 1, "x:2") is None
    member.leader = ""
    assert claim_in(member.description(), GROUP, "x:2") == LeaderClaim(7, "")
