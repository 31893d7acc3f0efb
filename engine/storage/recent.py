"""The newest journal rows, kept in memory: rows that are applied but not yet saved, and those that followers soon name.

A commit or a retry mostly comes soon after what it follows, so most look-ups end here without touching LMDB.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.known import Applied
from engine.core.records import Words
from engine.storage.compiled import entry
from engine.storage.journal import StoredRows, empty_rows

RECENT_ROWS: Final = 1 << 18
"""Rows kept: 36 MiB once all were used. A power of two."""
_LEG_SHIFT: Final = np.uint64(48)
_ZERO: Final = np.uint64(0)


@entry("void(u8[:, ::1], u8[:, ::1], b1[::1], i8, u8[:, ::1])")
def _append(rows: Words, requested: Words, chain_last: npt.NDArray[np.bool_], position: int, block: Words) -> None:
    """Copy the last rows of a block, as many as there is room for, to their places in the ring."""
    count, capacity = len(block), len(rows)
    for number in range(max(0, count - capacity), count):
        at = (position + number) % capacity
        for word in range(16):
            rows[at, word] = block[number, word]
        requested[at, 0], requested[at, 1] = block[number, 6], block[number, 7]
        chain_last[at] = number + 1 == count or block[number + 1, 15] >> _LEG_SHIFT == _ZERO


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
        _append(*self._ring, self.end, applied.rows)
        if len(applied.requested_index):
            within = applied.requested_index >= max(0, len(applied.rows) - self.capacity)
            at = (self.end + applied.requested_index[within].astype(np.int64)) % self.capacity
            self._ring.requested[at] = applied.requested_amount[within]
        self.end += len(applied.rows)

    def read(self, positions: npt.NDArray[np.uint64], into: StoredRows, where: npt.NDArray[np.int64]) -> None:
        """Copy the rows at `positions`, shape (m,), all between `start` and `end`, to places `where` of `into`."""
        at = (positions % np.uint64(self.capacity)).astype(np.int64)
        for target, ring in zip(into, self._ring, strict=True):
            target[where] = ring[at]
