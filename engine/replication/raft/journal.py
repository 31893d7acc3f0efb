"""The durable journal (`journal.SegmentedLog`) as PySyncObj's core sees it: a list of (command, index, term).

Position 0 is the log's base, the record just before the first one held, of which only index and term are known. The
core reads nothing but indexes and terms, so no record's bytes pass through it; the sender and `apply` take them from
`record`. Nothing is ever rewritten in place, cleared, or trimmed by the library (flaws 5, 7, 8, 9).
"""

from collections.abc import Callable
from typing import Final

from pysyncobj.journal import Journal

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.journal import Entry, SegmentedLog
from engine.replication.transport.frames import Buffer

NO_COMMAND: Final = b""
FORGET_STEP_BYTES: Final = 4 << 20
"""The base moves in steps of at least this much: each move is a record of its own."""
REST_EVERY_S: Final = 1.0

Row = tuple[bytes, int, int]
"""What the library knows of a record."""


class RaftJournal(Journal):  # type: ignore[misc]
    """One per replica. All on the loop's thread."""

    def __init__(self, log: SegmentedLog, commit_index: Callable[[], int] = lambda: 0) -> None:
        """`commit_index` guards what is committed against truncation; see `follow_commit`."""
        self._log, self._index = log, log.index
        self._commit_index = commit_index

    def follow_commit(self, commit_index: Callable[[], int]) -> None:
        """Give the source of the commit index, once the core exists."""
        self._commit_index = commit_index

    @property
    def commit_index(self) -> int:
        """Up to here nothing may change (see `guard.GuardedLog`)."""
        return self._commit_index()

    @property
    def base_index(self) -> int:
        """The index just before the first record held; its term is known."""
        return self._index.base_index

    @property
    def last_index(self) -> int:
        """The newest record, durable or not."""
        return self._index.last_index

    @property
    def last_term(self) -> int:
        """Its term."""
        return self._index.last_term

    @property
    def durable_index(self) -> int:
        """Everything up to here is on this disk."""
        return self._log.durable_index

    @property
    def log_bytes(self) -> int:
        """Bytes of all records held."""
        return self._index.payload_bytes

    def term_at(self, log_index: int) -> int:
        """The term of a record, or of the base."""
        return self._index.term_at(log_index)

    def entry_at(self, log_index: int) -> Entry:
        """One record, from memory or from the disk."""
        return self._log.entry_at(log_index)

    def bytes_of(self, log_index: int) -> int:
        """Bytes of a record that is held."""
        return self._log.length_at(log_index)

    def run_from(self, first: int, count_max: int, bytes_max: int) -> tuple[int, int]:
        """How many records from `first` on fit into one message, at least one; returns (count, bytes)."""
        size, end = self._log.length_at(first), min(self._log.last_index + 1, first + count_max)
        following = first + 1
        while following < end:
            length = self._log.length_at(following)
            if size + length > bytes_max:
                break
            size, following = size + length, following + 1
        return following - first, size

    def on_durable(self, became_durable: Callable[[], None], failed: Callable[[EngineStopped], None]) -> None:
        """Register who is told of each finished group, and of a disk that failed."""
        self._log.on_durable, self._log.on_failure = became_durable, failed

    def write_soon(self) -> None:
        """Hand what was appended to the disk's thread."""
        self._log.start_sync()

    def forget_to(self, log_index: int, keep_bytes: int) -> None:
        """Forget records up to `log_index`, but keep the newest `keep_bytes`."""
        log, first = self._log, self._log.base_index + 1
        size = log.payload_bytes
        while first <= log_index and (length := log.length_at(first)) <= size - keep_bytes:
            size, first = size - length, first + 1
        if log.payload_bytes - size >= min(FORGET_STEP_BYTES, keep_bytes + 1):
            log.forget_to(first - 1)

    def restart_at(self, log_index: int, term: int) -> None:
        """Begin anew behind a snapshot."""
        self._log.reset(log_index, term)

    def close(self) -> None:
        """Sync and release the folder."""
        self._log.close()

    # What the library calls.

    def add(self, command: Buffer, idx: int, term: int, checksum: int | None = None) -> None:
        """Append one record."""
        if idx != self._index.last_index + 1:
            raise EngineStopped(
                ExitCode.FAILED, f"record {idx} was to follow {self._index.last_index}: report this as a bug"
            )
        self._log.append(term, command, checksum)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Drop what another leader overwrites; never what is committed."""
        log_index = self._log.base_index + entryFrom
        if log_index <= self._commit_index():
            raise EngineStopped(
                ExitCode.DATA_DAMAGED,
                f"record {log_index} is committed and was to be dropped: two histories exist; stop the group and "
                "compare its replicas with `verify` and `audit`",
            )
        self._log.truncate_from(log_index)

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Never: see `forget_to`."""
        raise EngineStopped(ExitCode.FAILED, "the Raft library wants to trim the log: report this as a bug")

    def clear(self) -> None:
        """Never: a log that does not fit is refused at the start (flaw 9)."""
        raise EngineStopped(ExitCode.FAILED, "the Raft library wants to clear the log: report this as a bug")

    def __getitem__(self, item: int | slice) -> Row | list[Row]:
        """Rows by position from the base."""
        if item == -1:
            return NO_COMMAND, self._index.last_index, self._index.last_term
        if isinstance(item, slice):
            return [self._row(position) for position in range(*item.indices(len(self)))]
        return self._row(item)

    def __len__(self) -> int:
        """Records held, and the base."""
        return self._index.last_index - self._index.base_index + 1

    def _row(self, position: int) -> Row:
        log_index = self._index.base_index + position
        return NO_COMMAND, log_index, self._index.term_at(log_index)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Not kept: after a start, what the store has applied is what is known to be committed."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """See `setRaftCommitIndex`."""
        return self._log.base_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Durable when this returns: before any message that depends on it leaves."""
        self._log.save_vote(term, votedForNodeId)

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The term."""
        return self._log.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Whom this replica voted for in it."""
        return self._log.voted_for

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Called by the library's tick about once a second."""
        self._log.rest()

    def _destroy(self) -> None:
        """Closing is `close`."""
