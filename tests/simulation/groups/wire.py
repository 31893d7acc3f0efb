"""Calls between clients, routers and nodes: late, lost, there twice, cut off; on the other side is a real handler."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from engine.rpc.group_client import GroupClient
from engine.rpc.leader_watch import LeaderWatch
from engine.rpc.link_client import Links
from engine.rpc.link_frames import Metadata
from tests.simulation.groups.process import CURRENT, Died, Process

Handler = Callable[[bytes, Any], Awaitable[bytes]]
CLIENTS = "clients"


@dataclass(frozen=True)
class Weather:
    """Chances of each message, and delays in seconds."""

    lost: float = 0.0
    reset: float = 0.0
    """A loss that the caller is told of at once."""
    twice: float = 0.0
    late: float = 0.0
    delay_s: float = 0.001
    late_s: float = 1.5


class Refused(Exception):
    """What a handler aborted its call with."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]]) -> None:
        super().__init__(details)
        self.code, self.details, self.trailing = code, details, trailing


class Context:
    """The server's side of one call, as far as the handlers look at it."""

    def __init__(self, wire: "Wire", caller: str, until_s: float, metadata: Metadata) -> None:
        self._wire, self._caller, self._until_s, self._metadata = wire, caller, until_s, metadata

    def time_remaining(self) -> float:
        return self._until_s - self._wire.loop.time()

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> str:
        return self._caller

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]]) -> None:
        raise Refused(code, details, trailing)


class Endpoint:
    """What answers at an address: one life of a process, and its handlers by method."""

    def __init__(self, process: Process, handlers: dict[str, Handler]) -> None:
        self.process, self._handlers = process, handlers

    def handler(self, method: str) -> Handler:
        """Return what serves a method; as with gRPC, one that is not there refuses."""
        if method not in self._handlers:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"nobody serves {method}", ())
        return self._handlers[method]


class Wire:
    """All connections. Places are addresses of nodes, names of routers, and `CLIENTS`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: random.Random) -> None:
        """Fair weather, and nobody there yet."""
        self.loop, self.dice, self.weather = loop, dice, Weather()
        self.endpoints: dict[str, Endpoint] = {}
        self.cut: set[tuple[str, str]] = set()
        self.calls = 0

    def heal(self) -> None:
        """Everything is connected, in fair weather."""
        self.weather = Weather()
        self.cut.clear()

    async def call(
        self, caller: str, address: str, method: str, request: bytes, timeout_s: float, metadata: Metadata
    ) -> bytes:
        """One call; raises `grpc.aio.AioRpcError`."""
        self.calls += 1
        until_s = self.loop.time() + timeout_s
        answer: asyncio.Future[bytes] = self.loop.create_future()
        await self._travel(caller, address, until_s)
        endpoint = self.endpoints.get(address)
        if endpoint is None or not endpoint.process.alive:
            raise failed(grpc.StatusCode.UNAVAILABLE, "connection refused")
        serving = self._serve(endpoint, caller, method, request, until_s, metadata, answer)
        if self.dice.random() < self.weather.twice:
            self._serve_later(address, caller, method, request, until_s, metadata)
        try:
            async with asyncio.timeout_at(until_s):
                data = await answer
        except TimeoutError:
            if self.dice.random() < 0.5:
                serving.cancel()  # as gRPC does, if it hears of the deadline
            raise failed(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline") from None
        await self._travel(address, caller, until_s)
        return data

    def _serve(
        self,
        endpoint: Endpoint,
        caller: str,
        method: str,
        request: bytes,
        until_s: float,
        metadata: Metadata,
        answer: "asyncio.Future[bytes]",
    ) -> "asyncio.Task[None]":
        async def serve() -> None:
            try:
                data = await endpoint.handler(method)(request, Context(self, caller, until_s, metadata))
            except Refused as refused:
                error = failed(refused.code, refused.details, refused.trailing)
            except (asyncio.CancelledError, Died):
                error = failed(grpc.StatusCode.UNAVAILABLE, "connection reset")
            else:
                if not answer.done():
                    answer.set_result(data)
                return
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # nobody may be waiting any more

        return endpoint.process.spawn(serve())

    def _serve_later(
        self, address: str, caller: str, method: str, request: bytes, until_s: float, metadata: Metadata
    ) -> None:
        """The same request arrives once more, whoever is there by then; nobody waits for that answer."""

        def again() -> None:
            endpoint = self.endpoints.get(address)
            if endpoint is not None and endpoint.process.alive:
                self._serve(endpoint, caller, method, request, until_s, metadata, self.loop.create_future())

        self.loop.call_later(self.dice.uniform(0.0, self.weather.late_s), again)

    async def _travel(self, start: str, end: str, until_s: float) -> None:
        weather, dice = self.weather, self.dice
        await asyncio.sleep(dice.uniform(0.0001, weather.delay_s))
        if dice.random() < weather.late:
            await asyncio.sleep(min(dice.uniform(0.0, weather.late_s), max(0.0, until_s - self.loop.time())))
        if self.loop.time() >= until_s:
            raise failed(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")
        if dice.random() < weather.reset:
            raise failed(grpc.StatusCode.UNAVAILABLE, "connection reset")
        if (start, end) in self.cut or dice.random() < weather.lost:
            await asyncio.sleep(max(0.0, until_s - self.loop.time()))
            raise failed(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")


class SimulatedClient(GroupClient):
    """The engine's own client of a group, with its retries, over the simulated wire; of the current process."""

    wire: Wire

    def __init__(self, group: int, addresses: Sequence[str], _: Links | None = None) -> None:
        """Opens nothing, and goes by no link: the wire is the same for all calls."""
        self.group, self.addresses = group, tuple(addresses)
        self._channels = dict.fromkeys(self.addresses)  # type: ignore[assignment]
        self._links = None
        self._leader = self.addresses[0]
        self._watch = LeaderWatch(self._ask_who_leads, self.addresses, self._follow)

    async def close(self) -> None:
        """Nothing is open."""
        self._watch.close()

    async def call_replica(
        self, address: str, method: str, request: bytes, timeout_s: float, metadata: Metadata = ()
    ) -> bytes:
        """See `GroupClient.call_replica`."""
        process = CURRENT.get()
        caller = CLIENTS if process is None else process.name
        return await self.wire.call(caller, address, method, request, timeout_s, tuple(metadata))


def failed(
    code: grpc.StatusCode, details: str, trailing: Sequence[tuple[str, str | bytes]] = ()
) -> grpc.aio.AioRpcError:
    """A failed call as gRPC raises it."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)
