"""What a seed's story is about: groups, routers, the wire between them, and what is known to be true of all of it."""

import asyncio
import random
from pathlib import Path
from typing import Any

from engine import failpoints
from engine.config import initial_settings
from engine.core.settings import Settings, group_of_slots
from engine.exit_codes import EngineStopped
from tests.simulation.disk import Crash
from tests.simulation.groups.layout import CLUSTER_ID, configs, id_of, names_in
from tests.simulation.groups.node import Node, RouterNode
from tests.simulation.groups.plan import Plan, Shape, Story
from tests.simulation.groups.process import CURRENT, Died
from tests.simulation.groups.raft_group import RaftGroup
from tests.simulation.groups.shared_log import ReplicaLog, SharedLog
from tests.simulation.groups.truth import Truth
from tests.simulation.groups.wire import Wire
from tests.simulation.groups.workload import names_of
from tests.simulation.history import Violation
from tests.simulation.virtual_loop import VirtualLoop

MEMBERS = ("a", "b", "c")
"""Of a group on real Raft logs; on a shared log two replicas do, one of which has to be up."""
ROUTERS = ("router-1", "router-2")


class World:
    """On a virtual loop; whatever is found wrong becomes its `failure`."""

    def __init__(self, seed: int, loop: VirtualLoop, folder: Path, shape: Shape) -> None:
        raft, self.groups = shape.raft, range(shape.groups)
        self.dice, self.loop = random.Random(seed), loop
        self.plan = Plan.drawn(self.dice, raft)
        self.story = Story(raft=raft)
        members = MEMBERS if raft else MEMBERS[:2]
        self.config, old_config = configs(len(self.groups), members)
        homes = group_of_slots(initial_settings(self.config))
        self.accounts = [names_in(group, homes) for group in self.groups]
        self.truth = Truth(
            len(self.groups), {id_of(name): group for group, names in enumerate(self.accounts) for name in names}
        )
        self.wire = Wire(loop, self.dice)
        self.logs: list[RaftGroup | SharedLog] = [
            RaftGroup(group, members, loop, self.dice) if raft else SharedLog(members, loop, self.dice)
            for group in self.groups
        ]
        self.nodes = [
            Node(self.config, group, name, folder / f"{group}{name}", self.wire, self.log_of)
            for group in self.groups
            for name in members
        ]
        self.routers = [RouterNode(name, old_config, self.wire) for name in ROUTERS]
        self.by_address = {node.address: node for node in self.nodes}
        self.places: dict[str, Node | RouterNode] = {**self.by_address, **{one.name: one for one in self.routers}}
        self.failure: BaseException | None = None
        self.peace = False
        for node in self.nodes:
            node.failed, node.on_end = self.stopped, self.ended
        for log in self.logs:
            if isinstance(log, RaftGroup):
                log.failed = self.failed
        loop.set_exception_handler(self.callback_raised)

    def ended(self, node: Node) -> None:
        log = self.logs[node.group]
        if isinstance(log, RaftGroup):
            log.ended(node.name)
        elif node.name in log.up:
            log.leave(log.up[node.name])

    def log_of(self, node: Node) -> Any:
        log = self.logs[node.group]
        if isinstance(log, RaftGroup):
            return log.make(node.name, CLUSTER_ID, lambda stopped: self.stopped(node, stopped))
        return ReplicaLog(log, node.name)

    def stopped(self, node: Node, stopped: EngineStopped) -> None:
        self.failed(stopped)

    def failed(self, error: BaseException) -> None:
        if self.failure is None and not isinstance(error, Died | Crash | asyncio.CancelledError):
            self.failure = error

    def callback_raised(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.failed(error)

    def check(self) -> None:
        if self.failure is not None:
            if isinstance(self.failure, Violation):
                raise self.failure
            raise Violation(f"STOPPED: {type(self.failure).__name__}: {self.failure}") from self.failure

    def note(self, event: str) -> None:
        self.story.events.append(f"{self.loop.time():8.3f} {event}")

    def watched(self, process: Any, machine: Any, committed: Any, gave: Any) -> None:
        """A replica applied a record."""
        node = self.by_address[process.name]
        try:
            self.truth.applied(node.group, machine, process.rows, committed.log_index, committed.record, gave)
        except Violation as violation:
            self.failed(violation)

    def kill(self, place: Node | RouterNode) -> None:
        if place.alive:
            self.story.crashes += 1
            self.note(f"{name_of(place)} is killed")
            place.crash()

    def kill_current(self, _: int, __: int) -> None:
        """The process whose code runs now is killed where it is: for failpoints."""
        process, point = CURRENT.get(), failpoints._Armed.name
        failpoints._Armed.name = None
        if process is None or not process.alive:
            return
        self.story.crashes += 1
        self.note(f"{process.name} dies at {point}")
        place = self.places[process.name]
        self.loop.call_soon(lambda: place.crash() if place.process is process else None)
        process.alive = False
        raise Died

    async def until(self, condition: Any, seconds: float, sentence: str) -> None:
        deadline = self.loop.time() + seconds
        while not condition():
            await asyncio.sleep(0.02)
            self.check()
            if self.loop.time() > deadline:
                raise Violation(f"LIVENESS: {sentence}: {self.picture()}")

    def picture(self) -> str:
        up = "; ".join(
            f"{node.address} {'leads' if node.leads else 'follows'} {node.replica.machine.applied_index}"
            if node.replica
            else f"{node.address} down"
            for node in self.nodes
        )
        return f"open {self.open_chains()}; {up}"

    def open_chains(self) -> list[str]:
        """Chains that some group has open."""
        return [
            f"{node.address}: {names_of(one.word.chain.rows)}"
            for node in self.nodes
            if node.leads and node.replica is not None
            for one in node.replica.machine.open_chains(-1, 10)
        ]

    def replicas(self, group: int) -> list[Node]:
        return [node for node in self.nodes if node.group == group]

    def leader(self, group: int) -> Node | None:
        return next((node for node in self.replicas(group) if node.leads), None)

    def book_settings(self, group: int) -> Settings | None:
        leader = self.leader(group)
        return leader.replica.machine.book.settings if leader is not None and leader.replica is not None else None


def name_of(place: Node | RouterNode) -> str:
    """Return where a place is on the wire."""
    return place.address if isinstance(place, Node) else place.name
