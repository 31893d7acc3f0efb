"""A batch of transfers over any number of groups: every chain on its way at once, the answers in order (DESIGN §7)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.driver import Answer, outcomes
from engine.core.chains.plain import plain_table
from engine.core.chains.plan import Chain, ChainFault, Side, lay_out_alone, sides_of
from engine.core.known import RESULT
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Words
from engine.rpc.answers import no_results
from engine.rpc.faults import CallFailed, Fault, Reason, at_item, fate_unknown, stale_placement
from router.chains.batch import PlainPart, Rows, internal_alone, sort_chains
from router.chains.behind import SOON_S, TOGETHER_S, Behind
from router.chains.driven import (
    DrivenChain,
    LaneOf,
    Layout,
    OriginalElsewhere,
    ShortAt,
    ask_earlier,
    ask_originals,
    chain_fault,
)
from router.chains.plain import PlainRun, Ways
from router.chains.sending import SentAs
from router.split.funds import Funds, Told, Verdict, contended
from router.split.map import SplitMap
from router.split.refusing import refuse_alone
from router.split.short import PULLS_MAX, ChainRelief, ShortUnits, Unit, unit_of, units_of

PLAIN_RUN_ROWS_MAX: Final = 2048
"""A larger part is cut, so that its first rows are decided while the last ones are being reserved."""
LAYOUTS_MAX: Final = 8
"""How often one chain is laid out anew for what is learned of its originals."""
BUCKETS_MADE_MAX: Final = 4
"""How often rows are posted again for buckets that their group lacks."""
NS_PER_S: Final = 1_000_000_000


class LocalAnswers(NamedTuple):
    """What a group answered to rows that lie in it whole."""

    results: npt.NDArray[np.void]
    """Shape (n,), dtype `RESULT`."""
    faults: list[Fault]
    """Each with its item, a row number among those sent."""
    log_index: int


PostLocal = Callable[[int, Words, float, int], Awaitable[LocalAnswers]]
"""Posts rows, shape (n, 16), that lie in one group whole: (group, rows, deadline, the newest epoch of the map of split
accounts that placed some of them, else 0). Raises `CallFailed`."""
MakeBuckets = Callable[[int, Sequence[bytes], float], Awaitable[None]]
"""Gives a group its buckets of these accounts: (group, accounts, deadline). Raises `CallFailed`."""


class Splits(NamedTuple):
    """What a router knows of split accounts, and what it does for them."""

    map: SplitMap
    funds: Funds
    make: MakeBuckets
    refresh: Callable[[], Awaitable[SplitMap]]
    """Reads the directory again and returns the newest map; the same object where nothing was split since."""


class Network(NamedTuple):
    """How the groups are reached, under one placement."""

    lane_of: LaneOf
    post_local: PostLocal
    group_of_slot: npt.NDArray[np.uint16]
    """Shape (4096,)."""
    hash_seed: int
    behind: Behind
    splits: Splits


class BatchRun:
    """One batch on its way: valid rows, shape (n, 16), in which no chain is cut."""

    def __init__(self, words: Words, network: Network, sent_as: SentAs, deadline_s: float) -> None:
        """`deadline_s` is on the loop's clock."""
        left_s = deadline_s - asyncio.get_running_loop().time()
        self.words, self._network, self._sent_as, self._deadline_s = words, network, sent_as, deadline_s
        self._deadline_ns = time.time_ns() + int(max(left_s, 0.0) * NS_PER_S)
        self.results = no_results(len(words))
        """Dtype `RESULT`, shape (n,)."""
        self.faults: dict[int, Fault] = {}
        """By row: where there is a fault instead of an outcome."""
        self.stale: list[int] = []
        """Rows that were placed by an old placement, and are to be posted again under a new one."""
        self.log_indexes: dict[int, int] = {}
        """By group, the log index at which these outcomes are applied."""
        homes = sides_of(words, network.group_of_slot, network.hash_seed)
        self._sides, self._by_map = network.splits.map.routed(words, internal_alone(words, homes))

    async def run(self) -> None:
        """Give every row an outcome, or a fault, or call it stale."""
        found = sort_chains(self.words, self._sides)
        work: list[Coroutine[Any, Any, None]] = [self._local(group, rows) for group, rows in found.local.items()]
        work += [self._plain(part) for whole in found.plain for part in _cut(whole)]
        work += [self._driven(rows) for rows in found.driven]
        await _all(work)

    def take_over(self, rows: Rows, again: "BatchRun") -> None:
        """Take over what a later run did for some of these rows."""
        self.results[rows] = again.results
        self.faults.update((int(rows[at]), at_item(fault, int(rows[at]))) for at, fault in again.faults.items())
        self.stale = rows[again.stale].tolist()
        for group, log_index in again.log_indexes.items():
            self._note_log_index(group, log_index)

    def give_up(self, rows: Rows, fault: Fault) -> None:
        """Let some stale rows have a fault after all."""
        self.faults.update((row, at_item(fault, row)) for row in rows.tolist())
        self.stale = []

    # ---- chains of one group ----

    async def _local(self, group: int, rows: Rows) -> None:
        short = await self._post_local(group, rows)
        if short:
            shorts = ShortUnits(group, self._network.splits.funds, self._post_again, self._end_short, self._fail_all)
            await shorts.settle(short, self._deadline_s)

    async def _post_local(self, group: int, rows: Rows) -> list[Unit]:
        """Post rows that lie in one group whole; return the units that a bucket was short for."""
        missing, shorts = rows, list[Unit]()
        for _ in range(BUCKETS_MADE_MAX):
            try:
                found = await self._network.post_local(
                    group, self.words[missing], self._deadline_s, self._epoch(missing)
                )
            except CallFailed as failed:
                self._fail(missing, failed.fault)
                break
            told = self._take_local(group, missing, found)
            await _all([self._driven(chain, redirected=True) for chain in _chains(self.words, missing, told.elsewhere)])
            shorts += self._units(missing, told.short)
            missing = told.missing
            if not len(missing) or not await self._made(group, missing):
                break
        return shorts

    async def _post_again(self, group: int, units: Sequence[Unit], _: float) -> list[Unit]:
        rows = np.sort(np.concatenate([unit.rows for unit in units]))
        tries = {int(unit.rows[0]): unit.tries for unit in units}
        short = await self._post_local(group, rows)
        for unit in short:
            unit.tries = tries[int(unit.rows[0])]
        return short

    def _take_local(self, group: int, rows: Rows, found: LocalAnswers) -> "_ToldLocally":
        """Take a group's answers over."""
        self.results[rows] = found.results
        for row in rows.tolist() if self.faults else ():
            self.faults.pop(row, None)
        self.faults.update((int(rows[fault.item or 0]), fault) for fault in found.faults)
        self._note_log_index(group, found.log_index)
        flags = found.results["flags"]
        missing = [fault.item or 0 for fault in found.faults if fault.reason == Reason.BUCKET_MISSING]
        elsewhere, short = (flags & ResultFlag.DECIDED_ELSEWHERE) != 0, (flags & ResultFlag.SHORT) != 0
        return _ToldLocally(elsewhere, short, rows[missing])

    def _epoch(self, rows: Rows) -> int:
        """Return the map's newest epoch if it placed some of these rows."""
        placed = self._by_map is not None and bool(self._by_map[rows].any())
        return self._network.splits.map.epoch if placed else 0

    async def _made(self, group: int, rows: Rows) -> bool:
        """Let a group have the buckets that it lacks for these rows; False: they have a fault."""
        splits = self._network.splits
        accounts = {self.words[row, at : at + 2].tobytes() for row in rows.tolist() for at in (2, 4)}
        try:
            await splits.make(group, [one for one in sorted(accounts) if one in splits.map], self._deadline_s)
        except CallFailed as failed:
            self._fail(rows, failed.fault)
            return False
        return True

    # ---- buckets that are short ----

    def _units(self, rows: Rows, short: npt.NDArray[np.bool_]) -> list[Unit]:
        """Return the units of these rows that a bucket was short for."""
        return units_of(self.words, _chains(self.words, rows, short), self.results)

    async def _end_short(self, units: Sequence[Unit], verdicts: Sequence[Told]) -> list[Unit]:
        """Have units refused, or moved, by the one group that they lie in; return those that are short still."""
        alike = [
            unit
            for unit, told in zip(units, verdicts, strict=True)
            if told.verdict is Verdict.REFUSE and len(unit.rows) == 1
        ]
        done = await self._refuse_alike(alike) if alike else set[int]()
        ended = await asyncio.gather(
            *(
                self._end_one(unit, told)
                for unit, told in zip(units, verdicts, strict=True)
                if int(unit.rows[0]) not in done
            )
        )
        return [unit for unit in ended if unit is not None]

    async def _refuse_alike(self, units: Sequence[Unit]) -> set[int]:
        """Have single transfers of one group refused together; return the rows that are done with."""
        rows = np.concatenate([unit.rows for unit in units])
        reasons = np.array([unit.reason for unit in units], np.uint16)
        try:
            lane = self._network.lane_of(int(self._sides[rows[0], 1]))
            refused = await refuse_alone(self.words[rows], reasons, lane, self._sent_as, self._deadline_s)
        except CallFailed as failed:
            self._fail(rows, failed.fault)
            return set(rows.tolist())
        done = rows[refused.told]
        self.results[done] = refused.results[refused.told]
        self._note_log_index(lane.group, refused.log_index)
        return set(done.tolist())

    async def _end_one(self, unit: Unit, told: Told) -> Unit | None:
        rows = unit.rows
        own = lay_out_alone(self.words[rows].tobytes(), [Side(*side) for side in self._sides[rows].tolist()])
        try:
            if isinstance(own, ChainFault):
                raise CallFailed(chain_fault(own))
            driven = DrivenChain(own, self._network.lane_of, self._sent_as, self._deadline_ns)
            if told.verdict is Verdict.MOVE:
                await driven.move(told.amount, self._deadline_s)
            else:
                await driven.refuse(Outcome(unit.reason), unit.leg, self._deadline_s)
            self._take_driven(rows, driven, await driven.until_answered(self._deadline_s), replayed=False)
        except ShortAt as short:
            return unit_of(self.words, rows, short.leg, short.reason, unit.tries + 1)
        except (CallFailed, OriginalElsewhere) as failed:
            self._fail(rows, failed.fault if isinstance(failed, CallFailed) else _CHANGING)
        return None

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

    # ---- plain chains ----

    async def _plain(self, part: PlainPart) -> None:
        rows = part.rows
        try:
            ways = Ways(self._network.lane_of(part.other), self._network.lane_of(part.decider))
        except CallFailed as failed:
            self._fail(rows, failed.fault)
            return
        run = PlainRun(self.words[rows], ways, _TABLE, self._sent_as, self._deadline_ns, self._reroutes)
        await run.until_answered(self._deadline_s)
        self._network.behind.send(run.rows_left(), run.to_the_end, SOON_S if run.has_holds else TOGETHER_S)
        self._take_plain(rows, run, part.decider)
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

    def _take_plain(self, rows: Rows, run: PlainRun, decider: int) -> None:
        results = np.empty(len(rows), RESULT)
        results["position"], results["timestamp"] = run.positions, run.timestamps
        results["outcome"], results["flags"], results["group"] = run.outcomes(), run.flags(), decider
        self.results[rows] = results
        for at, fault in run.faults.items():
            self._fail(rows[at : at + 1], fault)
        self.stale += rows[run.stale].tolist()
        for group, log_index in run.log_indexes.items():
            self._note_log_index(group, log_index)

    # ---- all others ----

    async def _driven(
        self, rows: Rows, *, redirected: bool = False, replayed: bool = False, asked: bool = False
    ) -> None:
        try:
            await self._drive(rows, redirected, replayed, asked)
        except CallFailed as failed:
            self._fail(rows, failed.fault)

    async def _drive(self, rows: Rows, redirected: bool, replayed: bool, asked: bool) -> None:
        """Lay a chain out, and again while more is learned of what it follows; drive it to its answer."""
        layout = Layout(self.words[rows].tobytes(), [Side(*side) for side in self._sides[rows].tolist()])
        if layout.followed and (redirected or layout.legs > 1):
            await ask_originals(layout, self._network.lane_of, self._sent_as, self._deadline_s)
        for _ in range(LAYOUTS_MAX):
            driven = await self._laid_out(layout)
            driven.replayed = False if asked and driven.replayed is None else driven.replayed
            if not driven.words and not driven.own.crosses and not redirected:
                redirected = await self._drive_local(rows, driven.own)
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
            self._take_driven(rows, driven, told, replayed)
            return
        raise CallFailed(_CHANGING)

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

    async def _drive_local(self, rows: Rows, own: Chain) -> bool:
        """Let one group log a chain that lies in it whole; return whether it sent it elsewhere."""
        group = own.decider
        found = await self._network.post_local(group, self.words[rows], self._deadline_s, self._epoch(rows))
        told = self._take_local(group, rows, found)
        if told.short.any():
            shorts = ShortUnits(group, self._network.splits.funds, self._post_again, self._end_short, self._fail_all)
            await shorts.settle(self._units(rows, told.short), self._deadline_s)
        return bool(told.elsewhere.any())

    def _take_driven(self, rows: Rows, driven: DrivenChain, told: Answer, replayed: bool) -> None:
        own, word = driven.own, told.word
        results = no_results(len(rows))
        results["outcome"], results["group"] = outcomes(own, told), word.chain.decider
        if word.chain.rows == own.rows:
            legs = np.arange(len(rows), dtype=np.uint64)
            results["position"], results["timestamp"] = word.position + legs, word.timestamp_ns + legs
            results["flags"] = (ResultFlag.REPLAYED if replayed or driven.replayed else 0) | (
                ResultFlag.IN_FLIGHT if told.in_flight else 0
            )
        self.results[rows] = results
        for group, log_index in driven.log_indexes.items():
            self._note_log_index(group, log_index)

    # ---- notes ----

    def _fail_all(self, rows: Rows, failed: CallFailed) -> None:
        self._fail(rows, failed.fault)

    def _fail(self, rows: Rows, fault: Fault) -> None:
        if fault.reason == Reason.PLACEMENT_STALE:
            self.stale += rows.tolist()
            return
        self.results[rows] = no_results(len(rows))
        self.faults.update((row, at_item(fault, row)) for row in rows.tolist())

    def _note_log_index(self, group: int, log_index: int) -> None:
        if log_index:
            self.log_indexes[group] = max(log_index, self.log_indexes.get(group, 0))


class _ToldLocally(NamedTuple):
    """What a group said beside outcomes."""

    elsewhere: npt.NDArray[np.bool_]
    """Shape (n,): rows that another group decides."""
    short: npt.NDArray[np.bool_]
    """Shape (n,): rows of units that a bucket was short for."""
    missing: Rows
    """Rows for which it lacks a bucket; they have that fault."""


_TABLE: Final = plain_table()
_CHANGING: Final = fate_unknown("what this chain follows is changing at this moment; ask again with its ids")


def _cut(part: PlainPart) -> list[PlainPart]:
    starts = range(0, len(part.rows), PLAIN_RUN_ROWS_MAX)
    return [part._replace(rows=part.rows[start : start + PLAIN_RUN_ROWS_MAX]) for start in starts]


def _chains(words: Words, rows: Rows, wanted: npt.NDArray[np.bool_]) -> list[Rows]:
    """Return the rows of each chain of which a row is wanted."""
    if not wanted.any():
        return []
    linked = (words[rows, 15] & _LINKED) != 0
    starts = np.flatnonzero(np.concatenate(([True], ~linked[:-1])))
    chosen = np.logical_or.reduceat(wanted, starts)
    ends = np.append(starts[1:], len(rows))
    return [rows[starts[at] : ends[at]] for at in np.flatnonzero(chosen).tolist()]


_LINKED: Final = np.uint64(1 << 24)


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    """Do everything side by side; what only one has to do needs no task of its own."""
    if len(work) == 1:
        await work[0]
    elif work:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
