"""Who waits for a group's leader, and for how long in vain.

A leader that dies resets its connections, and whoever waits asks another replica at once. One that is stopped, or whose
machine is gone, is only silent: then the other replicas are asked whom they follow, and where they have a new leader,
whoever waits for the old one gives up on it. What became of the calls there is unknown; sending them again is safe.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

from postingengine.v1.admin_service_pb2 import DescribeClusterResponse

SILENT_S: Final = 0.25
"""A replica that has answered nobody for so long, while calls wait, is asked after: longer than nearly all answers
take, and about as long as an election."""
LOOK_S: Final = 0.1
"""How often somebody looks whether a replica is silent, as long as calls wait, and asks again."""
ASK_S_MAX: Final = 0.5


class LeaderClaim(NamedTuple):
    """What a replica says of its group's leader. Of two that differ, the one of the higher term counts."""

    term: int
    address: str
    """Of the leader's API; empty where the replica knows of none."""


class LeaderWatch:
    """The calls to one group, each waiting for one of its replicas."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[LeaderClaim | None]],
        addresses: Iterable[str],
        moved: Callable[[str], None],
    ) -> None:
        """`ask`: what the replica at an address says, None if nothing; `moved` is called with the new leader's, one of
        `addresses`."""
        self._ask, self._addresses, self._moved = ask, tuple(addresses), moved
        self._waiting: dict[asyncio.Timeout, tuple[str, float]] = {}
        self._heard_s: dict[str, float] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    async def answer_of(self, address: str, answer: Awaitable[bytes]) -> bytes:
        """Wait for a replica's answer; raises TimeoutError if another one turns out to lead meanwhile."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as waiting:
            self._waiting[waiting] = (address, loop.time())
            if self._looking is None:
                self._looking = loop.call_later(LOOK_S, self._look)
            try:
                answered = await answer
            finally:
                self._waiting.pop(waiting, None)
            self._heard_s[address] = loop.time()
        return answered

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_S, self._look) if self._waiting else None
        silent = self._silent(loop.time() - SILENT_S)
        if silent and (self._asking is None or self._asking.done()):
            self._asking = loop.create_task(self._ask_others(silent))

    def _silent(self, since_s: float) -> set[str]:
        return {
            address
            for address, asked_s in self._waiting.values()
            if asked_s <= since_s and self._heard_s.get(address, 0.0) <= since_s
        }

    async def _ask_others(self, silent: set[str]) -> None:
        claims = await asyncio.gather(*(self._ask(one) for one in self._addresses if one not in silent))
        newest = max((claim for claim in claims if claim is not None and claim.address), default=None)
        if newest is None or newest.address in silent or newest.address not in self._addresses:
            return
        self._moved(newest.address)
        for waiting in [one for one, (address, _) in self._waiting.items() if address in silent]:
            del self._waiting[waiting]
            waiting.reschedule(0.0)


def claim_in(described: DescribeClusterResponse, group: int, address: str) -> LeaderClaim | None:
    """Return what the replica at `address` says of its group's leader in its description of the cluster."""
    for section in described.groups:
        if section.group == group:
            addresses = {one.replica: one.address for one in section.replicas}
            terms = [one.term for one in section.replicas if one.address == address]
            return LeaderClaim(max(terms, default=0), addresses.get(section.leader, ""))
    return None
