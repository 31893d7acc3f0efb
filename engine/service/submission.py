"""One caller's rows on their way through the log: what was asked, how far it is, and what came back."""

import asyncio
from enum import Enum
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.known import RESULT
from engine.core.records import Flag, Kind, Words
from engine.rpc.faults import Fault

LINKED_BIT: Final = np.uint64(Flag.LINKED << 24)
_KIND_MASK: Final = np.uint64(0xFF << 16)
_ACCOUNT_KINDS: Final = np.uint64(Kind.CREATE_ACCOUNT << 16)
"""This kind and all above it are no transfers, and have no chains."""


class Lane(Enum):
    """Small batches go before large ones, so that an end-of-day bulk does not stop card holds (DESIGN §10)."""

    LIVE = "live"
    BULK = "bulk"


class Caller(msgspec.Struct, frozen=True):
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

    `done` is resolved once each row has an outcome in `packed_results` or is covered by `missing`.
    """

    __slots__ = (
        "_cuts",
        "_words",
        "arrived_s",
        "caller",
        "count",
        "deadline_s",
        "done",
        "first_seen_ns",
        "in_flight",
        "log_index",
        "missing",
        "next_row",
        "packed_results",
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
        self._words = words
        self._cuts: npt.NDArray[np.int64] | None = None
        self.count = len(words)
        self.caller = caller
        self.done = done
        self.first_seen_ns = first_seen_ns
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.packed_results = bytearray(self.count * RESULT.itemsize)
        """What `results` views: as bytes, because copying a structured dtype goes field by field."""
        self.missing: list[MissingRows] = []
        self.next_row = 0
        self.in_flight = 0
        self.log_index = 0

    @property
    def waiting_rows(self) -> int:
        """Rows not yet put into a log record."""
        return self.count - self.next_row

    @property
    def results(self) -> npt.NDArray[np.void]:
        """One row of dtype `RESULT` for each of ours, shape (n,): zeros where there is none (yet)."""
        return np.frombuffer(self.packed_results, RESULT)

    def take(self, rows_max: int) -> tuple[int, int]:
        """Take the next rows for a log record: (first, count). Never cuts a chain: 0 rows if `rows_max` is too few for
        the next one, unless `rows_max` is that of an empty record (the caller passes at least one row then)."""
        first, last = self.next_row, self.next_row + rows_max
        self.next_row = self.count if last >= self.count else self._last_cut(last)
        return first, self.next_row - first

    def first_chain_rows(self) -> int:
        """Return how many rows the next chain (or single transfer) has."""
        cuts = self._where_to_cut()
        return int(cuts[np.searchsorted(cuts, self.next_row, "right")]) - self.next_row

    def rows_bytes(self, first: int, count: int) -> memoryview:
        """Return the bytes of some rows, without copying."""
        return self._words[first : first + count].data.cast("B")

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

    def take_results(self, first: int, packed: bytes, log_index: int) -> None:
        """Take the results of a run of rows, packed, that are applied at `log_index`."""
        at = first * RESULT.itemsize
        self.packed_results[at : at + len(packed)] = packed
        self.log_index = max(self.log_index, log_index)
        self.in_flight -= 1
        self.settle()

    def _last_cut(self, row_max: int) -> int:
        cuts = self._where_to_cut()
        at = int(np.searchsorted(cuts, row_max, "right")) - 1
        return max(self.next_row, int(cuts[at])) if at >= 0 else self.next_row

    def _where_to_cut(self) -> npt.NDArray[np.int64]:
        """Return the row numbers behind which a record may end, ascending; most submissions go whole, and never ask."""
        if self._cuts is None:
            meta, self._cuts = self._words[:, 15], np.arange(1, self.count + 1)
            if np.bitwise_or.reduce(meta) & LINKED_BIT:
                # Of an account command the same bit says how the account is limited.
                linked = (meta & LINKED_BIT) * (meta & _KIND_MASK < _ACCOUNT_KINDS)
                self._cuts = self._cuts[linked == 0]
        return self._cuts


def words_of_results(results: npt.NDArray[np.void]) -> Words:
    """View results, dtype `RESULT`, shape (n,), as words of shape (n, 3)."""
    return results.view(np.uint64).reshape(-1, RESULT.itemsize // 8)
