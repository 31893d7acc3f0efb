"""Peace: everything is healed, and must come to rest; then all that was told must be so."""

import asyncio
from typing import Any

import grpc

from engine import failpoints
from postingengine.v1.admin_service_pb2 import AuditRequest, AuditResponse
from tests.simulation.groups.clients import Clients
from tests.simulation.groups.misfortunes import Misfortunes
from tests.simulation.groups.truth import require
from tests.simulation.groups.wire import CLIENTS
from tests.simulation.groups.workload import HOLD_S_MAX, names_of
from tests.simulation.groups.world import ROUTERS, World

ADMIN = "/postingengine.v1.AdminService/"
HEAL_S_MAX = 5.0
"""Within so long after healing every chain has ended."""
CALM_S_MAX = 20.0


class Peace:
    """Comes after the misfortunes."""

    def __init__(self, world: World, misfortunes: Misfortunes, clients: Clients) -> None:
        """Not yet."""
        self.world, self.dice = world, world.dice
        self._misfortunes, self._clients = misfortunes, clients

    async def make(self) -> None:
        """Heal, and let everything come to rest."""
        world = self.world
        world.note("peace")
        world.peace = True
        failpoints._Armed.name = None
        world.wire.heal()
        self._misfortunes.mend()
        for place in world.places.values():
            if not place.alive:
                await place.start()
        for node in world.nodes:
            node.skew_s = 0.0
            if node.replica is not None:
                applier: Any = node.replica.applier
                applier.turn_s_max = 0.002
        await world.until(lambda: all(map(self._is_led, world.groups)), CALM_S_MAX, "no leaders in peace")
        await self._rest()

    async def judge(self) -> None:
        """Everything is asked again, through one router; then books and transit balances are as they must be."""
        world = self.world
        chains = list(self._clients.asked)
        for first in range(0, len(chains), 20):
            left, until_s = chains[first : first + 20], world.loop.time() + CALM_S_MAX
            while left:
                left = await self._clients.post(self.dice.choice(ROUTERS), left, 5.0)
                world.check()
                require(world.loop.time() < until_s, f"LIVENESS: no outcome for {[names_of(one) for one in left]}")
        await self._rest()
        world.truth.check_transits(len(world.groups))
        for group in world.groups:
            await self._audit(group)

    async def _rest(self) -> None:
        """A router that still serves a call may open a chain again, to end it at once: its caller is long gone."""
        world = self.world
        await world.until(
            lambda: not any(one.calls.running for one in world.routers), CALM_S_MAX, "a call does not end"
        )
        await world.until(lambda: not world.open_chains(), HEAL_S_MAX, "a chain does not end")
        await world.until(self._nothing_held, HEAL_S_MAX + HOLD_S_MAX, "a hold does not end")
        await world.until(self._agreed, HEAL_S_MAX, "the replicas do not agree")

    async def _audit(self, group: int) -> None:
        world = self.world
        audit = AuditResponse.FromString(await self._audited(group)).groups[0]
        require(audit.balanced and not audit.open_chains, f"I9: the audit of group {group} at rest: {audit}")
        for node in world.replicas(group):
            assert node.replica is not None
            reserved = node.replica.machine.book.account_rows()[:, 6:10]
            require(not reserved.any(), f"I7: {node.address} has something reserved at rest")

    async def _audited(self, group: int) -> bytes:
        """Ask the leader, or the next one: an election may follow the healing a little later."""
        world, request = self.world, AuditRequest().SerializeToString()
        until_s = world.loop.time() + CALM_S_MAX
        while True:
            leader = world.leader(group)
            try:
                if leader is not None:
                    return await world.wire.call(CLIENTS, leader.address, ADMIN + "Audit", request, 2.0, ())
            except grpc.aio.AioRpcError as error:
                world.note(f"the audit of group {group} is asked for again: {error.details()}")
            require(world.loop.time() < until_s, f"LIVENESS: nobody audits group {group}")
            await asyncio.sleep(0.05)

    def _is_led(self, group: int) -> bool:
        """Whether one replica leads, and none that was deposed believes that it still does."""
        return sum(node.leads for node in self.world.replicas(group)) == 1

    def _nothing_held(self) -> bool:
        books = [node.replica.machine.book for node in self.world.nodes if node.replica is not None]
        return not any(book.open_reservation_count or book.open_chain_count for book in books)

    def _agreed(self) -> bool:
        return all(
            len({node.replica.machine.applied_index if node.replica else -1 for node in self.world.replicas(group)})
            == 1
            for group in self.world.groups
        )
