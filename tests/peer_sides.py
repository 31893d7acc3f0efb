"""Both ends of a peer connection: what one replica lets in and hears, over real sockets on the loopback."""

import asyncio

from engine.replication.transport.frames import split_records
from engine.replication.transport.messages import Append, Refusal
from engine.replication.transport.transport import Address, AsyncioTransport, PeerSecurity
from tests.ports import LOOPBACK, free_port
from tests.raft_bench import hello


def free_peer() -> Address:
    return Address(LOOPBACK, free_port())


class Side:
    """One replica's receiver and handshake: lets everyone in, or refuses everyone for a reason."""

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name, self.reason = name, reason
        self.peers: list[str] = []
        self.messages: list[tuple[str, object, bytes]] = []
        self.refusals: list[str] = []

    def connected(self, peer):
        self.peers.append(peer)

    def disconnected(self, peer):
        self.peers.remove(peer)

    def drained(self, peer):
        """Nothing waits for it."""

    def received(self, peer, message, payload):
        if isinstance(message, Append):
            split_records(message, payload)
        self.messages.append((peer, message, bytes(payload)))

    def hello(self):
        return hello(self.name)

    def judge(self, greeting):
        return None if self.reason is None else Refusal(self.reason, greeting.incarnation, False)

    def refused(self, peer, refusal):
        self.refusals.append(refusal.reason)


class Pair:
    """`b` dials `a`."""

    def __init__(self, one: Side, other: Side, security: dict[str, PeerSecurity] | None = None) -> None:
        addresses = {name: free_peer() for name in "ab"}
        self.sides = {"a": one, "b": other}
        self.ends = {name: AsyncioTransport(name, addresses, None, (security or {}).get(name)) for name in "ab"}

    async def __aenter__(self) -> "Pair":
        for name, end in self.ends.items():
            await end.start(self.sides[name], self.sides[name])
        return self

    async def __aexit__(self, *_: object) -> None:
        for end in self.ends.values():
            await end.stop()

    async def met(self) -> None:
        await until(lambda: self.sides["a"].peers == ["b"] and self.sides["b"].peers == ["a"])


async def until(condition, seconds: float = 60.0) -> None:
    """Wait for a condition; TimeoutError if it does not come about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
