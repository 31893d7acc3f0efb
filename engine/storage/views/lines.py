"""Lines of a statement, as columns."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_WORDS, Words
from engine.storage.compiled import entry
from engine.storage.journal import Journal
from engine.storage.views.answers import Basis
from engine.storage.views.run import U32Array, U64Array, add_to


class Lines(NamedTuple):
    """n lines; see `answers.Page`."""

    rows: Words
    positions: U64Array
    debited: npt.NDArray[np.bool_]
    times: U64Array
    """Shape (n,): on the clock of the statement's basis."""

    @classmethod
    def none(cls) -> "Lines":
        """Return no lines."""
        return cls(
            np.empty((0, RECORD_WORDS), np.uint64),
            np.empty(0, np.uint64),
            np.empty(0, np.bool_),
            np.empty(0, np.uint64),
        )

    def plus(self, other: "Lines") -> "Lines":
        """Return these, then the others."""
        return Lines._make(np.concatenate(pair) for pair in zip(self, other, strict=True))

    def first(self, count: int) -> "Lines":
        """Return at most the first `count`."""
        return Lines._make(values[:count] for values in self)

    def in_order(self) -> "Lines":
        """Return them by time, then by position."""
        order = np.lexsort((self.positions, self.times))
        return Lines._make(values[order] for values in self)

    def behind(self, after: tuple[int, int]) -> "Lines":
        """Return those behind a (time, position)."""
        time_ns, position = np.uint64(after[0]), after[1]
        chosen = (self.times > time_ns) | ((self.times == time_ns) & (self.positions.astype(np.int64) > position))
        return Lines._make(values[chosen] for values in self)


@entry("void(u8[::1], u8[:, ::1], b1[::1], u8[:, ::1])")
def run_up(total: U64Array, rows: Words, debited: npt.NDArray[np.bool_], sums: Words) -> None:
    """Fill `sums`, shape (n, 4), with what was posted after each line; `total` is what was before."""
    for at in range(len(rows)):
        add_to(total, 0 if debited[at] else 1, rows[at, 6], rows[at, 7])
        for word in range(4):
            sums[at, word] = total[word]


def fetch(journal: Journal, first_position: int, entries: U32Array, basis: Basis) -> Lines:
    """Read the rows of some entries of a run, or of a tail, that begins at `first_position`."""
    positions = (entries >> np.uint32(1)).astype(np.uint64) + np.uint64(first_position)
    rows = journal.rows_at(positions)
    times = rows[:, 13].copy()
    if basis is Basis.VALUE:
        times = np.where(rows[:, 12] != 0, rows[:, 12], times)
    return Lines(rows, positions, (entries & np.uint32(1)).astype(np.bool_), times)
