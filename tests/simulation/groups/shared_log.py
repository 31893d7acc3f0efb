"""A cheap replicated log for one group: one committed sequence, and replicas that lead, lose leadership, lag, restart.

It keeps the promises of `engine.replication.interface`, and no more. A record is durable once it is committed, which
takes a quorum and some time. A leader that dies or is cut off leaves what it had proposed in doubt: the next one has a
part of it, from the front, or none. A leader that is cut off believes in itself until somebody tells it.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.replication.interface import ApplyRecord, LogStatus, NotProposed, Proposed, ReplicaStatus, Role
from tests.simulation.groups.process import CURRENT, Process

COMMIT_S_MAX = 0.004
DELIVER_S_MAX = 0.004
ELECTION_S = (0.05, 0.4)
BELIEF_S_MAX = 0.8
"""A leader that is cut off goes on believing for so long at most."""
IN_FLIGHT_MAX = 64
AGAIN_MAX = 5
"""Records below what the store has applied that a start may hand over again, as the interface allows."""


class Waiting(NamedTuple):
    """What a leader has proposed and not committed; no record: a barrier."""

    record: bytes | None
    proposed: Proposed


class SharedLog:
    """One group's."""

    def __init__(self, members: Sequence[str], loop: asyncio.AbstractEventLoop, dice: random.Random) -> None:
        """No replica is up yet."""
        self.members, self.loop, self.dice = tuple(members), loop, dice
        self.committed: list[tuple[int, bytes]] = []
        """(term, record) of log index 1 and on."""
        self.term = 0
        self.leader: ReplicaLog | None = None
        self.up: dict[str, ReplicaLog] = {}
        self.cut: set[str] = set()
        """Replicas that the others do not reach."""
        self._electing = False

    @property
    def last_index(self) -> int:
        return len(self.committed)

    def has_quorum(self) -> bool:
        """Whether enough replicas reach one another: half of them, as if there were one more that is always up."""
        return len([name for name in self.up if name not in self.cut]) * 2 >= len(self.members)

    def join(self, log: "ReplicaLog") -> None:
        """A replica is up."""
        self.up[log.name] = log
        self.elect_soon()

    def leave(self, log: "ReplicaLog") -> None:
        """A replica is down."""
        if self.up.get(log.name) is log:
            del self.up[log.name]
        if self.leader is log:
            self._succeed(log)

    def isolate(self, name: str) -> None:
        """Nobody reaches this replica; if it leads, it does not know at once that it does so no more."""
        self.cut.add(name)
        log = self.up.get(name)
        if log is not None and self.leader is log:
            self._succeed(log)
            self.loop.call_later(self.dice.uniform(0.0, BELIEF_S_MAX), log.step_down)

    def heal(self) -> None:
        """All reach all."""
        self.cut.clear()
        self.elect_soon()
        for log in self.up.values():
            log.deliver_soon()

    def hand_over(self, log: "ReplicaLog") -> None:
        """The leader makes way for another replica that is up."""
        if self.leader is log and len(self.up) > 1:
            self._succeed(log)
            log.step_down()

    def elect_soon(self) -> None:
        """Let a leader be found, if there is none and there can be one."""
        if self.leader is None and not self._electing and self.has_quorum():
            self._electing = True
            self.loop.call_later(self.dice.uniform(*ELECTION_S), self._elect)

    def _succeed(self, former: "ReplicaLog") -> None:
        """What the former leader had proposed is partly in the others' logs: a part from its front, or nothing."""
        self.leader = None
        kept = self.dice.randint(0, len(former.waiting)) if self.dice.random() < 0.5 else 0
        self.committed += [(former.term, one.record) for one in list(former.waiting)[:kept] if one.record is not None]
        self.elect_soon()

    def _elect(self) -> None:
        self._electing = False
        able = [log for name, log in self.up.items() if name not in self.cut]
        if self.leader is None and self.has_quorum() and able:
            self.term += 1
            self.leader = self.dice.choice(able)
            self.leader.lead(self.term)


class ReplicaLog:
    """One replica's end, for one life of its process; implements `engine.replication.interface.ReplicatedLog`."""

    def __init__(self, shared: SharedLog, name: str) -> None:
        """Of the current process."""
        self.shared, self.name, self.loop, self.dice = shared, name, shared.loop, shared.dice
        process = CURRENT.get()
        if process is None:
            raise RuntimeError("a log belongs to a process")
        self.process: Process = process
        self.role, self.term = Role.FOLLOWER, 0
        self.waiting: list[Waiting] = []
        self.slow_s = DELIVER_S_MAX
        self._handed = 0
        self._apply: ApplyRecord = lambda log_index, term, record: None
        self._changed: list[Callable[[Role, int], None]] = []
        self._delivering = self._committing = False
        self._paused = False

    # -- the interface

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """Hand over what the store has not, and now and then a little that it has."""
        again = self.dice.randint(0, min(AGAIN_MAX, applied_index)) if self.dice.random() < 0.5 else 0
        self._apply, self._handed = apply, applied_index - again
        self.shared.join(self)
        self.deliver_soon()

    async def stop(self) -> None:
        self.shared.leave(self)

    def propose(self, record: bytes, proposed: Proposed) -> None:
        self._require_leading()
        self.waiting.append(Waiting(bytes(record), proposed))
        self._commit_soon()

    def barrier(self, done: Proposed) -> None:
        self._require_leading()
        self.waiting.append(Waiting(None, done))
        self._commit_soon()

    def truncate_below(self, log_index: int) -> None:
        """The sequence is kept whole."""

    def transfer_leadership(self, to: str | None = None) -> None:
        self.shared.hand_over(self)

    def status(self) -> LogStatus:
        leader = self.shared.leader
        named = self.name if self.role is Role.LEADER else leader.name if leader is not None else None
        last = self.shared.last_index
        peers = tuple(ReplicaStatus(name, Role.FOLLOWER, last, 0.0) for name in self.shared.members)
        return LogStatus(self.name, self.role, named, self.term, 1, last, last, last, last, 0, peers)

    def on_role_change(self, changed: Callable[[Role, int], None]) -> None:
        self._changed.append(changed)

    def pause_applying(self) -> None:
        self._paused = True

    def resume_applying(self) -> None:
        self._paused = False
        self.deliver_soon()

    # -- what the group does to it

    def lead(self, term: int) -> None:
        """Become the leader: everything that is committed is handed over first."""
        if self.role is Role.LEADER:  # it did not hear that it was deposed meanwhile
            self._step_down()
        self._hand_over()
        self.role, self.term = Role.LEADER, term
        self._tell_role()

    def step_down(self) -> None:
        """Learn that it leads no more."""
        if self.role is Role.LEADER and self.shared.leader is not self and self.process.alive:
            self._step_down()

    def _step_down(self) -> None:
        self.role, self.term = Role.FOLLOWER, self.shared.term
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            self._in_process(one.proposed, None)
        self._tell_role()
        self.deliver_soon()

    def deliver_soon(self) -> None:
        """What is committed gets here after a while."""
        if not self._delivering and self.process.alive:
            self._delivering = True
            self.loop.call_later(self.dice.uniform(0.0, self.slow_s), self._deliver)

    # -- within

    def _require_leading(self) -> None:
        leader = self.shared.leader
        if not self.process.alive or self.role is not Role.LEADER:
            raise NotProposed("this replica does not lead", leader=leader.name if leader is not None else None)
        if len(self.waiting) >= IN_FLIGHT_MAX:
            raise NotProposed("too many records are in flight", full=True)

    def _commit_soon(self) -> None:
        if not self._committing:
            self._committing = True
            self.loop.call_later(self.dice.uniform(0.0002, COMMIT_S_MAX), self._commit)

    def _commit(self) -> None:
        """Some from the front are on a quorum's disks."""
        self._committing = False
        if self.shared.leader is not self or not self.process.alive or not self.waiting:
            return
        if self.shared.has_quorum():
            count = self.dice.randint(1, len(self.waiting))
            done, self.waiting = self.waiting[:count], self.waiting[count:]
            for one in done:
                if one.record is not None:
                    self.shared.committed.append((self.term, one.record))
                self._hand_over()
                self._in_process(one.proposed, self.shared.last_index)
            for log in self.shared.up.values():
                log.deliver_soon()
        if self.waiting:
            self._commit_soon()

    def _deliver(self) -> None:
        self._delivering = False
        behind = self.shared.last_index - self._handed
        if not self.process.alive or self._paused or self.name in self.shared.cut or not behind:
            return
        self._hand_over(self.dice.randint(1, behind))
        self.deliver_soon()

    def _hand_over(self, count: int | None = None) -> None:
        until = self.shared.last_index if count is None else self._handed + count
        while self._handed < until:
            term, record = self.shared.committed[self._handed]
            self._handed += 1
            self._in_process(self._apply, self._handed, term, record)

    def _tell_role(self) -> None:
        for changed in self._changed:
            self._in_process(changed, self.role, self.term)

    def _in_process(self, callback: Callable[..., None], *arguments: object) -> None:
        """A process that died takes part no more; a living one is called in its own name."""
        if self.process.alive:
            self.process.context.copy().run(callback, *arguments)
