"""The replicated log of a group with one replica: durable as soon as it is on this disk, and then committed.

The lock on the folder is what proves leadership: nobody else can have written. So a barrier writes nothing; it waits
for what was proposed before it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from engine.exit_codes import EngineStopped, ExitCode, require
from engine.replication.interface import ApplyRecord, LogStatus, NotProposed, Proposed, ReplicaStatus, Role
from engine.replication.journal.disk import Bytes, Disk
from engine.replication.journal.journal import CACHE_BYTES_DEFAULT, SegmentedLog
from engine.replication.journal.segment_format import Identity
from engine.replication.journal.segments import SEGMENT_BYTES_DEFAULT
from engine.replication.worker import ThreadWorker

REST_EVERY_S: Final = 1.0
"""How often the log looks whether it rests (see `SegmentedLog.rest`)."""
STOP_S_MAX: Final = 30.0
"""The longest that a stop waits for what is in flight; its fate is then told as unknown."""
REPLAY_BYTES_PER_TURN: Final = 1 << 20
"""After a start, records are handed over in turns of this size, so that the loop can do other things between."""
_STOPPED: Final = "the log of this replica is not running; ask again once it is"


class SingleLogLimits(NamedTuple):
    """Every bound of a `SingleLog`."""

    in_flight_records_max: int = 4096
    """Records proposed and not yet committed."""
    in_flight_bytes_max: int = 32 << 20
    barriers_max: int = 65536
    """Callers that wait for a barrier."""
    segment_bytes: int = SEGMENT_BYTES_DEFAULT
    cache_bytes: int = CACHE_BYTES_DEFAULT


class _Proposal(NamedTuple):
    log_index: int
    record: bytes
    proposed: Proposed


class SingleLog:
    """Implements `interface.ReplicatedLog` without peers. All on the event loop's thread.

    `stopped` is called once with what must end the process (a failed sync, a full disk, a record that cannot be
    applied).
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        stopped: Callable[[EngineStopped], None],
        limits: SingleLogLimits | None = None,
        disk: Disk | None = None,
    ) -> None:
        """Nothing is opened before `start`."""
        self._folder, self._identity, self._stopped, self._disk = folder, identity, stopped, disk
        self._limits = limits or SingleLogLimits()
        self._role, self._role_changed = Role.FOLLOWER, list[Callable[[Role, int], None]]()
        self._log: SegmentedLog | None = None
        self._running, self._flush_due = False, False
        self._commit_index, self._in_flight_bytes = 0, 0
        self._in_flight: deque[_Proposal] = deque()
        self._barriers: deque[tuple[int, Proposed]] = deque()
        self._settled = asyncio.Event()
        self._stopping: asyncio.Future[None] | None = None

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """Recover, hand over again what lies above `applied_index`, and lead.

        Raises `EngineStopped`: as `SegmentedLog.open`, and DATA_MISSING where log and store do not fit together.
        """
        self._apply, self._loop = apply, asyncio.get_running_loop()
        self._log = log = await self._opened()
        try:
            _require_fit(log, applied_index, self._folder)
            log.save_vote(log.term + 1, self._identity.replica)
            await self._replay(log, applied_index)
        except BaseException:
            self._log = None
            log.close()
            raise
        log.on_durable, log.on_failure = self._commit, self._fail
        self._running = True
        self._resting = self._loop.call_later(REST_EVERY_S, self._rest)
        self._change_role(Role.LEADER)

    async def stop(self) -> None:
        """As the interface says; what is still not on the disk after `STOP_S_MAX` is told as unknown."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop_once())
        await asyncio.shield(self._stopping)

    def propose(self, record: bytes, proposed: Proposed) -> None:
        """Append one record; `proposed` is called once it is on the disk and handed over. Raises `NotProposed`."""
        log = self._leading()
        self._check_room(log, len(record))
        index = log.append(log.term, record)
        self._in_flight.append(_Proposal(index, record, proposed))
        self._in_flight_bytes += len(record)
        if not self._flush_due:  # all that is proposed in this turn of the loop goes in one group
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def barrier(self, done: Proposed) -> None:
        """`done(index)` once everything proposed before has been handed over. Raises `NotProposed`."""
        log = self._leading()
        if not self._in_flight:
            self._loop.call_soon(done, self._commit_index)
            return
        if len(self._barriers) >= self._limits.barriers_max:
            raise NotProposed("too many reads wait for the log; ask again later", full=True)
        self._barriers.append((log.last_index, done))

    def truncate_below(self, log_index: int) -> None:
        """Let whole segments go that hold nothing above `log_index`, which the store has synced."""
        log, index = self._log, min(log_index, self._commit_index)
        if log is not None and log.failure is None and log.frees_segments(index):
            log.forget_to(index)

    def transfer_leadership(self, to: str | None = None) -> None:
        """There is nobody to take over."""

    def status(self) -> LogStatus:
        """As the interface says; zeros before `start` and after `stop`."""
        replica, log = self._identity.replica, self._log
        if log is None:
            return LogStatus(replica, self._role, None, 0, 0, 0, 0, 0, 0, 0, ())
        own = ReplicaStatus(replica, self._role, log.durable_index, 0.0)
        return LogStatus(
            replica,
            self._role,
            replica if self._role is Role.LEADER else None,
            log.term,
            log.first_index,
            log.last_index,
            self._commit_index,
            self._commit_index,
            log.durable_index,
            log.payload_bytes,
            (own,),
        )

    def on_role_change(self, changed: Callable[[Role, int], None]) -> None:
        """Called with LEADER at the end of `start` and FOLLOWER in `stop`."""
        self._role_changed.append(changed)

    # -- start and stop

    async def _opened(self) -> SegmentedLog:
        worker = ThreadWorker(self._loop)
        opening = partial(
            SegmentedLog.open,
            self._folder,
            self._identity,
            worker=worker,
            disk=self._disk,
            segment_bytes=self._limits.segment_bytes,
            cache_bytes=self._limits.cache_bytes,
        )
        try:
            return await self._loop.run_in_executor(None, opening)
        except BaseException:
            worker.stop()
            raise

    async def _replay(self, log: SegmentedLog, applied_index: int) -> None:
        """Everything that was durable is committed: without peers nothing can contradict it."""
        turn_bytes = 0
        for index in range(applied_index + 1, log.last_index + 1):
            entry = log.entry_at(index)
            self._hand_over(index, entry.term, entry.record)
            turn_bytes += len(entry.record)
            if turn_bytes >= REPLAY_BYTES_PER_TURN:
                turn_bytes = 0
                await asyncio.sleep(0)
        self._commit_index = log.last_index

    async def _stop_once(self) -> None:
        log = self._log
        if log is None:
            return
        if self._running:
            self._running = False
            self._resting.cancel()
            log.start_sync()
            await self._settle()
            self._change_role(Role.FOLLOWER)
        self._log = None
        log.close()

    async def _settle(self) -> None:
        """Wait for what is in flight; whatever does not come back is unknown."""
        self._settled.clear()
        if self._in_flight:
            try:
                await asyncio.wait_for(self._settled.wait(), STOP_S_MAX)
            except TimeoutError:
                self._give_up()

    def _change_role(self, role: Role) -> None:
        self._role = role
        term = self._log.term if self._log is not None else 0
        for changed in self._role_changed:
            changed(role, term)

    # -- the life of a record

    def _leading(self) -> SegmentedLog:
        if not self._running or self._log is None or self._log.failure is not None:
            raise NotProposed(_STOPPED)
        return self._log

    def _check_room(self, log: SegmentedLog, size: int) -> None:
        limits = self._limits
        if len(self._in_flight) >= limits.in_flight_records_max:
            raise NotProposed(f"{len(self._in_flight)} records wait for the disk; ask again later", full=True)
        if self._in_flight and self._in_flight_bytes + size > limits.in_flight_bytes_max:
            raise NotProposed(f"{self._in_flight_bytes} bytes wait for the disk; ask again later", full=True)
        if log.disk_full:
            raise NotProposed("the disk is nearly full; free space, then ask again", full=True)

    def _flush(self) -> None:
        self._flush_due = False
        if self._log is not None and self._log.failure is None:
            self._log.start_sync()

    def _commit(self) -> None:
        """A group is on the disk: hand its records over in order, then tell who waits."""
        log = self._log
        if log is None or log.failure is not None:
            return
        try:
            while self._in_flight and self._in_flight[0].log_index <= log.durable_index:
                self._commit_one(log.term)
            while self._barriers and self._barriers[0][0] <= self._commit_index:
                self._barriers.popleft()[1](self._commit_index)
        except EngineStopped as failure:
            self._fail(failure)
        if not self._in_flight:
            self._settled.set()

    def _commit_one(self, term: int) -> None:
        index, record, proposed = self._in_flight[0]
        self._hand_over(index, term, record)
        self._in_flight.popleft()
        self._in_flight_bytes -= len(record)
        self._commit_index = index
        proposed(index)

    def _hand_over(self, index: int, term: int, record: Bytes) -> None:
        try:
            # What a peer would send may be a bytearray; apply is promised bytes or a view.
            self._apply(index, term, memoryview(record) if isinstance(record, bytearray) else record)
        except EngineStopped:
            raise
        except Exception as error:
            raise EngineStopped(
                ExitCode.APPLY_FAILED,
                f"log record {index} could not be applied ({error!r}); report this, and restore or replace the replica",
            ) from error

    def _rest(self) -> None:
        log = self._log
        if log is None or log.failure is not None or not self._running:
            return
        log.rest()
        self._resting = self._loop.call_later(REST_EVERY_S, self._rest)

    def _fail(self, failure: EngineStopped) -> None:
        """The process must end; what was in flight may be on the disk or not."""
        self._running = False
        self._resting.cancel()
        self._give_up()
        self._stopped(failure)

    def _give_up(self) -> None:
        waiting = [proposal.proposed for proposal in self._in_flight] + [done for _, done in self._barriers]
        self._in_flight.clear()
        self._barriers.clear()
        self._in_flight_bytes = 0
        self._settled.set()
        for callback in waiting:
            callback(None)


def _require_fit(log: SegmentedLog, applied_index: int, folder: Path) -> None:
    """The store must stand within the log; anything else loses what was acknowledged."""
    require(
        log.base_index <= applied_index,
        ExitCode.DATA_MISSING,
        f"the log in {folder} begins behind record {log.base_index}, but the store has applied only {applied_index};"
        " restore the store's folder from a newer backup, or restore log and store together",
    )
    require(
        applied_index <= log.last_index,
        ExitCode.DATA_MISSING,
        f"the store has applied record {applied_index}, but the log in {folder} ends at {log.last_index}: what followed"
        " may be lost; restore the log's folder, or restore log and store together",
    )
