"""PySyncObj 0.3.17 as the core of our Raft: its terms, votes and commit rule, and nothing else of it.

Every `_SyncObj__` name the engine relies on is in this module. The library keeps: when to campaign, counting votes,
the up-to-date check, the commit rule at its ticks (`commit` is the same rule between them), stepping down without a
quorum. Replaced here: its queue of commands, its sending, its apply loop, its compaction and snapshots, its dice and
its clock.
"""

import random
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

import pysyncobj.syncobj as library
from crc32c import crc32c
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from engine.replication.interface import Role
from engine.replication.raft.guard import LibraryMessage
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.settings import RaftSettings

NO_OP: Final = b"\x01"
"""The library's own record at the start of a term; our barriers use the same. Never handed to `apply`."""
NEVER: Final = 1 << 60
ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
"""By the library's numbers."""
LEADER: Final = ROLES.index(Role.LEADER)


class CoreOwner(Protocol):
    """What the core asks of the log around it."""

    def send_library_message(self, peer: str, message: LibraryMessage) -> None:
        """The library wants to tell a peer something."""

    def send_heartbeats(self) -> None:
        """The library's period is over: send what fits the window, or an empty append."""

    def apply_committed(self) -> None:
        """Hand over what is committed and durable here."""

    def role_changed(self, role: Role) -> None:
        """Called within the change: take note, act later."""

    def leader_began(self) -> None:
        """This replica won an election; its no-op is not appended yet and nothing has been sent."""


def use_journals_as_given(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let `SyncObjConf.journalFile` be the journal itself: the library makes its journal by a module global."""

    def create(journal: Any) -> Any:
        return journal if isinstance(journal, RaftJournal) else original(journal)

    return create


library.createJournal = use_journals_as_given(library.createJournal)


class _Messenger(Transport):  # type: ignore[misc]
    """The library's view of the network: it sends through us."""

    def __init__(self, owner: CoreOwner) -> None:
        super().__init__(None, None, [])
        self._owner = owner

    def send(self, node: Any, message: LibraryMessage) -> bool:
        self._owner.send_library_message(node.id, message)
        return True

    def connected(self, node: Any) -> None:
        self._onNodeConnected(node)

    def disconnected(self, node: Any) -> None:
        self._onNodeDisconnected(node)


class _PeerNode(Node):  # type: ignore[misc]
    """A node whose place in the library's sets is the same in every run, so that a simulation replays."""

    def __init__(self, replica: str) -> None:
        super().__init__(replica)
        # Not `hash()` of the name: Python salts it anew in every process.
        self._place = crc32c(replica.encode())

    def __hash__(self) -> int:
        return self._place

    # There is one for each replica (`RaftCore.nodes`), so that the same node is the same object.
    __eq__ = object.__eq__
    __ne__ = object.__ne__


class _NoPoller:
    """We tick; there are no descriptors of the library to wait for."""

    def poll(self, timeout: float) -> None:
        """Return at once."""


class RaftCore(SyncObj):  # type: ignore[misc]
    """One replica's Raft state. Driven by `doTick(0)` and `deliver`; single-threaded."""

    def __init__(
        self,
        owner: CoreOwner,
        *,
        replica: str,
        others: Collection[str],
        journal: RaftJournal,
        settings: RaftSettings,
        dice: random.Random,
        now: Callable[[], float],
    ) -> None:
        """`now` must be the clock that `pysyncobj.syncobj.monotonicTime` reads."""
        self._owner = owner
        self._dice = dice
        self._now = now
        self._settings = settings
        self.journal = journal
        self.nodes = {other: _PeerNode(other) for other in sorted(others)}
        self._messenger = _Messenger(owner)
        super().__init__(
            _PeerNode(replica),
            list(self.nodes.values()),
            configuration(journal, settings, self._state_changed),
            transport=self._messenger,
        )
        self._poller = _NoPoller()

    # State, read and written under names of our own.

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """The last index known to be committed."""
        return int(self._SyncObj__raftCommitIndex)

    @commit_index.setter
    def commit_index(self, log_index: int) -> None:
        self._SyncObj__raftCommitIndex = log_index

    @property
    def applied_index(self) -> int:
        """The last index handed over."""
        return int(self._SyncObj__raftLastApplied)

    @applied_index.setter
    def applied_index(self, log_index: int) -> None:
        self._SyncObj__raftLastApplied = log_index

    @property
    def role(self) -> Role:
        """Leader, follower or candidate."""
        return ROLES[self._SyncObj__raftState]

    @property
    def leader(self) -> str | None:
        """The replica id of the leader, as far as known here."""
        node = self._SyncObj__raftLeader
        return None if node is None else str(node.id)

    @property
    def is_leader(self) -> bool:
        """Whether this replica believes that it leads."""
        return bool(self._SyncObj__raftState == LEADER)

    @property
    def handing_over(self) -> bool:
        """Whether the leader told this follower to campaign at once."""
        return bool(self._SyncObj__transferInProgress)

    @property
    def campaign_due(self) -> bool:
        """Whether the library would campaign at its next tick."""
        return self._SyncObj__raftState != LEADER and self._SyncObj__raftElectionDeadline < self._now()

    def wait_before_campaign(self, seconds: float) -> None:
        """Set the next time at which a campaign is due."""
        self._SyncObj__raftElectionDeadline = self._now() + seconds

    def postpone_campaign(self, seconds: float) -> None:
        """Put that time off to at least `seconds` from now."""
        self._SyncObj__raftElectionDeadline = max(self._SyncObj__raftElectionDeadline, self._now() + seconds)

    def campaign_within(self, seconds: float) -> None:
        """Bring that time forward, never back."""
        self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, self._now() + seconds)

    def campaign_at_next_tick(self) -> None:
        """Let the library campaign now."""
        self._SyncObj__raftElectionDeadline = -1.0

    def random_timeout_s(self) -> float:
        """An election timeout, drawn anew."""
        return self._dice.uniform(self._settings.election_s_min, self._settings.election_s_max)

    def show_match(self, peer: str, log_index: int) -> None:
        """What the library's commit rule may count for a follower."""
        self._SyncObj__raftMatchIndex[self.nodes[peer]] = log_index

    def heard_from(self, peer: str) -> None:
        """A voter answered: it counts towards the quorum that keeps this leader in office."""
        self._SyncObj__lastResponseTime[self.nodes[peer]] = self._now()

    def heard_at_s(self, peer: str) -> float | None:
        """When a follower last answered this leader."""
        at = self._SyncObj__lastResponseTime.get(self.nodes[peer])
        return None if at is None else float(at)

    # What happens to it.

    def commit(self, quorum_index: int) -> None:
        """Commit what a quorum holds, if the newest of it is of this leader's term (Raft §5.4.2): what the library does
        at its ticks, without a look at all of its timers."""
        if quorum_index > self.commit_index and self.journal.term_at(quorum_index) == self.term:
            self._SyncObj__raftCommitIndex = self._SyncObj__leaderCommitIndex = quorum_index

    def deliver(self, peer: str, message: LibraryMessage) -> None:
        """Give the library a message that the guard let through."""
        self._SyncObj__onMessageReceived(self.nodes[peer], message)

    def connected(self, peer: str) -> None:
        """A connection is there."""
        self._messenger.connected(self.nodes[peer])

    def disconnected(self, peer: str) -> None:
        """It ended."""
        self._messenger.disconnected(self.nodes[peer])

    def adopt_term(self, term: int) -> None:
        """A later term exists: follow, with no vote cast in it."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__raftLeader = None
            self._SyncObj__setState(0)

    def hand_over_received(self, peer: str, term: int) -> None:
        """The leader asks this follower to campaign at once."""
        if term == self.term and self.leader == peer:
            self.deliver(peer, {"type": "timeout_now", "term": term})

    def restarted_at(self, log_index: int) -> None:
        """The log begins anew behind a snapshot at this index: all up to it is applied."""
        self.commit_index = log_index
        self.applied_index = log_index

    # Seams: what the library would do, done otherwise.

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._SyncObj__newAppendEntriesTime = self._now() + self._settings.heartbeat_s
        self._owner.send_heartbeats()

    def _SyncObj__getCurrentLogIndex(self) -> int:  # noqa: N802
        return self.journal.last_index

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        self._owner.apply_committed()
        return False

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        # The library sends before it returns; what it sends must see this term's fresh windows.
        self._owner.leader_began()
        super()._SyncObj__onBecomeLeader()

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        # Called by the library's constructor too, after ours has set the dice.
        return self.random_timeout_s()

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Flaws 8 to 11: the store says what may go (`RaftLog.truncate_below`), never a count of records."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: N802, N803
        """Flaws 9 and 10: there is no dump; snapshots come by `snapshot`."""

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """Flaw 16: proposals are appended at once by `RaftLog.propose`, or refused."""

    def _state_changed(self, old: int, new: int) -> None:
        self._owner.role_changed(ROLES[new])


def configuration(journal: RaftJournal, settings: RaftSettings, changed: Callable[[int, int], None]) -> Any:
    """The library's options: everything that it would do by itself is off."""
    return SyncObjConf(
        autoTick=False,
        journalFile=journal,
        dynamicMembershipChange=False,  # flaw 15
        appendEntriesUseBatch=True,
        appendEntriesPeriod=settings.heartbeat_s,
        raftMinTimeout=settings.election_s_min,
        raftMaxTimeout=settings.election_s_max,
        leaderFallbackTimeout=settings.leader_fallback_s,
        appendEntriesBatchSizeBytes=NEVER,  # flaw 14
        logCompactionMinEntries=NEVER,
        logCompactionMinTime=NEVER,
        commandsWaitLeader=False,
        connectionTimeout=max(3.5, settings.election_s_max),
        onStateChanged=changed,
    )
