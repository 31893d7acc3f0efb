"""What the engine asks of a replicated log, whatever Raft stands behind it.

Everything here is called on the event loop's thread. `apply` is called in log order, once per committed record of each
run of the process; after a restart, records may be delivered again from an earlier index, and the receiver skips what
its store has applied already (exactly once by log index).
"""

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, Protocol


class Role(Enum):
    """Raft's senses only."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"


class NotProposed(Exception):
    """Certainly not in the log: this replica does not lead, or its bound on records in flight is reached.

    `leader` is the replica id to ask instead, where known; `full` says that the bound was the reason.
    """

    def __init__(self, message: str, *, leader: str | None = None, full: bool = False) -> None:
        super().__init__(message)
        self.leader = leader
        self.full = full


class ReplicaStatus(NamedTuple):
    """One replica as the leader, or itself, sees it."""

    replica: str
    role: Role
    match_index: int
    """The last log index known to be durable there."""
    heard_s: float
    """Seconds since it was last heard from; 0 for oneself."""


class LogStatus(NamedTuple):
    """A snapshot of the log's state on this replica."""

    replica: str
    role: Role
    leader: str | None
    term: int
    first_index: int
    last_index: int
    commit_index: int
    handed_index: int
    """Up to here all was handed to `apply`, but for what the log writes for itself (no-ops)."""
    durable_index: int
    log_bytes: int
    peers: tuple[ReplicaStatus, ...]


ApplyRecord = Callable[[int, int, bytes | memoryview], None]
"""(log index, term, record bytes): hand one committed record over. Must not block the loop and must not raise."""

Proposed = Callable[[int | None], None]
"""Called once on the loop: the record's log index as soon as it is committed and handed to `apply`, or None when its
fate is unknown (it may still commit later). A caller always sets a deadline of its own besides."""


class ReplicatedLog(Protocol):
    """One group's log on this replica."""

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """Recover and begin; `applied_index` is what the store has durably applied. Raises `EngineStopped`."""

    async def stop(self) -> None:
        """Flush, hand leadership over where there are peers, close. Idempotent."""

    def propose(self, record: bytes, proposed: Proposed) -> None:
        """Append one record (opaque, longer than one byte) if this replica leads. Raises `NotProposed`."""

    def barrier(self, done: Proposed) -> None:
        """A no-op through the log, shared by all that wait: `done(index)` once a quorum has confirmed this leader and
        everything before has been handed to `apply`. The basis of linearizable reads. Raises `NotProposed`."""

    def truncate_below(self, log_index: int) -> None:
        """Allow the log to forget records up to and including `log_index`: the store has synced them. Whole segments
        go."""

    def transfer_leadership(self, to: str | None = None) -> None:
        """Ask a caught-up follower to take over, if there is one: the replica `to`, or any."""

    def status(self) -> LogStatus:
        """What `describe` and metrics show."""

    def on_role_change(self, changed: Callable[[Role, int], None]) -> None:
        """Register a callback(role, term) for every change of role."""
