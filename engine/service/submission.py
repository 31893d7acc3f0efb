"""One caller's rows on their way through the log: what was asked, how far it is, and what came back."""

import asyncio
from enum import Enum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.known import RESULT
from engine.core.records import RECORD_BYTES, Flag, Kind, Words
from engine.rpc.faults import Fault

LINKED_BIT: Final = np.uint64(Flag.LINKED << 24)
_KIND_MASK: Final = np.uint64(0xFF << 16)
_ACCOUNT_KINDS: Final = np.uint64(Kind.CREATE_ACCOUNT << 16)
"""This kind and all above it are no transfers, and have no chains."""


class Lane(Enum):
    """Small batches go before large ones, so that an end-of-day bulk does not stop card holds (DESIGN §10)."""

    LIVE = "live"
    BULK = "bulk"


class Caller(NamedTuple):
    """Who asks, for the log record's caller table."""

    identity: str
    attempt: int
    lane: Lane | None = None
    """The lane to take; None: by the size of the batch."""


class MissingRows(NamedTuple):
    """Rows first..first+rows-1 that got a fault instead of an outcome."""

    first: int
    rows: int
    fault: Fault


class Submission:
    """Valid rows of one call, shape (n, 16), C-contiguous, n > 0. Lives on the event loop's thread.

    `done` is resolved once each row has an outcome in `results` (dtype `RESULT`) or is covered by `missing`.
    """

    __slots__ = (
        "_cuts",
        "arrived_s",
        "bytes_view",
        "caller",
        "count",
        "deadline_s",
        "done",
        "first_seen_ns",
        "in_flight",
        "log_index",
        "missing",
        "next_row",
        "result_words",
        "results",
    )

    def __init__(
        self,
        words: Words,
        caller: Caller,
        done: "asyncio.Future[Submission]",
        *,
        first_seen_ns: int,
        arrived_s: float,
        deadline_s: float,
    ) -> None:
        self.bytes_view = words.data.cast("B")
        self.count = len(words)
        self.caller = caller
        self.done = done
        self.first_seen_ns = first_seen_ns
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.results: npt.NDArray[np.void] = np.zeros(self.count, RESULT)
        # The same memory: copying a structured dtype goes field by field.
        self.result_words = words_of_results(self.results)
        self.missing: list[MissingRows] = []
        self.next_row = 0
        self.in_flight = 0
        self.log_index = 0
        self._cuts = _cuts(words)

    @property
    def waiting_rows(self) -> int:
        """Rows not yet put into a log record."""
        return self.count - self.next_row

    def take(self, rows_max: int) -> tuple[int, int]:
        """Take the next rows for a log record: (first, count). Never cuts a chain: 0 rows if `rows_max` is too few for
        the next one, unless `rows_max` is that of an empty record (the caller passes at least one row then)."""
        first, last = self.next_row, self._last_cut(self.next_row + rows_max)
        self.next_row = last
        return first, last - first

    def first_chain_rows(self) -> int:
        """Return how many rows the next chain (or single transfer) has."""
        if self._cuts is None:
            return 1
        return int(self._cuts[np.searchsorted(self._cuts, self.next_row, "right")]) - self.next_row

    def rows_bytes(self, first: int, count: int) -> memoryview:
        """Return the bytes of some rows, without copying."""
        return self.bytes_view[first * RECORD_BYTES : (first + count) * RECORD_BYTES]

    def give_up(self, fault: Fault) -> int:
        """End the rows that were not logged with a fault; returns how many."""
        rows = self.waiting_rows
        if rows:
            self.missing.append(MissingRows(self.next_row, rows, fault))
            self.next_row = self.count
        self.settle()
        return rows

    def settle(self) -> None:
        """Resolve `done` if nothing is outstanding."""
        if not self.in_flight and self.next_row == self.count and not self.done.done():
            self.done.set_result(self)

    def _last_cut(self, row_max: int) -> int:
        if row_max >= self.count:
            return self.count
        if self._cuts is None:
            return row_max
        at = int(np.searchsorted(self._cuts, row_max, "right")) - 1
        return max(self.next_row, int(self._cuts[at])) if at >= 0 else self.next_row


def words_of_results(results: npt.NDArray[np.void]) -> Words:
    """View results, dtype `RESULT`, shape (n,), as words of shape (n, 3)."""
    return results.view(np.uint64).reshape(-1, RESULT.itemsize // 8)


def _cuts(words: Words) -> npt.NDArray[np.int64] | None:
    """Return the row numbers behind which a record may end, ascending; None if it may end anywhere."""
    meta = words[:, 15]
    if not np.bitwise_or.reduce(meta) & LINKED_BIT:
        return None
    # Of an account command the same bit says how the account is limited.
    linked = (meta & LINKED_BIT) * (meta & _KIND_MASK < _ACCOUNT_KINDS)
    if not linked.any():
        return None
    return np.flatnonzero(linked == 0) + 1
