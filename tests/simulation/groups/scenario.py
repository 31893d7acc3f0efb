"""One seed: groups under random clients and misfortunes, and in the end peace, in which everything comes to rest."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from engine import failpoints
from engine.core.records import AccountFlag
from postingengine.v1.account_pb2 import Account
from postingengine.v1.posting_service_pb2 import CreateAccountsRequest, CreateAccountsResponse
from tests.protocol_rows import row
from tests.simulation.groups.applying import SimulatedApplier
from tests.simulation.groups.clients import Clients
from tests.simulation.groups.layout import flags, id_of, owners
from tests.simulation.groups.misfortunes import Misfortunes
from tests.simulation.groups.peace import CALM_S_MAX, Peace
from tests.simulation.groups.plan import Shape, Story
from tests.simulation.groups.process import own_tasks
from tests.simulation.groups.truth import require
from tests.simulation.groups.virtual_time import virtual_time
from tests.simulation.groups.wire import CLIENTS, SimulatedClient
from tests.simulation.groups.workload import FUNDS
from tests.simulation.groups.world import ROUTERS, World
from tests.simulation.history import Violation
from tests.simulation.virtual_loop import VirtualLoop

SERVICE = "/postingengine.v1.PostingService/"
RAFT_EVERY = 10
"""Every so many seeds the groups stand on real Raft logs."""
CHAOS_S = 2.0
STORY_S_MAX = 600.0
"""Virtual seconds in which the longest story must have ended: everything in it has a deadline far below."""
SLOT_USERS = ("engine.core.settings", "engine.core.book", "router.placement")


class Scenario:
    """Runs on a virtual loop; raises `Violation`."""

    def __init__(self, world: World, chaos_s: float, focus: str | None) -> None:
        """Nothing runs yet."""
        self.world, self.dice, self._chaos_s = world, world.dice, chaos_s
        self._misfortunes, self._clients = Misfortunes(world), Clients(world, focus)
        self._peace = Peace(world, self._misfortunes, self._clients)

    async def run(self) -> None:
        """Birth, chaos, peace, judgement."""
        world = self.world
        await self._begin()
        world.wire.weather = world.plan.weather
        clients = [world.loop.create_task(self._clients.ask_for_ever()) for _ in range(world.plan.clients)]
        end_s = world.loop.time() + self._chaos_s
        while world.loop.time() < end_s:
            await asyncio.sleep(self.dice.expovariate(1 / world.plan.act_every_s))
            await self._misfortunes.act()
            world.check()
        for client in clients:
            client.cancel()
        await self._peace.make()
        await self._peace.judge()
        world.story.indexes, world.story.steps = world.truth.indexes, sum(world.truth.steps.values())

    async def _begin(self) -> None:
        world = self.world
        await asyncio.gather(*(one.start() for one in (*world.nodes, *world.routers)))
        await world.until(lambda: all(world.leader(group) for group in world.groups), CALM_S_MAX, "no first leaders")
        await world.until(lambda: all(world.book_settings(group) for group in world.groups), 5.0, "no settings")
        self._misfortunes.log_settings()
        for group, names in enumerate(world.accounts):
            await self._create(group, names)
        await asyncio.sleep(0.3)
        funds = [
            row(f"f{name}", debit=names[-1], credit=name, amount=FUNDS)
            for names in world.accounts
            for name in names[:-1]
        ]
        while await self._clients.post(self.dice.choice(ROUTERS), funds, 2.0):
            await asyncio.sleep(0.2)

    async def _create(self, group: int, names: list[str]) -> None:
        limited = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
        request = CreateAccountsRequest(
            accounts=[
                Account(id=id_of(name), ledger=1, code=1, flags=flags(limited) if name != names[-1] else [])
                for name in names
            ]
        )
        leader = self.world.leader(group)
        assert leader is not None
        data = await self.world.wire.call(
            CLIENTS, leader.address, SERVICE + "CreateAccounts", request.SerializeToString(), 2.0, ()
        )
        made = CreateAccountsResponse.FromString(data).results
        require(len(made) == len(names), f"group {group} made {len(made)} accounts of {len(names)}")


def shape_of(seed: int, groups: int = 3, focus: str | None = None) -> Shape:
    """What a seed simulates unless told otherwise."""
    return Shape(groups, seed % RAFT_EVERY == 0, focus)


def run_seed(seed: int, chaos_s: float = CHAOS_S, shape: Shape | None = None) -> Story:
    """Run one seed to its end; raise `Violation`, with the story in its `history`."""
    loop = VirtualLoop()
    loop.set_task_factory(own_tasks)  # type: ignore[arg-type]
    asyncio.set_event_loop(loop)
    with _folder(loop) as folder:
        shape = shape or shape_of(seed)
        world = World(seed, loop, folder, shape)
        with _product(world):
            try:
                loop.run_until_complete(_bounded(Scenario(world, chaos_s, shape.focus)))
            except Violation as violation:
                violation.history = world.story  # type: ignore[attr-defined]
                raise
            finally:
                _end(loop, world)
    return world.story


async def _bounded(scenario: "Scenario") -> None:
    """Run a scenario; one that gets nowhere is a violation too, not a run without an end."""
    try:
        async with asyncio.timeout(STORY_S_MAX):
            await scenario.run()
    except TimeoutError as error:
        raise Violation(f"the story has not ended after {STORY_S_MAX:.0f} virtual seconds") from error


@contextlib.contextmanager
def _folder(loop: VirtualLoop) -> Iterator[Path]:
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="groups-", dir=shared if os.access(shared, os.W_OK) else None))
    try:
        with virtual_time(loop):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _product(world: World) -> Iterator[None]:
    """Put the simulated parts in the product's place."""

    class Client(SimulatedClient):
        wire = world.wire

    class Applier(SimulatedApplier):
        dice = world.dice
        watched = staticmethod(world.watched)  # type: ignore[assignment]

    class Killing:
        getpid = staticmethod(os.getpid)
        kill = staticmethod(world.kill_current)

    with ExitStack() as patches:
        patches.enter_context(mock.patch("engine.rpc.group_client.GroupClient", Client))
        patches.enter_context(mock.patch("engine.service.replica.Applier", Applier))
        patches.enter_context(mock.patch("engine.failpoints.os", Killing))
        for user in SLOT_USERS:
            patches.enter_context(mock.patch(f"{user}.group_of_slots", owners))
        yield


def _end(loop: VirtualLoop, world: World) -> None:
    failpoints._Armed.name = None
    loop.set_exception_handler(lambda *_: None)
    for place in world.places.values():
        place.crash()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()
