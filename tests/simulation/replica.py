"""One replica of a simulated group: its disk and store outlive its process, which crashes, stops and starts."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.exit_codes import EngineStopped
from engine.replication.interface import NotProposed, Role
from engine.replication.raft.boot import Machine, Placement
from engine.replication.raft.files import DiskFiles
from engine.replication.raft.identity import make_replacement
from engine.replication.raft.log import RaftLog
from engine.replication.raft.settings import RaftSettings
from tests.simulation.disk import SimulatedDisk
from tests.simulation.history import History, Violation
from tests.simulation.network import Network, SimulatedTransport
from tests.simulation.store import EMPTY, ID_BYTES, SimulatedStore
from tests.simulation.worker import SimulatedWorker

CLUSTER = "5a" * 16
GROUP = 7
FOLDER = Path("/log")
SETTINGS = RaftSettings(
    window_bytes_max=32 << 10,
    cached_bytes_max=4 << 10,
    retained_bytes_min=2 << 10,
    retained_bytes_max=24 << 10,
    proposals_max=400,
    snapshot_piece_bytes=1 << 10,
    snapshot_window_bytes=4 << 10,
    snapshot_retry_s=0.2,
    hashes_max=256,
)


class Replica:
    """`log` is None while the process is down."""

    def __init__(
        self, name: str, members: tuple[str, ...], network: Network, dice: random.Random, history: History
    ) -> None:
        self.name, self.members, self.network, self.history = name, members, network, history
        self.loop = network.loop
        self.dice = random.Random(dice.getrandbits(64))
        self.disk = SimulatedDisk(name, self.dice)
        self.store = SimulatedStore(name, self.disk, self.dice, history)
        self.log: RaftLog | None = None
        self.worker: SimulatedWorker | None = None
        self.stopped_by: EngineStopped | None = None
        self.expects_refusal = False
        self._saving: asyncio.TimerHandle | None = None
        self._life: RaftLog | None = None
        self._waiting = 0
        self.failed: Callable[[str, BaseException], None] = lambda _, error: None

    @property
    def up(self) -> bool:
        return self.log is not None

    @property
    def alive(self) -> bool:
        """Up, or about to be."""
        return self._life is not None

    @property
    def leads(self) -> bool:
        return self.log is not None and self.log._core.is_leader

    # The process.

    async def start(self) -> None:
        """Boot; the store may ask for records from an earlier index again, as the interface allows."""
        self.store.start()
        self.stopped_by = None
        self.worker = SimulatedWorker(self.loop, self.disk, self.dice)
        machine = Machine(
            self.disk,
            self._own_worker,
            _at_once,
            self.loop.time,
            lambda: int(self.loop.time() * 1e9) + 1,
            self.dice,
            segment_bytes=16 << 10,
        )
        log = RaftLog(
            Placement(CLUSTER, GROUP, self.name, self.members),
            FOLDER,
            SimulatedTransport(self.network, self.name),
            self.store,
            stop_process=self._stop_process,
            settings=SETTINGS,
            machine=machine,
        )
        log.on_role_change(self._role_changed)
        self._life, self._waiting = log, 0
        await log.start(self._apply, self.store.asks_from())
        if not self.worker.dead:
            self.log = log
            self._save_soon()

    def crash(self, *, power: bool) -> None:
        """The process dies at once; with `power`, its machine does."""
        life, self.log, self._life = self._life, None, None
        self.history.died_waiting += self._waiting
        self._waiting = 0
        if self._saving is not None:
            self._saving.cancel()
        if life is not None:
            abandon(life)
        if self.worker is not None:
            self.worker.crash()
        self.network.leave(self.name)
        self.disk.fall(power=power)

    async def stop(self) -> None:
        """A clean stop: SIGTERM."""
        log, self.log = self.log, None
        if log is None:
            return
        await log.stop()
        if self._saving is not None:
            self._saving.cancel()
        if log is self._life:
            self._life = None
            self.disk.fall(power=False)

    def replace(self) -> None:
        """The operator's step, after the disk was lost."""
        files = DiskFiles(self.disk, FOLDER, _at_once)
        self.disk.make_folder(FOLDER)
        make_replacement(files, CLUSTER, GROUP, self.name, int(self.loop.time() * 1e9) + 1)

    def wipe(self) -> None:
        """The disk is lost, log and store."""
        self.disk.wipe()
        self.store.kept, self.store.forgotten = EMPTY, 0

    # Clients.

    def propose(self, identity: int, size: int) -> None:
        if self.log is None:
            return
        record = identity.to_bytes(ID_BYTES, "little") + bytes(size)
        history, life = self.history, self._life

        def proposed(log_index: int | None) -> None:
            if not self._answered(life):
                return
            if log_index is None:
                history.unknown += 1
            else:
                history.acknowledge(identity, log_index)

        try:
            self.log.propose(record, proposed)
            history.proposed += 1
            self._waiting += 1
        except NotProposed:
            history.refused += 1

    def read(self) -> None:
        """A linearizable read: it must see what was acknowledged before it began."""
        if self.log is None:
            return
        floor, history, life = self.history.highest_acknowledged, self.history, self._life

        def done(log_index: int | None) -> None:
            if not self._answered(life):
                return
            if log_index is not None:
                history.barriers += 1
                history.read(self.name, self.store.log_index, floor)

        try:
            self.log.barrier(done)
            history.proposed += 1
            self._waiting += 1
        except NotProposed:
            history.refused += 1

    # Within.

    def _answered(self, life: RaftLog | None) -> bool:
        """Count an answer; a process that died gives none."""
        if life is None or life is not self._life:
            return False
        self.history.answered += 1
        self._waiting -= 1
        return True

    def _own_worker(self) -> SimulatedWorker:
        if self.worker is None:
            raise Violation("a worker was asked for before the start")
        return self.worker

    def _apply(self, log_index: int, term: int, record: bytes | memoryview) -> None:
        if self.store.apply(log_index, term, record) and self.log is not None:
            self.log.note_state_hash(log_index, self.store.state_hash)

    def _role_changed(self, role: Role, term: int) -> None:
        if role is Role.LEADER and self.leads:
            self.history.leads(self.name, term)
            self.history.note(f"{self.name} leads term {term}")
            if self.dice.random() < 0.8:
                self.network.deliver_again(self.name)

    def _save_soon(self) -> None:
        self._saving = self.loop.call_later(self.dice.uniform(0.02, 0.2), self._save)

    def _save(self) -> None:
        if self.log is not None:
            self.forget(self.store.save())
            self._save_soon()

    def forget(self, synced_index: int) -> None:
        """Let the log drop what the store has synced."""
        if self.log is not None:
            try:
                self.log.truncate_below(synced_index)
            finally:  # the replica may die in it, and the log begin later all the same
                self.store.forgotten = max(self.store.forgotten, self.log.status().first_index - 1)

    def _stop_process(self, stopped: EngineStopped) -> None:
        self.stopped_by = stopped
        self.failed(self.name, stopped)


def abandon(log: RaftLog) -> None:
    """The process of this log is gone: none of its timers and tasks runs any more."""
    log._turns.end()
    if hasattr(log, "_snapshots_in"):
        log._snapshots_in.close()
        log._snapshots_out.close()


async def _at_once(work: Callable[[], bytes]) -> bytes:
    return work()


RunBlocking = Callable[[Callable[[], bytes]], Awaitable[bytes]]
