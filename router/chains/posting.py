"""A batch of transfers over any number of groups: every chain on its way at once, the answers in order (DESIGN §7)."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.chains.driver import Answer
from engine.core.chains.plain import plain_table
from engine.core.chains.plan import ChainFault, Side, sides_of
from engine.core.outcomes import Outcome
from engine.core.records import Words
from engine.rpc.faults import CallFailed, fate_unknown, stale_placement
from router.chains.answers import BatchAnswers
from router.chains.batch import PlainPart, Rows, sort_chains
from router.chains.behind import SOON_S, TOGETHER_S
from router.chains.driven import (
    DrivenChain,
    Layout,
    OriginalElsewhere,
    ShortAt,
    ask_earlier,
    ask_originals,
    chain_fault,
)
from router.chains.local import CHANGING, LocalPosts
from router.chains.network import Network, errand
from router.chains.plain import PlainRun, Ways
from router.chains.sending import SentAs
from router.split.funds import Verdict, contended
from router.split.short import PULLS_MAX, ChainRelief

PLAIN_RUN_ROWS_MAX: Final = 5000
"""A larger part is cut into equal ones, so that its first rows are decided while the last ones are being reserved. What
a batch sends one way, a half of it or so, goes whole: what a log record costs by itself is much of what its steps do
(docs/decisions/0014)."""
LAYOUTS_MAX: Final = 8
"""How often one chain is laid out anew for what is learned of its originals."""
NS_PER_S: Final = 1_000_000_000


class BatchRun:
    """One batch on its way: valid rows, shape (n, 16), in which no chain is cut."""

    def __init__(self, words: Words, network: Network, sent_as: SentAs, deadline_s: float) -> None:
        """`deadline_s` is on the loop's clock."""
        left_s = deadline_s - asyncio.get_running_loop().time()
        self._deadline_s, self._deadline_ns = deadline_s, time.time_ns() + int(max(left_s, 0.0) * NS_PER_S)
        self._words, self._network, self._sent_as = words, network, sent_as
        posted = errand(words, network, sent_as, deadline_s, self._deadline_ns)
        self._sides, self._answers = posted.sides, BatchAnswers(len(words))
        self._local = LocalPosts(posted, self._answers, self._redirect)

    async def run(self) -> BatchAnswers:
        """Give every row an outcome, or a fault, or call it stale."""
        found = sort_chains(self._words, self._sides)
        work: list[Coroutine[Any, Any, None]] = [self._local.post(group, rows) for group, rows in found.local.items()]
        work += [self._plain(part) for whole in found.plain for part in _cut(whole)]
        work += [self._driven(rows) for rows in found.driven]
        await _all(work)
        return self._answers

    async def _redirect(self, chains: Sequence[Rows]) -> None:
        await _all([self._driven(chain, redirected=True) for chain in chains])

    # ---- plain chains ----

    async def _plain(self, part: PlainPart) -> None:
        rows = part.rows
        try:
            ways = Ways(self._network.lane_of(part.other), self._network.lane_of(part.decider))
        except CallFailed as failed:
            self._answers.fail(rows, failed.fault)
            return
        run = PlainRun(self._words[rows], ways, _TABLE, self._sent_as, self._deadline_ns, self._reroutes)
        await run.until_answered(self._deadline_s)
        self._network.behind.send(run.rows_left(), run.to_the_end, SOON_S if run.has_holds else TOGETHER_S)
        self._answers.take_plain(rows, run, part.decider)
        replayed = run.replayed
        await _all(
            [self._driven(rows[at : at + 1], replayed=bool(replayed[at]), asked=at in run.short) for at in run.driven]
        )

    async def _reroutes(self, words: Words) -> npt.NDArray[np.bool_]:
        """Return which rows run in one group by the newest map: their accounts were split since this one was read."""
        newest = await self._network.splits.refresh()
        if newest is self._network.splits.map:
            return np.zeros(len(words), np.bool_)
        homes = sides_of(words, self._network.group_of_slot, self._network.hash_seed)
        by_map = newest.routed(words, homes).by_map
        return np.zeros(len(words), np.bool_) if by_map is None else by_map

    # ---- all others ----

    async def _paid(self, driven: DrivenChain) -> Answer:
        """Drive a chain whose steps may meet buckets that are short; raises `CallFailed`, `OriginalElsewhere`."""
        relief = ChainRelief(driven, self._network.splits.funds)
        try:
            return await self._relieved(driven, relief)
        finally:
            relief.done()

    async def _relieved(self, driven: DrivenChain, relief: ChainRelief) -> Answer:
        for _ in range(PULLS_MAX):
            try:
                return await driven.until_answered(self._deadline_s)
            except ShortAt as caught:
                short = caught
            told = await relief.relieve(short, self._deadline_s)
            if told.verdict is Verdict.REFUSE:
                await driven.refuse(Outcome(short.reason), short.leg, self._deadline_s)
            elif told.verdict is Verdict.MOVE:  # by the newest map it runs in one group, which can be told the amount
                raise CallFailed(stale_placement("a balancing transfer was laid out before its account was split"))
        raise CallFailed(fate_unknown(contended().message) if driven.words else contended())

    async def _driven(
        self, rows: Rows, *, redirected: bool = False, replayed: bool = False, asked: bool = False
    ) -> None:
        try:
            await self._drive(rows, redirected, replayed, asked)
        except CallFailed as failed:
            self._answers.fail(rows, failed.fault)

    async def _drive(self, rows: Rows, redirected: bool, replayed: bool, asked: bool) -> None:
        """Lay a chain out, and again while more is learned of what it follows; drive it to its answer."""
        layout = Layout(self._words[rows].tobytes(), [Side(*side) for side in self._sides[rows].tolist()])
        if layout.followed and (redirected or layout.legs > 1):
            await ask_originals(layout, self._network.lane_of, self._sent_as, self._deadline_s)
        for _ in range(LAYOUTS_MAX):
            driven = await self._laid_out(layout)
            driven.replayed = False if asked and driven.replayed is None else driven.replayed
            if not driven.words and not driven.own.crosses and not redirected:
                redirected = await self._local.drive(rows, driven.own)
                if not redirected:
                    return
                await ask_originals(layout, self._network.lane_of, self._sent_as, self._deadline_s)
                continue
            try:
                told = await self._paid(driven)
            except OriginalElsewhere as elsewhere:
                layout.learn(elsewhere.chain)
                continue
            self._network.behind.send(len(rows), driven.to_the_end)
            self._answers.take_driven(rows, driven, told, replayed=replayed)
            return
        raise CallFailed(CHANGING)

    async def _laid_out(self, layout: Layout) -> DrivenChain:
        own, network = layout.own(), self._network
        if isinstance(own, ChainFault):
            earlier = None
            if layout.followed:  # it may have been laid out, and refused, when less was known
                earlier = await ask_earlier(layout, network.lane_of, self._sent_as, self._deadline_s, self._deadline_ns)
            if earlier is None:
                raise CallFailed(chain_fault(own))
            return earlier
        driven = DrivenChain(own, network.lane_of, self._sent_as, self._deadline_ns)
        if layout.missing_leg is not None:
            await driven.refuse(Outcome.FOLLOWED_MISSING, layout.missing_leg, self._deadline_s)
        return driven


_TABLE: Final = plain_table()


def _cut(part: PlainPart) -> list[PlainPart]:
    parts = -(-len(part.rows) // PLAIN_RUN_ROWS_MAX)
    return [part] if parts == 1 else [part._replace(rows=rows) for rows in np.array_split(part.rows, parts)]


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """Do everything side by side; what only one has to do needs no task of its own."""
    if len(work) == 1:
        await work[0]
    elif work:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
