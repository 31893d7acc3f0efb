"""Conservation: what every balance must be, from the rows and their answers alone, and what the books say."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.bulk import balances, open_stub
from bench.contention.books import Books
from bench.contention.sending import Outcomes
from engine.core.outcomes import Outcome
from engine.core.records import Kind, Words

_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)
MOVES: Final = (int(Kind.POST), int(Kind.COMMIT))


class Moved:
    """What was answered to have moved money."""

    def __init__(self, ids: npt.NDArray[np.uint64]) -> None:
        """Know the accounts, shape (n, 2)."""
        self.ids = ids
        self._order = np.argsort(ids[:, 0])  # the first halves are random: no two are equal
        self._ascending = ids[self._order, 0]
        self.change = np.zeros(len(ids), np.int64)
        """Shape (n,): credits less debits, minor units."""
        self.refused = 0

    def add(self, batches: Iterable[Words], outcomes: Iterable[Outcomes]) -> None:
        """Add batches with the outcomes of their rows."""
        for batch, of_rows in zip(batches, outcomes, strict=True):
            took_effect = of_rows == Outcome.POSTED
            moves = np.isin((batch[:, 15] >> _KIND_SHIFT) & _BYTE, MOVES)
            moving = batch[took_effect & moves]
            np.subtract.at(self.change, self._numbers(moving[:, 2]), moving[:, 6].astype(np.int64))
            np.add.at(self.change, self._numbers(moving[:, 4]), moving[:, 6].astype(np.int64))
            self.refused += int((~took_effect).sum())

    def _numbers(self, first_words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self._order[np.searchsorted(self._ascending, first_words)]
        return found


class Verdict(NamedTuple):
    """Whether a run's figures count."""

    differences: int
    """Accounts whose balance is not what the answers add up to."""
    balanced: bool
    """Whether every group's books add up."""

    @property
    def sound(self) -> bool:
        """Nothing was created, lost or posted twice."""
        return self.balanced and not self.differences


async def check(address: str, books: Books, moved: Moved) -> Verdict:
    """Audit every group at rest, and read every balance, linearizable."""
    balanced = await books.balanced()
    channel, stub = open_stub(address)
    async with channel:
        found = await balances(stub, moved.ids)
    return Verdict(int((found != moved.change).sum()), balanced)
