"""One group's log as the replication's own simulation has it: real `RaftLog`s over a simulated network and disks."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.exit_codes import EngineStopped
from engine.replication.raft.boot import Machine, Placement
from engine.replication.raft.log import RaftLog
from engine.replication.raft.settings import RaftSettings
from engine.replication.raft.snapshot import Snapshot
from tests.simulation.disk import SimulatedDisk
from tests.simulation.history import Violation
from tests.simulation.network import Network, SimulatedTransport, Weather
from tests.simulation.replica import abandon
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.worker import SimulatedWorker

LOG_FOLDER = Path("/log")
SETTINGS = RaftSettings(window_bytes_max=256 << 10)
"""Everything is retained: snapshots of the log's own simulation are enough."""


class NoSnapshots:
    """Nobody falls so far behind that he needs one."""

    async def make(self) -> Snapshot:
        raise Violation("a snapshot was asked for, and every log is kept whole")

    async def install(self, path: Path, index: int, term: int) -> None:
        raise Violation("a snapshot was installed, and nobody made one")

    def discard(self, snapshot: Snapshot) -> None:
        """There is none."""

    def incoming(self) -> Path:
        return Path("/incoming")


class RaftGroup:
    """Real replicated logs; implements what `scenario` asks of a group's log."""

    def __init__(self, group: int, members: Sequence[str], loop: VirtualLoop, dice: random.Random) -> None:
        """Every replica has an empty disk."""
        self.group, self.members, self.loop, self.dice = group, tuple(members), loop, dice
        self.network = Network(loop, self.members, dice)
        self.disks = {name: SimulatedDisk(name, dice) for name in self.members}
        self.lives: dict[str, tuple[RaftLog, SimulatedWorker]] = {}
        self.failed: Callable[[BaseException], None] = lambda error: None
        self.network.failed = lambda name, error: self.failed(error)

    def make(self, name: str, cluster_id: str, stop_process: Callable[[EngineStopped], None]) -> RaftLog:
        """The log of one life of a replica, of the current process."""
        disk = self.disks[name]
        worker = SimulatedWorker(self.loop, disk, self.dice)
        machine = Machine(
            disk,
            lambda: worker,
            _at_once,
            self.loop.time,
            lambda: int(self.loop.time() * 1e9) + 1,
            self.dice,
            segment_bytes=1 << 20,
        )
        log = RaftLog(
            Placement(cluster_id, self.group, name, self.members),
            LOG_FOLDER,
            SimulatedTransport(self.network, name),
            NoSnapshots(),
            stop_process=stop_process,
            settings=SETTINGS,
            machine=machine,
        )
        self.lives[name] = (log, worker)
        return log

    def ended(self, name: str) -> None:
        """The process of this replica died, or its power went."""
        log, worker = self.lives.pop(name)
        abandon(log)
        worker.crash()
        self.network.leave(name)
        self.disks[name].fall(power=self.dice.random() < 0.5)

    def isolate(self, name: str) -> None:
        """None of the others reaches it, either way."""
        for other in self.members:
            if other != name:
                self.network.cut_link(name, other, noticed=False)
                self.network.cut_link(other, name, noticed=False)

    def heal(self) -> None:
        """All reach all, in fair weather."""
        self.network.heal()

    def rough(self, lost: float, twice: float) -> None:
        """The replicas' own network is bad, too."""
        self.network.weather = Weather(drop=lost, duplicate=twice, reorder=2 * lost)


async def _at_once(work: Callable[[], bytes]) -> bytes:
    return work()
