"""Rates of the mixes as ratios to the uniform one: slices of all of them in turn, on the same cluster, in the same run.

A machine's speed drifts while a benchmark runs. So each round has one slice of every mix, in another order each time,
and what is told is the median over the rounds of a mix's rate by the uniform rate of the same round.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.contention.accounts import BANK, PAYER
from bench.contention.books import Books
from bench.contention.checks import Moved
from bench.contention.journals import JournalRows, Journals
from bench.contention.mixes import Mix
from bench.contention.sending import Sender, Slice, post_all
from engine.core.outcomes import Outcome
from engine.core.records import Words

UNIFORM: Final = "uniform"
LIMITED: Final = "hot-debit-limited"
WARM_UPS: Final = 2
WARM_UP_BATCHES: Final = 4
SLICE_BATCHES_MIN: Final = 3
SLICE_BATCHES_MAX: Final = 64
SPARE_ONE_IN: Final = 2
"""So much more than the rounds spend is there while they run: funds are ample to the end."""
LAST_STRETCH_PART: Final = 2
"""Of the last stretch, about one transfer in so many finds money."""


class RatioOptions(NamedTuple):
    """How much is measured."""

    mixes: tuple[str, ...]
    """Beside the uniform one."""
    rounds: int
    slice_s: float
    batch_rows: int
    in_flight: int
    rate: float
    """Rows a second, of every mix; 0: as fast as they go."""


class Ratios(NamedTuple):
    """What was measured."""

    per_s: dict[str, list[float]]
    """Of each mix, the rate in each round."""
    crossing: dict[str, float]
    """Of each mix, the part of what the groups decided meanwhile that was decided by steps, by their journals: moves
    between buckets are among it."""
    last_stretch: Slice | None
    """Of hot-debit-limited: until the money is gone, and on for as long again."""
    last_uniform: Slice | None
    """Beside it."""
    refused: int
    """Transfers of the last stretch that found no money."""
    left: int
    """What the limited account has then, minor units: less than the largest transfer asks for, if all goes well."""

    def ratio(self, mix: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.of_rounds(mix))

    def of_rounds(self, mix: str) -> list[float]:
        """In each round: the mix's rate by the uniform one."""
        return [one / other for one, other in zip(self.per_s[mix], self.per_s[UNIFORM], strict=True)]


class Rounds:
    """One measurement."""

    def __init__(
        self, sender: Sender, books: Books, journals: Journals, mix: Mix, moved: Moved, options: RatioOptions
    ) -> None:
        self._sender, self._books, self._journals, self._mix = sender, books, journals, mix
        self._moved, self._options = moved, options

    async def run(self) -> Ratios:
        """Warm up, measure in rounds, then exhaust the limited account."""
        names = (UNIFORM, *self._options.mixes)
        counts = {name: await self._batches_a_slice(name) for name in names}
        rows = dict.fromkeys(names, JournalRows())
        slices = {name: [self._batches(name, counts[name]) for _ in range(self._options.rounds)] for name in names}
        spent = [batch for one in slices.get(LIMITED, ()) for batch in one]
        await self._fund(spent + spent[::SPARE_ONE_IN])
        if LIMITED in names:
            await self._post(self._batches(LIMITED, 1))  # so that its money is where it is spent
        per_s: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self._options.rounds):
            for name in (*names[number % len(names) :], *names[: number % len(names)]):
                before = await self._journals.rows()
                per_s[name].append((await self._post(slices[name][number])).per_s)
                rows[name] += await self._journals.rows() - before
                print(f"round {number + 1}: {name} at {per_s[name][-1]:,.0f} transfers a second", file=sys.stderr)
        crossing = {name: of_mix.crossing_share for name, of_mix in rows.items()}
        if LIMITED not in names:
            return Ratios(per_s, crossing, None, None, 0, 0)
        beside = await self._post(self._batches(UNIFORM, counts[UNIFORM]))
        last = self._batches(LIMITED, counts[LIMITED])
        await self._take_back()
        await self._fund(last[::LAST_STRETCH_PART])
        stretch = await self._post(last, may_refuse=True)
        refused = sum(int((outcomes != Outcome.POSTED).sum()) for outcomes in stretch.outcomes)
        return Ratios(per_s, crossing, stretch, beside, refused, int(self._moved.change[PAYER]))

    async def _batches_a_slice(self, name: str) -> int:
        """Warm up; return how many batches of a mix take about `slice_s`."""
        rate = self._options.rate
        for _ in range(WARM_UPS):
            batches = self._batches(name, WARM_UP_BATCHES)
            if name == LIMITED:
                await self._fund(batches)
            done = await self._post(batches)
            rate = self._options.rate or done.per_s
        wanted = round(rate * self._options.slice_s / self._options.batch_rows)
        return min(max(wanted, SLICE_BATCHES_MIN), SLICE_BATCHES_MAX)

    def _batches(self, name: str, count: int) -> list[Words]:
        return [self._mix.batch(name, self._options.batch_rows) for _ in range(count)]

    async def _fund(self, batches: Sequence[Words]) -> None:
        """Give the limited account what these batches spend."""
        money = sum(int(batch[:, 6].sum()) for batch in batches)
        if money:
            await self._post([self._mix.between(np.array([[BANK, PAYER]]), np.array([money]))])

    async def _take_back(self) -> None:
        """Leave the limited account with nothing."""
        left = int(self._moved.change[PAYER])
        if left:
            await self._post([self._mix.between(np.array([[PAYER, BANK]]), np.array([left]))])

    async def _post(self, batches: Sequence[Words], *, may_refuse: bool = False) -> Slice:
        """Post a slice; its time ends when nothing of it is on its way any more, or the next mix would pay for it."""
        started = time.perf_counter()
        done = await post_all(self._sender, batches, in_flight=self._options.in_flight, rate=self._options.rate)
        await self._books.until_settled()
        done = done._replace(seconds=time.perf_counter() - started)
        self._moved.add(batches, done.outcomes)
        outcomes = np.concatenate(done.outcomes)
        allowed = (Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS) if may_refuse else (Outcome.POSTED,)
        wrong = outcomes[~np.isin(outcomes, allowed)]
        if len(wrong):
            raise RuntimeError(f"{len(wrong)} transfers ended otherwise: outcomes {np.unique(wrong).tolist()}")
        return done
