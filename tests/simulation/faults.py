"""Planted faults: each takes one mend out, and the simulation must find it (DESIGN §14: negative controls)."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from engine.replication.raft.guard import Answer, Guard, Verdict, _library_append
from engine.replication.raft.identity import Membership
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.log import RaftLog
from engine.replication.raft.pending import Pending
from engine.replication.raft.sender import Sender
from engine.replication.raft.snapshot import Incoming, SnapshotReceiver
from tests.simulation.replica import Replica
from tests.simulation.store import SimulatedStore


@contextmanager
def patched(owner: type, name: str, value: Any) -> Iterator[None]:
    """Replace one attribute for a while."""
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def no_flush() -> AbstractContextManager[None]:
    """What was written counts as durable."""
    return patched(RaftJournal, "durable_index", property(lambda self: self.last_index))


def no_vote_sync() -> AbstractContextManager[None]:
    """Term and vote are written, never synced (rows 5 and 6 of the flaws, for votes)."""

    def save(self: RaftJournal, term: int, voted_for: str | None) -> None:
        self._log.term, self._log.voted_for = term, voted_for

    return patched(RaftJournal, "setCurrentTerm", save)


def no_guard() -> AbstractContextManager[None]:
    """Appends go to the library as they come."""

    def judge(self: Guard, peer: str, append: Any, records: Any) -> Verdict:
        if append.previous_index < self._log.base_index:
            return self._heartbeat(append, 0, Answer(self._log.base_index + 1, False, True))
        return Verdict(_library_append(append, append.previous_index, append.previous_term, records), None)

    return patched(Guard, "judge", judge)


def no_term_in_acks() -> AbstractContextManager[None]:
    """An ack of any term counts."""
    return patched(Guard, "counts_ack", staticmethod(lambda ack, current_term: True))


def no_index_check() -> AbstractContextManager[None]:
    """The store applies what it is handed, again too."""
    return patched(SimulatedStore, "checks_index", False)


def early_own_copy() -> AbstractContextManager[None]:
    """The leader counts its own copy before it is durable."""
    original = Sender.count_copies

    def count_copies(self: Sender) -> None:
        journal = self._journal

        class Eager:
            durable_index = journal.last_index

        self._journal = Eager()  # type: ignore[assignment]
        try:
            original(self)
        finally:
            self._journal = journal

    return patched(Sender, "count_copies", count_copies)


def stale_reads() -> AbstractContextManager[None]:
    """A leader answers a barrier by itself."""

    def barrier(self: RaftLog, done: Callable[[int | None], None]) -> None:
        self._require_leading()
        done(self._core.applied_index)

    return patched(RaftLog, "barrier", barrier)


def lost_callbacks() -> AbstractContextManager[None]:
    """A deposed leader forgets who waits."""

    def give_up(self: Pending) -> None:
        self._waiting.clear()
        self._barriers.clear()
        self._bytes = 0

    return patched(Pending, "give_up", give_up)


def early_compaction() -> AbstractContextManager[None]:
    """The log is dropped below what was applied, synced or not."""

    def forget(self: Replica, synced_index: int) -> None:
        if self.log is not None:
            self.log.truncate_below(self.store.log_index)
            self.loop.call_later(0.005, lambda: self.log and self.log.truncate_below(self.store.log_index))

    return patched(Replica, "forget", forget)


def wiped_may_vote() -> AbstractContextManager[None]:
    """A wiped replica is taken for what it was."""

    def judge(self: Membership, hello: Any) -> None:
        self._note_blank(hello)
        if not self.voter:
            self._become_voter()

    return patched(Membership, "judge", judge)


@contextmanager
def unchecked_snapshot() -> Iterator[None]:
    """Pieces are taken in whatever order they come, and nobody looks at the digest."""

    def collect(self: SnapshotReceiver, piece: Any, payload: memoryview) -> None:
        incoming = Incoming(piece.index, piece.index_term, piece.size, piece.digest)
        if incoming != self._incoming:
            self._incoming, self._wanted = incoming, 0
        self._files.write(self._store.incoming(), self._wanted, payload)
        self._wanted += len(payload)
        if self._wanted >= piece.size:
            self._finishing = asyncio.get_running_loop().create_task(self._finish(incoming))

    async def check_and_install(self: SnapshotReceiver, incoming: Incoming) -> None:
        if self._begin_install(incoming.log_index, incoming.index_term):
            await self._store.install(self._store.incoming(), incoming.log_index, incoming.index_term)
            self._installed(incoming.log_index, incoming.index_term)

    with (
        patched(SnapshotReceiver, "_collect", collect),
        patched(SnapshotReceiver, "_check_and_install", check_and_install),
    ):
        yield


FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no-flush": no_flush,
    "no-vote-sync": no_vote_sync,
    "no-guard": no_guard,
    "no-term-in-acks": no_term_in_acks,
    "no-index-check": no_index_check,
    "early-own-copy": early_own_copy,
    "stale-reads": stale_reads,
    "lost-callbacks": lost_callbacks,
    "early-compaction": early_compaction,
    "wiped-may-vote": wiped_may_vote,
    "unchecked-snapshot": unchecked_snapshot,
}
