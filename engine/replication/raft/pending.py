"""What was proposed here and waits for its commit; barriers too. Nobody's callback is ever lost.

Ordered by log index. A record is settled with its index when a record of the same index and term is handed to `apply`;
with None (its fate is unknown: it may commit later) when another record took its index or this replica stopped leading.
"""

from collections import deque
from typing import NamedTuple

from engine.replication.interface import NotProposed, Proposed
from engine.replication.raft.settings import RaftSettings


class Waiting(NamedTuple):
    """One record, or all barriers that share one."""

    log_index: int
    term: int
    size: int
    callbacks: tuple[Proposed, ...]


class Pending:
    """Callbacks run in `tell`, never within the change that settles them."""

    def __init__(self, settings: RaftSettings) -> None:
        """Bounds: `proposals_max`, `proposal_bytes_max`."""
        self._settings = settings
        self._waiting: deque[Waiting] = deque()
        self._settled: list[tuple[Proposed, int | None]] = []
        self._bytes = 0
        self._barriers: list[Proposed] = []
        self._barriers_asked_at_index = 0

    def __len__(self) -> int:
        """Records, groups of barriers, and barriers not in the log yet."""
        return len(self._waiting) + len(self._barriers)

    def require_room(self, size: int) -> None:
        """Raise `NotProposed(full=True)` if one more record of `size` bytes is over the bounds."""
        if len(self) >= self._settings.proposals_max:
            raise NotProposed(f"{len(self)} records are waiting for their commit, as many as may", full=True)
        if self._waiting and self._bytes + size > self._settings.proposal_bytes_max:
            raise NotProposed(f"{self._bytes} bytes of records are waiting for their commit, as many as may", full=True)

    def add(self, log_index: int, term: int, size: int, *callbacks: Proposed) -> None:
        """Wait for the record that was just appended at `log_index`."""
        self._waiting.append(Waiting(log_index, term, size, callbacks))
        self._bytes += size

    def add_barrier(self, done: Proposed, last_index: int) -> None:
        """Wait for a record that is appended after this moment, at which the log ends at `last_index`."""
        self._barriers.append(done)
        self._barriers_asked_at_index = last_index

    @property
    def has_barriers(self) -> bool:
        """Whether barriers wait that no record of the log stands for yet."""
        return bool(self._barriers)

    def barriers_need_record(self, last_index: int) -> bool:
        """Whether a no-op must be appended for them: a record proposed since they asked would serve as well."""
        return last_index <= self._barriers_asked_at_index

    def place_barriers(self, last_index: int, term: int) -> None:
        """All that wait share the newest record; it was appended after each of them asked."""
        if self._barriers:
            self.add(last_index, term, 0, *self._barriers)
            self._barriers.clear()

    def settle(self, log_index: int, term: int) -> None:
        """The record at `log_index` was handed over, and it has this term."""
        while self._waiting and self._waiting[0].log_index <= log_index:
            waiting = self._waiting.popleft()
            self._bytes -= waiting.size
            same = waiting.log_index == log_index and waiting.term == term
            for callback in waiting.callbacks:
                self._settled.append((callback, log_index if same else None))

    def give_up(self) -> None:
        """This replica no longer leads, or is stopping: the fate of all that waits is unknown."""
        for waiting in self._waiting:
            self._settled.extend((callback, None) for callback in waiting.callbacks)
        self._settled.extend((callback, None) for callback in self._barriers)
        self._waiting.clear()
        self._barriers.clear()
        self._bytes = 0

    def tell(self) -> None:
        """Call back what is settled; callbacks may propose anew."""
        while self._settled:
            settled, self._settled = self._settled, []
            for callback, log_index in settled:
                callback(log_index)
