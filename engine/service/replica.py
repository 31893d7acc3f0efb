"""One replica at work: its log, its apply thread, its state machine, and what servicers ask of them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import ceil
from typing import Final, NamedTuple, TypeVar

from engine.config import ClusterConfig, ReplicaConfig, group_config, initial_settings
from engine.core.chains.step_record import StepRecord
from engine.core.log_record import RecordKind
from engine.core.records import Words
from engine.core.settings import Settings, encode_settings
from engine.exit_codes import EngineStopped
from engine.replication.interface import NotProposed, ReplicatedLog, Role
from engine.rpc.faults import (
    CallFailed,
    Fault,
    Reason,
    deadline_passed,
    fate_unknown,
    overloaded,
    unavailable,
)
from engine.service.applier import Applier
from engine.service.batcher import Batcher
from engine.service.heat.heat import Heat
from engine.service.step_lane import StepSubmission
from engine.service.submission import Caller, Submission
from engine.storage.state_machine import StateMachine
from postingengine.v1.types_pb2 import Consistency, ReadPoint

T = TypeVar("T")
LOG: Final = logging.getLogger(__name__)

SPACE_EVERY_S: Final = 1.0
"""How often the room for log and store is measured."""
HAND_OVER_S_MAX: Final = 1.0
"""A replica that stops leads on for so long at most, until another one took over."""
HAND_OVER_LOOK_S: Final = 0.01
_LATE: Final = "the deadline passed before this could be answered; retry with a longer one"
_NOT_READY: Final = "this group has no settings yet; its first leader is about to log them"
_STOPPING: Final = "this replica is stopping; ask another one, or this one a little later"


class Place(NamedTuple):
    """Which replica this is."""

    config: ClusterConfig
    group: int
    replica: ReplicaConfig


class Replica:
    """Wires log, batcher, apply thread and state machine. On the event loop's thread."""

    def __init__(
        self,
        place: Place,
        machine: StateMachine,
        log: ReplicatedLog,
        *,
        failed: Callable[[EngineStopped], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Nothing runs before `start`; `failed` is called with what must end the process."""
        self.place, self.machine, self.log, self._clock_ns = place, machine, log, clock_ns
        self._loop = asyncio.get_running_loop()
        self.started_s = self._loop.time()
        limits = place.config.limits
        self.batcher = Batcher(
            log, limits, clock_ns=clock_ns, loop=self._loop, address_of=self.address_of, failed=failed
        )
        self.applier = Applier(
            machine,
            self._loop,
            answered=self.batcher.answered,
            failed=failed,
            group_records_max=limits.apply_group_records_max,
        )
        self.batcher.prepare_with(self.applier.prepare)
        self.applier.pause = getattr(log, "pause_applying", None)
        self.applier.resume = getattr(log, "resume_applying", None)
        self.applier.note_state_hash = getattr(log, "note_state_hash", None)
        self.heat = Heat(
            place.config.hot_accounts,
            lambda: machine.book,
            lambda: self.is_leader,
            groups=len(place.config.groups),
        )
        machine.watch = self.heat.note
        self._failed = failed
        self._upkeep: asyncio.Task[None] | None = None
        self._genesis: asyncio.Task[None] | None = None
        self._role = Role.FOLLOWER
        self.leader_changes = 0
        """How often this replica began or ceased to lead."""
        self._read_since_s: float | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin to apply and, where this replica leads, to accept. Raises `EngineStopped`."""
        self.applier.start()
        self.log.on_role_change(self._role_changed)
        await self.log.start(self.applier.put, self.machine.applied_index)
        self._upkeep = asyncio.create_task(self._keep_up())

    def refuse(self) -> None:
        """Admit nothing more, for good."""
        self._stopping = True
        self.batcher.refusal = unavailable(Reason.STOPPING, _STOPPING)

    async def drain(self) -> None:
        """Answer what was admitted, within `drain_ms_max`; what is then still not logged is told so."""
        if not await self.batcher.drained(self.place.config.limits.drain_ms_max / 1000):
            LOG.warning("some transfers were still on their way when the time to drain was over")
        self.batcher.give_up_waiting(unavailable(Reason.STOPPING, _STOPPING))

    async def hand_over(self, to: str | None = None) -> None:
        """Let another replica lead, the one named `to` or any, if there is one, while this one still answers."""
        if self.is_leader and len(group_config(self.place.config, self.place.group).replicas) > 1:
            self.log.transfer_leadership(to)
            until_s = self._loop.time() + HAND_OVER_S_MAX
            while self.is_leader and self._loop.time() < until_s:
                await asyncio.sleep(HAND_OVER_LOOK_S)

    async def stop(self) -> None:
        """Close the log, apply and save what it handed over."""
        for task in (self._upkeep, self._genesis):
            if task is not None:
                task.cancel()
        await self.log.stop()
        await self.applier.stop()

    # -- what servicers ask

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads, by its own word."""
        return self._role is Role.LEADER

    def post(self, words: Words, caller: Caller, deadline_s: float) -> Awaitable[Submission]:
        """Log and apply valid rows (`Batcher.post`), within the deadline on the loop's clock."""
        self.settings()
        return self.batcher.post(words, caller, deadline_s)

    async def step(self, record: StepRecord, caller: Caller, deadline_s: float) -> StepSubmission:
        """Log and apply steps (`Batcher.step`), within the deadline on the loop's clock."""
        self.settings()
        submission = StepSubmission(record, caller, deadline_s, self._loop)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self.batcher.step(submission)
        except TimeoutError:
            raise CallFailed(fate_unknown("no answer before the deadline; send the same steps again")) from None

    def not_leading(self) -> Fault:
        """Return the fault of what only a leader does."""
        leader = self.address_of(self.log.status().leader)
        return unavailable(Reason.NOT_LEADER, "this replica does not lead its group", leader=leader)

    async def read(self, consistency: Consistency, deadline_s: float, job: Callable[[], T]) -> T:
        """Run a job on the apply thread once the state is as fresh as asked for; raises `CallFailed`."""
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._fresh(consistency)
                return await self.applier.run(partial(self._with_age, self._true_since_s(consistency), job))
        except TimeoutError:
            raise CallFailed(deadline_passed(_LATE)) from None

    def read_point(self) -> ReadPoint:
        """Return what the state is true at. On the apply thread."""
        return ReadPoint(
            group=self.place.group,
            log_index=self.machine.applied_index,
            as_of=self.machine.book.last_timestamp_ns,
            stale_ms=None if self._read_since_s is None else ceil((time.monotonic() - self._read_since_s) * 1000),
        )

    async def leader(self, within_s: float) -> str:
        """Return the name of the group's leader; empty if none is known in time."""
        until_s = self._loop.time() + within_s
        while self.log.status().leader is None and self._loop.time() < until_s:
            await asyncio.sleep(HAND_OVER_LOOK_S)
        return self.log.status().leader or ""

    def now_ns(self) -> int:
        """Return the time by the clock that this replica gives its records, ns UTC."""
        return self._clock_ns()

    def uptime_ms(self) -> int:
        """Return how long this replica runs, milliseconds."""
        return int((self._loop.time() - self.started_s) * 1000)

    def address_of(self, replica: str | None) -> str:
        """Return the API address of a replica of this group; empty if there is none of that name."""
        replicas = group_config(self.place.config, self.place.group).replicas
        return next((other.grpc for other in replicas if other.id == replica), "")

    def settings(self) -> Settings:
        """Return the replicated settings; raises `CallFailed` before the group's first record was applied."""
        settings = self.machine.book.settings
        if settings is None:
            raise CallFailed(self._not_ready())
        return settings

    # -- freshness

    def _true_since_s(self, consistency: Consistency) -> float | None:
        """For a stale read: when, on the monotonic clock, this replica had applied all that it knew to be committed.

        Asked for before the job is queued: what is handed over while it waits makes the answer no younger.
        """
        if consistency.WhichOneof("level") != "stale":
            return None
        ages = getattr(self.log, "staleness_s", None)
        age_s = 0.0 if ages is None else ages()
        return None if age_s is None else time.monotonic() - age_s

    def _with_age(self, since_s: float | None, job: Callable[[], T]) -> T:
        """Run a job on the apply thread that may ask for its `read_point`."""
        self._read_since_s = since_s
        return job()

    async def _fresh(self, consistency: Consistency) -> None:
        """Return once everything that the read must see has been handed to the apply thread."""
        level = consistency.WhichOneof("level")
        if level == "stale":
            return
        if level == "at_least":
            wanted = [at.log_index for at in consistency.at_least.log_indexes if at.group == self.place.group]
            await self.applier.handed_over(max(wanted, default=0))
            return
        await self._barrier()

    async def _barrier(self) -> None:
        done: asyncio.Future[int | None] = self._loop.create_future()
        try:
            self.log.barrier(lambda index: None if done.done() else done.set_result(index))
        except NotProposed as refused:
            raise CallFailed(self._not_confirmed(refused)) from refused
        if await done is None:
            raise CallFailed(unavailable(Reason.NOT_LEADER, "this replica stopped leading; ask its group's leader"))

    def _not_confirmed(self, refused: NotProposed) -> Fault:
        if refused.full:
            return overloaded(str(refused))
        return unavailable(Reason.NOT_LEADER, str(refused), leader=self.address_of(refused.leader))

    def _not_ready(self) -> Fault:
        return unavailable(Reason.NOT_READY, _NOT_READY) if self.is_leader else self.not_leading()

    # -- upkeep

    def _role_changed(self, role: Role, term: int) -> None:
        LOG.info("this replica is now %s", role.value, extra={"term": term})
        self.leader_changes += (role is Role.LEADER) != self.is_leader
        self._role = role
        self.applier.hurry(role is Role.LEADER)
        if role is Role.LEADER:
            self._ensure_settings()
        else:
            leader = self.address_of(self.log.status().leader)
            self.batcher.give_up_waiting(unavailable(Reason.NOT_LEADER, "this replica stopped leading", leader=leader))

    def _ensure_settings(self) -> None:
        """A leader whose group has no settings yet sees to it that its log has some."""
        running = self._genesis is not None and not self._genesis.done()
        if self.is_leader and self.machine.book.settings is None and not running:
            self._genesis = asyncio.create_task(self._propose_settings())

    async def _propose_settings(self) -> None:
        """Make the settings the first record of the group, unless an earlier leader's are only not applied yet."""
        try:
            await self._barrier()
            settings = await self.applier.run(lambda: self.machine.book.settings)
        except CallFailed as failed:
            LOG.info("the group's settings wait: %s", failed)
            return
        if settings is None and self.is_leader and not self._stopping:
            self.batcher.propose_alone(RecordKind.SETTINGS, encode_settings(initial_settings(self.place.config)))

    async def _keep_up(self) -> None:
        """Every tick: expire what is due, free what is overdue, let the log forget what the store has synced."""
        space_s = 0.0
        while True:
            await asyncio.sleep(self.place.config.limits.tick_ms / 1000)
            self._ensure_settings()
            self._expire_due()
            self.batcher.give_up_overdue()
            self.log.truncate_below(self.machine.synced_log_index)
            if self._loop.time() >= space_s and not self._stopping:
                space_s = self._loop.time() + SPACE_EVERY_S
                await self._measure_space()

    def _expire_due(self) -> None:
        """A leader without traffic logs an empty record, so that what is due expires all the same."""
        if not self.is_leader or self.batcher.in_flight or self._stopping:
            return
        due_ns = self.machine.book.next_deadline_ns()
        if due_ns is not None and due_ns <= self._clock_ns():
            self.batcher.propose_alone(RecordKind.EVENTS)

    async def _measure_space(self) -> None:
        """Refuse writes while disk or map are nearly full; reads go on."""
        try:
            spare = self.place.config.limits.disk_free_bytes_min
            space = await self._loop.run_in_executor(None, self.machine.space, spare)
        except OSError as error:
            LOG.warning("the free space cannot be measured: %s", error)
            return
        before, self.batcher.refusal = self.batcher.refusal, None
        if space.nearly_full is not None and not self._stopping:
            self.batcher.refusal = overloaded(space.nearly_full, reason=Reason.DISK_NEARLY_FULL)
            if before is None:
                LOG.warning("writes are refused: %s", space.nearly_full)
