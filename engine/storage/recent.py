"""The newest journal rows, kept in memory: rows that are applied but not yet saved, and those that followers soon name.

A commit or a retry mostly comes soon after what it follows, so most look-ups end here without touching LMDB.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.known import Applied
from engine.storage.journal import StoredRows, chain_ends, empty_rows

RECENT_ROWS: Final = 1 << 18
"""Rows kept: 36 MiB once all were used. A power of two."""


class RecentRows:
    """A ring of the last `capacity` rows, by position. Used on the apply thread only."""

    def __init__(self, first_position: int, capacity: int = RECENT_ROWS) -> None:
        self._ring = empty_rows(capacity)
        self.capacity = capacity
        self._first = first_position
        self.end = first_position

    @property
    def start(self) -> int:
        """The first position still here."""
        return max(self._first, self.end - self.capacity)

    def append(self, applied: Applied) -> None:
        """Add one block's rows at `end`."""
        rows = applied.rows[-self.capacity :]
        requested = applied.rows[:, 6:8].copy()
        requested[applied.requested_index] = applied.requested_amount
        self._put(self.end + len(applied.rows) - len(rows), StoredRows(rows, requested, chain_ends(applied.rows)))
        self.end += len(applied.rows)

    def _put(self, position: int, block: StoredRows) -> None:
        count = len(block.rows)
        at = position % self.capacity
        first = min(count, self.capacity - at)
        for ring, values in zip(self._ring, block, strict=True):
            kept = values[-count:] if count else values[:0]
            ring[at : at + first] = kept[:first]
            ring[: count - first] = kept[first:]

    def read(self, positions: npt.NDArray[np.uint64], into: StoredRows, where: npt.NDArray[np.int64]) -> None:
        """Copy the rows at `positions`, shape (m,), all between `start` and `end`, to places `where` of `into`."""
        at = (positions % np.uint64(self.capacity)).astype(np.int64)
        for target, ring in zip(into, self._ring, strict=True):
            target[where] = ring[at]
