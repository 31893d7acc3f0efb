"""Mends PySyncObj's handling of what peers say, before it is delivered (flaws 1 to 4 of its 0.3.17).

Pure: no socket, no clock of its own. The library truncates everything behind `prevLogIdx`, matching and committed
records too (1); lets replies to pipelined messages overwrite its back-off (2); takes a commit index from a message
that verified nothing (3); counts acks of former terms, and one voter's duplicates (4). So an `Append` is trimmed to
what is new here, or answered without the library.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.transport.frames import Record
from engine.replication.transport.messages import Ack, Append

REJECTION_REPEAT_S: Final = 0.25
"""A rejection is said again after this long, in case it was lost. Until then one is enough: the leader pipelines."""

LibraryMessage = dict[str, Any]
"""A message as PySyncObj knows it."""


class GuardedLog(Protocol):
    """What the guard must know about this replica."""

    @property
    def base_index(self) -> int:
        """The index of the oldest record whose term is known; all up to it are committed."""

    @property
    def last_index(self) -> int:
        """The index of the newest record."""

    @property
    def commit_index(self) -> int:
        """Up to here nothing may change."""

    def term_at(self, log_index: int) -> int:
        """The term of the record at an index from `base_index` to `last_index`."""


class Answer(NamedTuple):
    """What to tell the leader: `Ack` without the term, which is added when it leaves."""

    next_index: int
    reset: bool
    success: bool


class Verdict(NamedTuple):
    """What remains of a message: something for the library, something for the sender."""

    deliver: LibraryMessage
    answer: Answer | None


class _Rejection(NamedTuple):
    term: int
    hint: int
    told_at_s: float


class Guard:
    """One per replica; forgets a peer's rejection when its connection ends."""

    def __init__(self, log: GuardedLog, now: Callable[[], float]) -> None:
        """`now` is the loop's monotonic clock, in seconds."""
        self._log = log
        self._now = now
        self._rejections: dict[str, _Rejection] = {}
        self._voters: set[tuple[int, str]] = set()

    def forget(self, peer: str) -> None:
        """The connection to `peer` ended: nothing is outstanding any more."""
        self._rejections.pop(peer, None)

    def counts_vote(self, peer: str, term: int, current_term: int) -> bool:
        """Whether this is the first vote of `peer` in the current term: the library would count duplicates."""
        if term != current_term or (term, peer) in self._voters:
            return False
        self._voters = {voter for voter in self._voters if voter[0] == term} | {(term, peer)}
        return True

    @staticmethod
    def counts_ack(ack: Ack, current_term: int) -> bool:
        """An ack of another term says nothing about the log of this one (4)."""
        return ack.term == current_term

    def judge(self, peer: str, append: Append, records: list[Record]) -> Verdict:
        """Trim one `Append` of a current leader to what is new here (1), or reject it once, with a hint (2)."""
        log = self._log
        previous = append.previous_index
        if previous > log.last_index or (previous >= log.base_index and log.term_at(previous) != append.previous_term):
            return self._reject(peer, append)
        self._rejections.pop(peer, None)
        if previous < log.base_index:
            return self._above_base(append, records)
        return self._trim(append, previous, append.previous_term, records)

    def _above_base(self, append: Append, records: list[Record]) -> Verdict:
        """All up to the base is committed, so the leader of a current term has the same records there."""
        log = self._log
        known = log.base_index - append.previous_index
        if len(records) <= known:
            return self._heartbeat(append, log.commit_index, Answer(log.base_index + 1, reset=False, success=True))
        return self._trim(append, log.base_index, log.term_at(log.base_index), records[known:])

    def _trim(self, append: Append, previous: int, previous_term: int, records: list[Record]) -> Verdict:
        log = self._log
        last, new = log.last_index, 0
        for record in records:
            if record.log_index > last or log.term_at(record.log_index) != record.term:
                break
            previous, previous_term, new = record.log_index, record.term, new + 1
        records = records[new:] if new else records
        if previous < last and not records:
            return self._heartbeat(append, min(append.commit_index, previous), Answer(previous + 1, False, True))
        if previous < last and previous < log.commit_index:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED,
                f"the leader wants to replace record {previous + 1}, but all up to {log.commit_index} are committed "
                "here: two histories exist; stop the group and compare its replicas with `verify` and `audit`",
            )
        return Verdict(_library_append(append, previous, previous_term, records), None)

    def _reject(self, peer: str, append: Append) -> Verdict:
        known, now = self._rejections.get(peer), self._now()
        commit_index = self._log.commit_index
        if (
            known is not None
            and known.term == append.term
            and append.previous_index >= known.hint
            and now - known.told_at_s < REJECTION_REPEAT_S
        ):
            return self._heartbeat(append, commit_index, Answer(self._log.last_index + 1, False, False))
        hint = self._hint(append.previous_index)
        self._rejections[peer] = _Rejection(append.term, hint, now)
        return self._heartbeat(append, commit_index, Answer(hint, reset=True, success=False))

    def _hint(self, previous: int) -> int:
        """Where the leader should go on: our end, or the first record of the term that conflicts."""
        log = self._log
        if previous > log.last_index:
            return log.last_index + 1
        conflicting, hint = log.term_at(previous), previous
        floor = max(log.commit_index, log.base_index) + 1
        while hint > floor and log.term_at(hint - 1) == conflicting:
            hint -= 1
        return hint

    def _heartbeat(self, append: Append, commit_index: int, answer: Answer) -> Verdict:
        """The library hears its leader, and never commits beyond what was verified (3)."""
        commit_index = max(commit_index, self._log.commit_index)
        return Verdict({"type": "append_entries", "term": append.term, "commit_index": commit_index}, answer)


def _library_append(append: Append, previous: int, previous_term: int, records: list[Record]) -> LibraryMessage:
    return {
        "type": "append_entries",
        "term": append.term,
        "commit_index": append.commit_index,
        "prevLogIdx": previous,
        "prevLogTerm": previous_term,
        "entries": records,
    }
