"""One seed: groups under random clients and misfortunes, and in the end peace, in which everything comes to rest."""

import asyncio
import contextlib
import functools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import grpc
import msgspec
import numpy as np

from engine import failpoints
from engine.config import ClusterConfig, GroupConfig, LimitsConfig, ReplicaConfig, initial_settings
from engine.core.known import RESULT
from engine.core.limits import SLOTS
from engine.core.log_record import RecordKind
from engine.core.placement import slot_of
from engine.core.records import RECORD_BYTES, AccountFlag
from engine.core.settings import Ledger, Settings, encode_settings, group_of_slots
from engine.exit_codes import EngineStopped
from engine.failpoints import Failpoint
from engine.rpc.batch import encode_varint
from engine.rpc.faults import INVALID_ARGUMENT, fault_of, fault_of_error
from postingengine.v1.account_pb2 import Account
from postingengine.v1.admin_service_pb2 import AuditRequest, AuditResponse
from postingengine.v1.posting_service_pb2 import (
    CreateAccountsRequest,
    CreateAccountsResponse,
    PostTransfersResponse,
)
from tests.protocol_rows import row
from tests.simulation.disk import Crash
from tests.simulation.groups.applying import SimulatedApplier
from tests.simulation.groups.node import Node, RouterNode
from tests.simulation.groups.process import CURRENT, Died, own_tasks
from tests.simulation.groups.raft_group import RaftGroup
from tests.simulation.groups.shared_log import ReplicaLog, SharedLog
from tests.simulation.groups.truth import Truth, require
from tests.simulation.groups.virtual_time import virtual_time
from tests.simulation.groups.wire import CLIENTS, SimulatedClient, Weather, Wire
from tests.simulation.groups.workload import FUNDS, HOLD_S_MAX, Writer, names_of
from tests.simulation.history import Violation
from tests.simulation.virtual_loop import VirtualLoop

MEMBERS = ("a", "b", "c")
"""Of a group on real Raft logs; on a shared log two replicas do, one of which has to be up."""
ROUTERS = ("router-1", "router-2")
ACCOUNTS = 3
CLUSTER_ID = "5a" * 16
HASH_SEED = 7
POST = "PostTransfers"
SERVICE = "/postingengine.v1.PostingService/"
ADMIN = "/postingengine.v1.AdminService/"
RAFT_EVERY = 10
"""Every so many seeds the groups stand on real Raft logs."""
HEAL_S_MAX = 5.0
"""Within so long after healing every chain has ended."""
CALM_S_MAX = 20.0
GRACE_MS = 150
CHAOS_S = 2.0
OTHER_BODIES = 0.08
OTHER_BODIES_FOCUS = 0.4
"""How often an id is asked for with another body."""
TOO_MUCH_FOCUS = 0.4
"""How often more is asked for than there is."""
RACES = 0.06
RACES_FOCUS = 0.6
"""How often two bodies of one id are asked for at once."""
TWICE = 0.12
"""How often the same is asked through two routers at once."""
SLOT_USERS = ("engine.core.settings", "engine.core.book", "router.placement")
ACTIONS = {
    "crash_leader": 8,
    "crash_replica": 4,
    "crash_group": 2,
    "crash_router": 5,
    "failpoint": 14,
    "isolate_leader": 5,
    "hand_over": 3,
    "cut": 8,
    "mend": 16,
    "restart": 40,
    "slow": 4,
    "skew": 2,
    "settings": 2,
}
"""What may happen, and how likely it is beside the others."""


@dataclass(frozen=True)
class Plan:
    """How hard one seed is treated, drawn from the seed."""

    weather: Weather
    act_every_s: float
    client_every_s: float
    clients: int
    raft: bool
    weights: tuple[float, ...]

    @staticmethod
    def drawn(dice: random.Random, raft: bool) -> "Plan":
        rough = dice.choice((0.0, 0.3, 1.0))
        weather = Weather(
            lost=rough * dice.choice((0.0, 0.02, 0.08)),
            reset=rough * dice.choice((0.0, 0.02, 0.08)),
            twice=rough * dice.choice((0.0, 0.1, 0.3)),
            late=rough * dice.choice((0.0, 0.02, 0.1)),
            delay_s=dice.choice((0.002, 0.01, 0.04)),
        )
        return Plan(
            weather,
            act_every_s=dice.choice((0.05, 0.15, 0.4)),
            client_every_s=dice.choice((0.05, 0.1, 0.2)),
            clients=dice.choice((2, 3)),
            raft=raft,
            weights=tuple(weight * dice.choice((0.0, 0.3, 1.0, 1.0, 4.0)) for weight in ACTIONS.values()),
        )


class Shape(NamedTuple):
    """What is simulated."""

    groups: int = 3
    raft: bool = False
    focus: str | None = None
    """"bodies": many ids are asked for with another body; "refusals": many transfers ask for too much."""


@dataclass
class Story:
    """What a seed has to tell."""

    events: list[str] = field(default_factory=list)
    told: int = 0
    unknown: int = 0
    indexes: int = 0
    steps: int = 0
    crashes: int = 0
    raft: bool = False


class Scenario:
    """Runs on a virtual loop; raises `Violation`."""

    def __init__(self, seed: int, loop: VirtualLoop, chaos_s: float, folder: Path, world: "Shape") -> None:
        raft, self.groups = world.raft, range(world.groups)
        self.dice, self.loop, self.chaos_s = random.Random(seed), loop, chaos_s
        self.plan = Plan.drawn(self.dice, raft)
        self.story = Story(raft=raft)
        members = MEMBERS if raft else MEMBERS[:2]
        self.config, self.old_config = _configs(len(self.groups), members)
        homes = group_of_slots(initial_settings(self.config))
        self.accounts = [_names_in(group, homes) for group in self.groups]
        self.truth = Truth(
            len(self.groups), {_id_of(name): group for group, names in enumerate(self.accounts) for name in names}
        )
        self.wire = Wire(loop, self.dice)
        self.epoch = 2
        self.logs: list[RaftGroup | SharedLog] = [
            RaftGroup(group, members, loop, self.dice) if raft else SharedLog(members, loop, self.dice)
            for group in self.groups
        ]
        self.nodes = [
            Node(self.config, group, name, folder / f"{group}{name}", self.wire, self._log_of)
            for group in self.groups
            for name in members
        ]
        self.routers = [RouterNode(name, self.old_config, self.wire) for name in ROUTERS]
        self.by_address = {node.address: node for node in self.nodes}
        self.places: dict[str, Node | RouterNode] = {**self.by_address, **{one.name: one for one in self.routers}}
        other_bodies = OTHER_BODIES_FOCUS if world.focus == "bodies" else OTHER_BODIES
        too_much = TOO_MUCH_FOCUS if world.focus == "refusals" else 0.0
        self.writer = Writer(self.dice, self.accounts, other_bodies, too_much)
        self.races = RACES_FOCUS if world.focus == "bodies" else RACES
        self.asked: dict[bytes, None] = {}
        self.failure: BaseException | None = None
        self.peace = False
        for node in self.nodes:
            node.failed, node.on_end = self._stopped, self._ended
        for log in self.logs:
            if isinstance(log, RaftGroup):
                log.failed = self._failed
        loop.set_exception_handler(self._callback_raised)

    # The story.

    async def run(self) -> None:
        """Birth, chaos, peace, judgement."""
        await self._begin()
        self.wire.weather = self.plan.weather
        clients = [self.loop.create_task(self._client()) for _ in range(self.plan.clients)]
        end_s = self.loop.time() + self.chaos_s
        while self.loop.time() < end_s:
            await asyncio.sleep(self.dice.expovariate(1 / self.plan.act_every_s))
            await self._act()
            self._check()
        for client in clients:
            client.cancel()
        await self._make_peace()
        await self._judge()
        self.story.indexes, self.story.steps = self.truth.indexes, sum(self.truth.steps.values())

    async def _begin(self) -> None:
        await asyncio.gather(*(one.start() for one in (*self.nodes, *self.routers)))
        await self._until(lambda: all(self._leader(group) for group in self.groups), CALM_S_MAX, "no first leaders")
        await self._until(lambda: all(self._book_settings(group) for group in self.groups), 5.0, "no settings")
        self._log_settings()
        for group, names in enumerate(self.accounts):
            await self._create(group, names)
        await asyncio.sleep(0.3)
        funds = [
            row(f"f{name}", debit=names[-1], credit=name, amount=FUNDS)
            for names in self.accounts
            for name in names[:-1]
        ]
        while await self._post(self.dice.choice(ROUTERS), funds, 2.0):
            await asyncio.sleep(0.2)

    async def _create(self, group: int, names: list[str]) -> None:
        limited = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
        request = CreateAccountsRequest(
            accounts=[
                Account(id=_id_of(name), ledger=1, code=1, flags=_flags(limited) if name != names[-1] else [])
                for name in names
            ]
        )
        leader = self._leader(group)
        assert leader is not None
        data = await self.wire.call(
            CLIENTS, leader.address, SERVICE + "CreateAccounts", request.SerializeToString(), 2.0, ()
        )
        made = CreateAccountsResponse.FromString(data).results
        require(len(made) == len(names), f"group {group} made {len(made)} accounts of {len(names)}")

    # What may go wrong.

    def _act_name(self) -> str:
        weights = self.plan.weights
        return self.dice.choices(list(ACTIONS), weights)[0] if any(weights) else "restart"

    async def _act(self) -> None:
        """One random misfortune or repair."""
        await getattr(self, f"_{self._act_name()}")(self.dice.choice(self.groups))

    async def _crash_leader(self, group: int) -> None:
        leader = self._leader(group)
        if leader is not None:
            self._kill(leader)

    async def _crash_replica(self, group: int) -> None:
        self._kill(self.dice.choice(self._replicas(group)))

    async def _crash_group(self, group: int) -> None:
        for node in self._replicas(group):
            self._kill(node)

    async def _crash_router(self, _: int) -> None:
        self._kill(self.dice.choice(self.routers))

    async def _failpoint(self, _: int) -> None:
        """Whatever process comes to a named step next, or a little later, dies there."""
        failpoints._Armed.name = self.dice.choice(list(Failpoint))
        failpoints._Armed.passes = self.dice.choice((0, 0, 1, 3))

    async def _isolate_leader(self, group: int) -> None:
        leader = self._leader(group)
        if leader is not None:
            self._note(f"{leader.address} is isolated within its group")
            self.logs[group].isolate(leader.name)

    async def _hand_over(self, group: int) -> None:
        leader = self._leader(group)
        if leader is not None and leader.replica is not None:
            leader.replica.log.transfer_leadership()

    async def _cut(self, group: int) -> None:
        """A router, or a whole group, does not reach another group, or is not heard by it."""
        others = [node.address for node in self._replicas(group)]
        start = self.dice.choice([*ROUTERS, *(node.address for node in self.nodes if node.group != group)])
        pairs = [(start, address) for address in others]
        if self.dice.random() < 0.5:
            pairs = [(end, begin) for begin, end in pairs]
        self._note(f"cut {pairs[0]} and so on")
        self.wire.cut.update(pairs)

    async def _mend(self, _: int) -> None:
        self.wire.cut.clear()
        for log in self.logs:
            log.heal()
            if isinstance(log, RaftGroup) and not self.peace:
                log.rough(self.plan.weather.lost / 2, self.plan.weather.twice / 2)

    async def _restart(self, _: int) -> None:
        for place in self.places.values():
            if not place.alive and self.dice.random() < 0.6:
                self._note(f"{_name(place)} starts")
                await place.start()

    async def _slow(self, group: int) -> None:
        node = self.dice.choice(self._replicas(group))
        if node.replica is not None:
            applier: Any = node.replica.applier
            applier.turn_s_max = self.dice.choice((0.002, 0.03, 0.2))

    async def _skew(self, group: int) -> None:
        self.dice.choice(self._replicas(group)).skew_s = self.dice.uniform(-0.3, 0.3)

    async def _settings(self, _: int) -> None:
        """Another placement epoch, which the groups log one after the other."""
        self.epoch += 1
        self._log_settings()

    def _log_settings(self) -> None:
        settings = msgspec.structs.replace(initial_settings(self.config), placement_epoch=self.epoch)
        for group in self.groups:
            leader = self._leader(group)
            if leader is not None and leader.replica is not None and self._book_settings(group) is not None:
                leader.replica.batcher.propose_alone(RecordKind.SETTINGS, encode_settings(settings))

    def _kill(self, place: Node | RouterNode) -> None:
        if place.alive:
            self.story.crashes += 1
            self._note(f"{_name(place)} is killed")
            place.crash()

    def kill_current(self, _: int, __: int) -> None:
        """The process whose code runs now is killed where it is: for failpoints."""
        process, point = CURRENT.get(), failpoints._Armed.name
        failpoints._Armed.name = None
        if process is None or not process.alive:
            return
        self.story.crashes += 1
        self._note(f"{process.name} dies at {point}")
        place = self.places[process.name]
        self.loop.call_soon(lambda: place.crash() if place.process is process else None)
        process.alive = False
        raise Died

    # What is heard of it.

    def _ended(self, node: Node) -> None:
        log = self.logs[node.group]
        if isinstance(log, RaftGroup):
            log.ended(node.name)
        elif node.name in log.up:
            log.leave(log.up[node.name])

    def _log_of(self, node: Node) -> Any:
        log = self.logs[node.group]
        if isinstance(log, RaftGroup):
            return log.make(node.name, CLUSTER_ID, lambda stopped: self._stopped(node, stopped))
        return ReplicaLog(log, node.name)

    def _stopped(self, node: Node, stopped: EngineStopped) -> None:
        self._failed(stopped)

    def _failed(self, error: BaseException) -> None:
        if self.failure is None and not isinstance(error, Died | Crash | asyncio.CancelledError):
            self.failure = error

    def _callback_raised(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self._failed(error)

    def _check(self) -> None:
        if self.failure is not None:
            if isinstance(self.failure, Violation):
                raise self.failure
            raise Violation(f"STOPPED: {type(self.failure).__name__}: {self.failure}") from self.failure

    def _note(self, event: str) -> None:
        self.story.events.append(f"{self.loop.time():8.3f} {event}")

    def watched(self, process: Any, machine: Any, committed: Any, gave: Any) -> None:
        """A replica applied a record."""
        node = self.by_address[process.name]
        try:
            self.truth.applied(node.group, machine, process.rows, committed.log_index, committed.record, gave)
        except Violation as violation:
            self._failed(violation)

    # Clients.

    async def _client(self) -> None:
        try:
            while True:
                await asyncio.sleep(self.dice.expovariate(1 / self.plan.client_every_s))
                batches, spread_s = [self.writer.batch()], 0.0
                choice = self.dice.random()
                if choice < self.races:
                    batches, spread_s = self.writer.race(), 6 * self.plan.weather.delay_s
                elif choice < self.races + TWICE:
                    batches *= 2
                for chains in batches:
                    self.asked.update(dict.fromkeys(chains))
                await asyncio.gather(*(self._insist(chains, spread_s) for chains in batches))
        except Violation as violation:
            self._failed(violation)

    async def _insist(self, chains: list[bytes], spread_s: float) -> None:
        """Retry blindly through whatever router, a few times; then leave it for peace."""
        await asyncio.sleep(self.dice.uniform(0.0, spread_s))
        for _ in range(self.dice.choice((1, 2, 4))):
            chains = await self._post(self.dice.choice(ROUTERS), chains, self.dice.choice((0.3, 1.0, 3.0)))
            if not chains:
                return
            await asyncio.sleep(self.dice.uniform(0.0, 0.3))

    async def _post(self, router: str, chains: list[bytes], timeout_s: float) -> list[bytes]:
        """Ask for chains; return those of which the outcome is still unknown."""
        packed = b"".join(chains)
        request = b"".join((b"\x12", encode_varint(len(packed)), packed))
        try:
            data = await self.wire.call(CLIENTS, router, POST, request, timeout_s, ())
        except grpc.aio.AioRpcError as error:
            self.story.unknown += len(chains)
            fault = fault_of_error(error)
            return [] if fault is not None and fault.code == INVALID_ARGUMENT else chains
        response = PostTransfersResponse.FromString(data)
        outcomes = np.frombuffer(response.packed_results, RESULT)["outcome"].tolist()
        invalid = {
            one.index for one in response.faults if (fault_of(one.status) or one.status).code == INVALID_ARGUMENT
        }
        unknown, at = [], 0
        for chain in chains:
            legs = len(chain) // RECORD_BYTES
            told = tuple(outcomes[at : at + legs])
            if all(told):
                self.story.told += 1
                self._note(f"{names_of(chain)} is told {told} by {router}")
                self.truth.answered(chain, told)
            elif at not in invalid:
                unknown.append(chain)
            at += legs
        self.story.unknown += len(unknown)
        return unknown

    # Peace.

    async def _make_peace(self) -> None:
        self._note("peace")
        self.peace = True
        failpoints._Armed.name = None
        self.wire.heal()
        await self._mend(0)
        for place in self.places.values():
            if not place.alive:
                await place.start()
        for node in self.nodes:
            node.skew_s = 0.0
            if node.replica is not None:
                applier: Any = node.replica.applier
                applier.turn_s_max = 0.002
        await self._until(lambda: all(self._leader(group) for group in self.groups), CALM_S_MAX, "no leaders in peace")
        await self._until(lambda: not self._open(), HEAL_S_MAX, "a chain does not end")
        await self._until(self._nothing_held, HEAL_S_MAX + HOLD_S_MAX, "a hold does not end")
        await self._until(self._agreed, HEAL_S_MAX, "the replicas do not agree")

    async def _judge(self) -> None:
        """Everything is asked again, through one router; then books and transit balances are as they must be."""
        chains = list(self.asked)
        for first in range(0, len(chains), 20):
            left, until_s = chains[first : first + 20], self.loop.time() + CALM_S_MAX
            while left:
                left = await self._post(self.dice.choice(ROUTERS), left, 5.0)
                self._check()
                require(self.loop.time() < until_s, f"LIVENESS: no outcome for {[names_of(one) for one in left]}")
        await self._until(lambda: not self._open(), HEAL_S_MAX, "a chain does not end")
        await self._until(self._nothing_held, HEAL_S_MAX + HOLD_S_MAX, "a hold does not end")
        await self._until(self._agreed, HEAL_S_MAX, "the replicas do not agree")
        self.truth.check_transits(len(self.groups))
        for group in self.groups:
            await self._audit(group)

    async def _audit(self, group: int) -> None:
        leader = self._leader(group)
        assert leader is not None
        data = await self.wire.call(
            CLIENTS, leader.address, ADMIN + "Audit", AuditRequest().SerializeToString(), 2.0, ()
        )
        audit = AuditResponse.FromString(data).groups[0]
        require(audit.balanced and not audit.open_chains, f"I9: the audit of group {group} at rest: {audit}")
        for node in self._replicas(group):
            assert node.replica is not None
            reserved = node.replica.machine.book.account_rows()[:, 6:10]
            require(not reserved.any(), f"I7: {node.address} has something reserved at rest")

    def _open(self) -> list[str]:
        """Chains that some group has open."""
        return [
            f"{node.address}: {names_of(one.word.chain.rows)}"
            for node in self.nodes
            if node.leads and node.replica is not None
            for one in node.replica.machine.open_chains(-1, 10)
        ]

    def _nothing_held(self) -> bool:
        books = [node.replica.machine.book for node in self.nodes if node.replica is not None]
        return not any(book.open_reservation_count or book.open_chain_count for book in books)

    def _agreed(self) -> bool:
        return all(
            len({node.replica.machine.applied_index if node.replica else -1 for node in self._replicas(group)}) == 1
            for group in self.groups
        )

    async def _until(self, condition: Any, seconds: float, sentence: str) -> None:
        deadline = self.loop.time() + seconds
        while not condition():
            await asyncio.sleep(0.02)
            self._check()
            if self.loop.time() > deadline:
                raise Violation(f"LIVENESS: {sentence}: {self._picture()}")

    def _picture(self) -> str:
        up = "; ".join(
            f"{node.address} {'leads' if node.leads else 'follows'} {node.replica.machine.applied_index}"
            if node.replica
            else f"{node.address} down"
            for node in self.nodes
        )
        return f"open {self._open()}; {up}"

    # Who is who.

    def _replicas(self, group: int) -> list[Node]:
        return [node for node in self.nodes if node.group == group]

    def _leader(self, group: int) -> Node | None:
        return next((node for node in self._replicas(group) if node.leads), None)

    def _book_settings(self, group: int) -> Settings | None:
        leader = self._leader(group)
        return leader.replica.machine.book.settings if leader is not None and leader.replica is not None else None


def _configs(count: int, members: tuple[str, ...]) -> tuple[ClusterConfig, ClusterConfig]:
    """The cluster's file, and an old one that shares the slots otherwise: every router starts with that."""
    limits = LimitsConfig(courier_grace_ms=GRACE_MS, log_record_bytes_target=8 << 10, queue_age_ms_max=2000)
    groups = tuple(
        GroupConfig(
            group=group,
            replicas=tuple(
                ReplicaConfig(id=name, peer=f"peer-{group}{name}:1", grpc=f"node-{group}{name}:1", folder="")
                for name in members
            ),
        )
        for group in range(count)
    )
    config = ClusterConfig(
        cluster_id=CLUSTER_ID, hash_seed=HASH_SEED, ledgers=(Ledger(1, "EUR", 2),), groups=groups, limits=limits
    )
    ranges = [(SLOTS * share // count, SLOTS * (share + 1) // count - 1) for share in range(count)]
    old = tuple(msgspec.structs.replace(one, slots=(ranges[(one.group + 1) % count],)) for one in groups)
    return config, msgspec.structs.replace(config, groups=old)


def _names_in(group: int, homes: list[int]) -> list[str]:
    named = (f"account-{number}" for number in range(10_000))
    found = (name for name in named if homes[slot_of(_id_of(name), HASH_SEED)] == group)
    return [next(found) for _ in range(ACCOUNTS)]


def _id_of(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def _flags(flag: AccountFlag) -> list[Any]:
    return [1] if flag is AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS else []


@functools.cache
def _owners(settings: Settings) -> list[int]:
    """The same few settings are asked for often."""
    return group_of_slots(settings)


def _name(place: Node | RouterNode) -> str:
    return place.address if isinstance(place, Node) else place.name


def shape_of(seed: int, groups: int = 3, focus: str | None = None) -> Shape:
    """What a seed simulates unless told otherwise."""
    return Shape(groups, seed % RAFT_EVERY == 0, focus)


def run_seed(seed: int, chaos_s: float = CHAOS_S, shape: Shape | None = None) -> Story:
    """Run one seed to its end; raise `Violation`, with the story in its `history`."""
    loop = VirtualLoop()
    loop.set_task_factory(own_tasks)  # type: ignore[arg-type]
    asyncio.set_event_loop(loop)
    with _world(loop) as folder:
        scenario = Scenario(seed, loop, chaos_s, folder, shape or shape_of(seed))
        with _product(scenario):
            try:
                loop.run_until_complete(scenario.run())
            except Violation as violation:
                violation.history = scenario.story  # type: ignore[attr-defined]
                raise
            finally:
                _end(loop, scenario)
    return scenario.story


@contextlib.contextmanager
def _world(loop: VirtualLoop) -> Iterator[Path]:
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="groups-", dir=shared if os.access(shared, os.W_OK) else None))
    try:
        with virtual_time(loop):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _product(scenario: Scenario) -> Iterator[None]:
    """Put the simulated parts in the product's place."""

    class Client(SimulatedClient):
        wire = scenario.wire

    class Applier(SimulatedApplier):
        dice = scenario.dice
        watched = staticmethod(scenario.watched)  # type: ignore[assignment]

    class Killing:
        getpid = staticmethod(os.getpid)
        kill = staticmethod(scenario.kill_current)

    with ExitStack() as patches:
        patches.enter_context(mock.patch("engine.rpc.group_client.GroupClient", Client))
        patches.enter_context(mock.patch("engine.service.replica.Applier", Applier))
        patches.enter_context(mock.patch("engine.failpoints.os", Killing))
        for user in SLOT_USERS:
            patches.enter_context(mock.patch(f"{user}.group_of_slots", _owners))
        yield


def _end(loop: VirtualLoop, scenario: Scenario) -> None:
    failpoints._Armed.name = None
    loop.set_exception_handler(lambda *_: None)
    for place in scenario.places.values():
        place.crash()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()
