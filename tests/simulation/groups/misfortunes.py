"""What goes wrong in a seed, and what is repaired: one thing at random after another."""

from typing import Any

import msgspec

from engine import failpoints
from engine.config import initial_settings
from engine.core.log_record import RecordKind
from engine.core.settings import encode_settings
from engine.failpoints import Failpoint
from tests.simulation.groups.plan import ACTIONS
from tests.simulation.groups.raft_group import RaftGroup
from tests.simulation.groups.world import ROUTERS, World, name_of


class Misfortunes:
    """Befall a world, by its plan."""

    def __init__(self, world: World) -> None:
        """Nothing has happened yet."""
        self.world, self.dice = world, world.dice
        self._epoch = 2

    async def act(self) -> None:
        """One random misfortune or repair."""
        await getattr(self, f"_{self._act_name()}")(self.dice.choice(self.world.groups))

    def _act_name(self) -> str:
        weights = self.world.plan.weights
        return self.dice.choices(list(ACTIONS), weights)[0] if any(weights) else "restart"

    async def _crash_leader(self, group: int) -> None:
        leader = self.world.leader(group)
        if leader is not None:
            self.world.kill(leader)

    async def _crash_replica(self, group: int) -> None:
        self.world.kill(self.dice.choice(self.world.replicas(group)))

    async def _crash_group(self, group: int) -> None:
        for node in self.world.replicas(group):
            self.world.kill(node)

    async def _crash_router(self, _: int) -> None:
        self.world.kill(self.dice.choice(self.world.routers))

    async def _failpoint(self, _: int) -> None:
        """Whatever process comes to a named step next, or a little later, dies there."""
        failpoints._Armed.name = self.dice.choice(list(Failpoint))
        failpoints._Armed.passes = self.dice.choice((0, 0, 1, 3))

    async def _isolate_leader(self, group: int) -> None:
        world = self.world
        leader = world.leader(group)
        if leader is not None:
            world.note(f"{leader.address} is isolated within its group")
            world.logs[group].isolate(leader.name)

    async def _hand_over(self, group: int) -> None:
        leader = self.world.leader(group)
        if leader is not None and leader.replica is not None:
            leader.replica.log.transfer_leadership()

    async def _cut(self, group: int) -> None:
        """A router, or a whole group, does not reach another group, or is not heard by it."""
        world = self.world
        others = [node.address for node in world.replicas(group)]
        start = self.dice.choice([*ROUTERS, *(node.address for node in world.nodes if node.group != group)])
        pairs = [(start, address) for address in others]
        if self.dice.random() < 0.5:
            pairs = [(end, begin) for begin, end in pairs]
        world.note(f"cut {pairs[0]} and so on")
        world.wire.cut.update(pairs)

    async def _mend(self, _: int) -> None:
        self.mend()

    def mend(self) -> None:
        """Everything is connected again."""
        world = self.world
        world.wire.cut.clear()
        for log in world.logs:
            log.heal()
            if isinstance(log, RaftGroup) and not world.peace:
                log.rough(world.plan.weather.lost / 2, world.plan.weather.twice / 2)

    async def _restart(self, _: int) -> None:
        for place in self.world.places.values():
            if not place.alive and self.dice.random() < 0.6:
                self.world.note(f"{name_of(place)} starts")
                await place.start()

    async def _slow(self, group: int) -> None:
        node = self.dice.choice(self.world.replicas(group))
        if node.replica is not None:
            applier: Any = node.replica.applier
            applier.turn_s_max = self.dice.choice((0.002, 0.03, 0.2))

    async def _skew(self, group: int) -> None:
        self.dice.choice(self.world.replicas(group)).skew_s = self.dice.uniform(-0.3, 0.3)

    async def _settings(self, _: int) -> None:
        """Another placement epoch, which the groups log one after the other."""
        self._epoch += 1
        self.log_settings()

    def log_settings(self) -> None:
        """Let each group that has a leader log today's placement."""
        world = self.world
        settings = msgspec.structs.replace(initial_settings(world.config), placement_epoch=self._epoch)
        for group in world.groups:
            leader = world.leader(group)
            if leader is not None and leader.replica is not None and world.book_settings(group) is not None:
                leader.replica.batcher.propose_alone(RecordKind.SETTINGS, encode_settings(settings))
