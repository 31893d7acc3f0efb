"""The mixes: who pays whom, as packed batches, made before the clock starts; equal seeds make equal batches.

In every mix the share of transfers that cross groups is chosen, as far as the placement allows; a part of the transfers
within a group can be holds: a RESERVE and, as the next row, its COMMIT.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.batches import AMOUNT_MAX, time_ordered_ids
from bench.contention.accounts import FEES, LEDGER, PAYER, Cast
from engine.core.records import RECORD_WORDS, Kind, Words

Numbers = npt.NDArray[np.int64]
ZIPF_RANK_MIN: Final = 1
HOLD_TIMEOUT_S: Final = 3600
_TIMEOUT_SHIFT: Final = np.uint64(32)
_ANY: Final = -1
"""No wish about crossing."""


class Shares(NamedTuple):
    """What may be chosen of a mix."""

    crossing: float
    """Of transfers between ordinary accounts: the part that crosses groups; below 0: as accounts happen to lie. In one
    group none can."""
    hot_crossing: float
    """Of transfers with the hot account: likewise; below 0: as accounts happen to lie, as for a real fee account."""
    holds: float
    """Of transfers within a group: the part that is reserved first, then committed."""
    zipf_exponent: float


class Mix:
    """A source of batches. `rng` decides everything."""

    def __init__(self, cast: Cast, shares: Shares, rng: np.random.Generator) -> None:
        self._cast, self._shares, self._rng = cast, shares, rng
        self._groups = cast.groups[cast.ordinary.start : cast.ordinary.stop]
        self._made = 0
        self._of_rank = rng.permutation(len(cast.ordinary))

    def batch(self, name: str, count: int) -> Words:
        """Make the next batch of a mix, of at most `count` rows: shape (n, 16)."""
        transfers = int(count / (1 + self._shares.holds))
        pairs = PAIRS[name](self, transfers)
        words = self.between(pairs, self._rng.integers(1, AMOUNT_MAX + 1, transfers))
        local = self._cast.groups[pairs[:, 0]] == self._cast.groups[pairs[:, 1]]
        held = local & (self._rng.random(transfers) < self._shares.holds)
        return self._with_holds(words, held & (np.cumsum(held) <= count - transfers))

    def between(self, pairs: Numbers, amounts: Numbers) -> Words:
        """Make a POST for each pair (debit, credit) of numbers of the cast, shape (n, 2)."""
        count = len(pairs)
        words = np.zeros((count, RECORD_WORDS), np.uint64)
        words[:, 0:2] = time_ordered_ids(count, 1 + 2 * self._made, self._rng)
        self._made += count
        words[:, 2:4] = self._cast.ids[pairs[:, 0]]
        words[:, 4:6] = self._cast.ids[pairs[:, 1]]
        words[:, 6] = amounts
        words[:, 14] = LEDGER
        words[:, 15] = np.uint64(1 | Kind.POST << 16)
        return words

    def _with_holds(self, words: Words, held: npt.NDArray[np.bool_]) -> Words:
        """Turn some transfers into a RESERVE and its COMMIT, as neighbours in the batch."""
        if not held.any():
            return words
        commits = self.committing(words[held])
        words[held] = reserving(words[held])
        return np.insert(words, np.flatnonzero(held) + 1, commits, axis=0)

    def committing(self, words: Words) -> Words:
        """Return the COMMITs that end these transfers, if they are RESERVEs, shape (n, 16)."""
        commits = words.copy()
        commits[:, 8:10] = words[:, 0:2]
        commits[:, 0:2] = time_ordered_ids(len(words), 1 + 2 * self._made, self._rng)
        self._made += len(words)
        commits[:, 14] = LEDGER
        commits[:, 15] = np.uint64(1 | Kind.COMMIT << 16)
        return commits

    # -- pairs of accounts

    def uniform(self, count: int) -> Numbers:
        """All accounts alike."""
        return self._partnered(self._rng.integers(0, len(self._groups), count))

    def zipf(self, count: int) -> Numbers:
        """Few accounts pay much, most of them little."""
        ranks = np.arange(ZIPF_RANK_MIN, len(self._groups) + ZIPF_RANK_MIN) ** -self._shares.zipf_exponent
        drawn = np.searchsorted(np.cumsum(ranks / ranks.sum()), self._rng.random(count))
        return self._partnered(self._of_rank[drawn.clip(0, len(self._groups) - 1)])

    def hot_credit(self, count: int) -> Numbers:
        """Everybody pays fees to one account."""
        return np.stack((self._partners_of(FEES, count), np.full(count, FEES)), axis=1)

    def hot_debit(self, count: int) -> Numbers:
        """One account pays everybody."""
        return np.stack((np.full(count, PAYER), self._partners_of(PAYER, count)), axis=1)

    def _partnered(self, debit: Numbers) -> Numbers:
        """Give each payer another account: of another group or its own, as the shares say."""
        crossing = self._crosses(len(debit), self._shares.crossing)
        credit = (debit + 1 + self._rng.integers(0, len(self._groups) - 1, len(debit))) % len(self._groups)
        while (wrong := self._is_wrong(debit, credit, crossing)).any():
            credit[wrong] = (credit[wrong] + 1) % len(self._groups)
        return np.stack((debit, credit), axis=1) + self._cast.ordinary.start

    def _is_wrong(self, debit: Numbers, credit: Numbers, crossing: Numbers) -> npt.NDArray[np.bool_]:
        crosses = self._groups[debit] != self._groups[credit]
        wrong: npt.NDArray[np.bool_] = (debit == credit) | ((crossing != _ANY) & (crosses != crossing))
        return wrong

    def _partners_of(self, hot: int, count: int) -> Numbers:
        """Draw ordinary accounts for the hot one."""
        drawn = self._rng.integers(0, len(self._groups), count)
        crossing = self._crosses(count, self._shares.hot_crossing)
        home = self._cast.groups[hot]
        while (wrong := (crossing != _ANY) & ((self._groups[drawn] != home) != crossing)).any():
            drawn[wrong] = (drawn[wrong] + 1) % len(self._groups)
        return drawn + self._cast.ordinary.start

    def _crosses(self, count: int, share: float) -> Numbers:
        """Draw which transfers cross: 1, 0, or `_ANY`."""
        if share < 0:
            return np.full(count, _ANY)
        possible = len(set(self._cast.groups.tolist())) > 1
        return ((self._rng.random(count) < share) & possible).astype(np.int64)


PAIRS: Final[dict[str, Callable[[Mix, int], Numbers]]] = {
    "uniform": Mix.uniform,
    "zipf": Mix.zipf,
    "hot-credit": Mix.hot_credit,
    "hot-debit-limited": Mix.hot_debit,
}


def reserving(words: Words) -> Words:
    """Return RESERVEs of what these POSTs would move, shape (n, 16)."""
    reserves = words.copy()
    reserves[:, 14] |= np.uint64(HOLD_TIMEOUT_S) << _TIMEOUT_SHIFT
    reserves[:, 15] = np.uint64(1 | Kind.RESERVE << 16)
    return reserves
