"""Adding up one account's entries: stored sums, amounts, and rows of the journal."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.journal import Journal
from engine.storage.views.answers import Posted, posted_of
from engine.storage.views.run import ENTRIES_PER_SUM, AccountEntries, U64Array
from engine.storage.views.run_store import RunInfo

_HALF: Final = np.uint64(0xFFFFFFFF)
_HALF_BITS: Final = np.uint64(32)


class Sums:
    """Adds up stored sums, amounts, and journal rows, which are fetched together at the end."""

    def __init__(self) -> None:
        self._posted = [0, 0]
        self._positions: list[U64Array] = []
        self._debited: list[npt.NDArray[np.bool_]] = []

    def add_first(self, run: RunInfo, listed: AccountEntries, count: int) -> None:
        """Add an account's first `count` entries of a run, in one order."""
        if not count:
            return
        begin = 0
        if count == len(listed.entries) and len(listed.sums):
            begin = self._add_sum(listed.sums[-1], count)
        elif count >= ENTRIES_PER_SUM:
            number = count // ENTRIES_PER_SUM
            begin = self._add_sum(listed.sums[number - 1], number * ENTRIES_PER_SUM)
        entries = listed.entries[begin:count]
        self._positions.append((entries >> np.uint32(1)).astype(np.uint64) + np.uint64(run.first_position))
        self._debited.append((entries & np.uint32(1)).astype(np.bool_))

    def add_amounts(self, amounts: Words, side: int) -> None:
        """Add amounts, shape (n, 2), to debits (0) or credits (1)."""
        for word in range(2):
            halves = int((amounts[:, word] & _HALF).sum()), int((amounts[:, word] >> _HALF_BITS).sum())
            self._posted[side] += (halves[0] + (halves[1] << 32)) << (64 * word)

    def total(self, journal: Journal) -> Posted:
        """Fetch what is missing, and return the sums."""
        if self._positions:
            debited = np.concatenate(self._debited)
            amounts = journal.rows_at(np.concatenate(self._positions))[:, 6:8]
            self.add_amounts(amounts[debited], 0)
            self.add_amounts(amounts[~debited], 1)
        return Posted(*self._posted)

    def _add_sum(self, words: U64Array, count: int) -> int:
        posted = posted_of(words)
        self._posted[0] += posted.debits
        self._posted[1] += posted.credits
        return count
