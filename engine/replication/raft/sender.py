"""The leader's side of replication: bounded windows, appends, heartbeats, and what counts towards a quorum.

The library would slice its whole log for every node and send again what is still on its way with every ack. Here each
follower has a window of bytes sent and not acknowledged; it is filled once a turn, but for what `precedence` puts off.
The library always counts the leader's own copy, so it is shown matches no further than a *durable* quorum goes (flaw
6).
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from engine.replication.raft.core import RaftCore
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.precedence import LONE_BYTES_MAX, Precedence
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.connection import JOIN_BYTES_MAX
from engine.replication.transport.frames import APPEND_BYTES_MAX, APPEND_RECORDS_MAX, Buffer
from engine.replication.transport.messages import Ack, Append, Promote
from engine.replication.transport.transport import Transport


class Sent(NamedTuple):
    """One append on its way: its last record and its bytes."""

    last_index: int
    size: int


class Run(NamedTuple):
    """The records of one append, as it describes them."""

    first: int
    terms: list[int]
    lengths: list[int]
    checksums: list[int]
    payload: list[Buffer]


NO_RUN: Final = Run(0, [], [], [], [])


class Follower:
    """What the leader knows of one peer in this term."""

    def __init__(self, next_index: int) -> None:
        """Nothing yet; `next_index` is the next record to send to it."""
        self.next_index = next_index
        self.match_index = 0
        self.learner = False
        self.answered = False
        """Whether it did, as a voter, since the library was last shown what is known."""
        self.window: deque[Sent] = deque()
        self.window_bytes = 0

    def forget_window(self) -> None:
        """Nothing is on its way any more."""
        self.window.clear()
        self.window_bytes = 0

    def acknowledged(self, log_index: int) -> None:
        """All up to `log_index` is durable there."""
        self.match_index = max(self.match_index, log_index)
        while self.window and self.window[0].last_index <= log_index:
            self.window_bytes -= self.window.popleft().size


class Sender:
    """One per replica; does something only while it leads."""

    def __init__(
        self,
        core: RaftCore,
        journal: RaftJournal,
        transport: Transport,
        settings: RaftSettings,
        *,
        behind: Callable[[str], None],
        newest_hash: Callable[[], tuple[int, bytes]],
        precedence: Precedence,
    ) -> None:
        """`behind(peer)` is called for a follower that needs records which the log has dropped."""
        self._core = core
        self._journal = journal
        self._transport = transport
        self._settings = settings
        self._behind = behind
        self._newest_hash = newest_hash
        self._precedence = precedence
        self._run = NO_RUN
        self.quorum_index = 0
        """Up to here a quorum, this replica included, holds everything on its disks."""
        self.followers: dict[str, Follower] = {peer: Follower(1) for peer in core.nodes}

    def begin_term(self) -> None:
        """This replica was just elected: nothing is known of anyone."""
        self._run, self.quorum_index = NO_RUN, 0
        self._precedence.begin_term()
        for peer in self.followers:
            self.followers[peer] = Follower(self._journal.last_index + 1)

    def connection_changed(self, peer: str) -> None:
        """What was on its way to `peer` is lost. What it held counts again once it says so: it may come back with
        another disk, in the same term."""
        self.followers[peer] = Follower(self.followers[peer].next_index)
        self.count_copies()

    def send_records(self) -> None:
        """Fill every window: the end of a turn. A lone record goes to the quicker followers first."""
        last_index = self._journal.last_index
        if self._is_lone(last_index):
            self._precedence.put_off(last_index)
        for peer in list(self._transport.peers()):
            if self.followers[peer].next_index <= last_index and not self._precedence.puts_off(peer, last_index):
                while self._send_next(peer, last_index):
                    pass

    def send_heartbeats(self) -> None:
        """Records where there are any for the window, an empty append elsewhere."""
        state_hash, last_index = self._newest_hash(), self._journal.last_index
        for peer in list(self._transport.peers()):
            if not self._send_next(peer, last_index, state_hash):
                self._send_append(peer, 0, state_hash)

    def acknowledged(self, peer: str, ack: Ack) -> None:
        """A follower answered in this term."""
        follower = self.followers[peer]
        follower.learner = ack.learner
        follower.answered |= not ack.learner
        if ack.reset:
            follower.forget_window()
            follower.next_index = min(ack.next_index, self._journal.last_index + 1)
        elif ack.success:
            follower.acknowledged(ack.next_index - 1)
            if not ack.learner:
                self._precedence.holds(peer, ack.next_index - 1, self._journal.last_index)
            follower.next_index = max(follower.next_index, ack.next_index)
            if follower.learner:
                self._promote(peer, follower)
            self.count_copies()

    def holds_snapshot(self, peer: str, log_index: int) -> None:
        """A follower installed a snapshot: go on behind it."""
        self.followers[peer].forget_window()
        self.followers[peer].next_index = min(log_index, self._journal.last_index) + 1

    def count_copies(self) -> None:
        """Find out how far a durable quorum is."""
        copies = [0 if follower.learner else follower.match_index for follower in self.followers.values()]
        copies.append(self._journal.durable_index)
        copies.sort(reverse=True)
        self.quorum_index = copies[len(copies) // 2]

    def before_tick(self) -> None:
        """Show the library who answered, and each match, but none beyond what a durable quorum has reached."""
        for peer, follower in self.followers.items():
            match_index = 0 if follower.learner else follower.match_index
            self._core.show_match(peer, min(match_index, self.quorum_index))
            if follower.answered:
                follower.answered = False
                self._core.heard_from(peer)

    def ack_changes_nothing(self, peer: str, ack: Ack) -> bool:
        """Whether nothing follows from an ack that was taken: nothing to commit, and nothing to send."""
        is_plain = ack.success and not ack.reset and not ack.learner
        is_sent = self.followers[peer].next_index > self._journal.last_index
        return is_plain and is_sent and self.quorum_index <= self._core.commit_index

    def most_advanced(self, peers: Collection[str]) -> str | None:
        """The voter among `peers` that holds most: whom to hand over to."""
        voters = [peer for peer in peers if not self.followers[peer].learner]
        return max(voters, key=lambda peer: self.followers[peer].match_index, default=None)

    def has_all(self, peer: str) -> bool:
        """Whether a follower holds the whole log."""
        return self.followers[peer].match_index == self._journal.last_index

    # Within.

    def _is_lone(self, last_index: int) -> bool:
        """Whether one small record is new, and the quicker followers hold all before it."""
        if last_index != self._core.commit_index + 1 or self._journal.bytes_of(last_index) > LONE_BYTES_MAX:
            return False
        for peer in self._precedence.first:
            follower = self.followers[peer]
            if follower.match_index != last_index - 1 or follower.learner or follower.window:
                return False
        return True

    def _promote(self, peer: str, follower: Follower) -> None:
        """A learner that holds all that a quorum without it has committed in this term may vote."""
        commit_index = self._core.commit_index
        if follower.match_index >= commit_index and self._journal.term_at(commit_index) == self._core.term:
            self._transport.send(peer, Promote(self._core.term, commit_index))

    def _send_next(self, peer: str, last_index: int, state_hash: tuple[int, bytes] = (0, b"")) -> bool:
        """Send one append with records, if there are any and the window has room."""
        journal, follower = self._journal, self.followers[peer]
        first = follower.next_index
        if first > last_index:
            return False
        room = self._settings.window_bytes_max - follower.window_bytes
        if room <= 0:
            return False
        if first <= journal.base_index:
            self._behind(peer)
            return False
        if not self._transport.writable(peer):
            return False
        count, size = journal.run_from(first, APPEND_RECORDS_MAX, min(APPEND_BYTES_MAX, room))
        self._send_append(peer, count, state_hash)
        follower.next_index = first + count
        follower.window.append(Sent(first + count - 1, size))
        follower.window_bytes += size
        return True

    def _send_append(self, peer: str, count: int, state_hash: tuple[int, bytes]) -> None:
        """Without a known record before it (a snapshot is due), the append is a heartbeat that will be rejected."""
        journal, core = self._journal, self._core
        previous = max(self.followers[peer].next_index - 1, journal.base_index)
        run = self._run_of(previous + 1, count)
        described = (run.terms, run.lengths, run.checksums)
        message = Append(core.term, core.commit_index, previous, journal.term_at(previous), *described, *state_hash)
        self._transport.send(peer, message, run.payload)

    def _run_of(self, first: int, count: int) -> Run:
        """The records of one append; followers that are equally far share it."""
        if (first, count) != (self._run.first, len(self._run.terms)):
            self._run = run = Run(first, [], [], [], [])
            for log_index in range(first, first + count):
                _, term, record, checksum = self._journal.entry_at(log_index)
                run.terms.append(term)
                run.lengths.append(len(record))
                run.checksums.append(checksum)
                run.payload.append(record)
            if count > 1 and sum(run.lengths) < count * JOIN_BYTES_MAX:
                run.payload[:] = [b"".join(run.payload)]
        return self._run
