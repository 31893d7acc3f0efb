"""Posting what lies in one group whole, and what its buckets of split accounts are short for (DESIGN §8)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Chain, ChainFault, Side, lay_out_alone
from engine.core.outcomes import Outcome
from engine.core.records import Words
from engine.rpc.faults import CallFailed, fate_unknown
from router.chains.answers import BatchAnswers
from router.chains.batch import Rows
from router.chains.driven import DrivenChain, OriginalElsewhere, ShortAt, chain_fault
from router.chains.network import Errand
from router.split.funds import Told, Verdict
from router.split.refusing import refuse_alone
from router.split.short import ShortUnits, Unit, unit_of, units_of

BUCKETS_MADE_MAX: Final = 4
"""How often rows are posted again for buckets that their group lacks."""
CHANGING: Final = fate_unknown("what this chain follows is changing at this moment; ask again with its ids")
_LINKED: Final = np.uint64(1 << 24)

Redirect = Callable[[Sequence[Rows]], Awaitable[None]]
"""Drives chains, each by its rows, that a group said another one decides."""


class LocalPosts:
    """Posts rows of one batch that lie in one group whole."""

    def __init__(self, errand: Errand, answers: BatchAnswers, redirect: Redirect) -> None:
        """One per batch."""
        self._errand, self._answers, self._redirect = errand, answers, redirect

    async def post(self, group: int, rows: Rows) -> None:
        """Post rows until each has its answer."""
        short = await self._post(group, rows)
        if short:
            await self._shorts(group).settle(short, self._errand.deadline_s)

    async def drive(self, rows: Rows, own: Chain) -> bool:
        """Let one group log a chain that lies in it whole; return whether it sent it elsewhere."""
        group, errand = own.decider, self._errand
        found = await errand.network.post_local(group, errand.words[rows], errand.deadline_s, self._epoch(rows))
        told = self._answers.take_local(group, rows, found)
        if told.short.any():
            await self._shorts(group).settle(self._units(rows, told.short), errand.deadline_s)
        return bool(told.elsewhere.any())

    def _shorts(self, group: int) -> ShortUnits:
        funds = self._errand.network.splits.funds
        return ShortUnits(group, funds, self._post_again, self._end_short, self._answers.fail_all)

    async def _post(self, group: int, rows: Rows) -> list[Unit]:
        """Post rows; return the units that a bucket was short for."""
        missing, shorts, errand = rows, list[Unit](), self._errand
        for _ in range(BUCKETS_MADE_MAX):
            try:
                found = await errand.network.post_local(
                    group, errand.words[missing], errand.deadline_s, self._epoch(missing)
                )
            except CallFailed as failed:
                self._answers.fail(missing, failed.fault)
                break
            told = self._answers.take_local(group, missing, found)
            await self._redirect(_chains(errand.words, missing, told.elsewhere))
            shorts += self._units(missing, told.short)
            missing = told.missing
            if not len(missing) or not await self._made(group, missing):
                break
        return shorts

    async def _post_again(self, group: int, units: Sequence[Unit], _: float) -> list[Unit]:
        rows = np.sort(np.concatenate([unit.rows for unit in units]))
        tries = {int(unit.rows[0]): unit.tries for unit in units}
        short = await self._post(group, rows)
        for unit in short:
            unit.tries = tries[int(unit.rows[0])]
        return short

    def _epoch(self, rows: Rows) -> int:
        """Return the map's newest epoch if it placed some of these rows."""
        by_map = self._errand.by_map
        placed = by_map is not None and bool(by_map[rows].any())
        return self._errand.network.splits.map.epoch if placed else 0

    async def _made(self, group: int, rows: Rows) -> bool:
        """Let a group have the buckets that it lacks for these rows; False: they have a fault."""
        splits, words = self._errand.network.splits, self._errand.words
        accounts = {words[row, at : at + 2].tobytes() for row in rows.tolist() for at in (2, 4)}
        try:
            wanted = [one for one in sorted(accounts) if one in splits.map]
            await splits.make(group, wanted, self._errand.deadline_s)
        except CallFailed as failed:
            self._answers.fail(rows, failed.fault)
            return False
        return True

    # ---- buckets that are short ----

    def _units(self, rows: Rows, short: npt.NDArray[np.bool_]) -> list[Unit]:
        """Return the units of these rows that a bucket was short for."""
        words = self._errand.words
        return units_of(words, _chains(words, rows, short), self._answers.results)

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
        rows, errand, answers = np.concatenate([unit.rows for unit in units]), self._errand, self._answers
        reasons = np.array([unit.reason for unit in units], np.uint16)
        try:
            lane = errand.network.lane_of(int(errand.sides[rows[0], 1]))
            refused = await refuse_alone(errand.words[rows], reasons, lane, errand.sent_as, errand.deadline_s)
        except CallFailed as failed:
            answers.fail(rows, failed.fault)
            return set(rows.tolist())
        done = rows[refused.told]
        answers.results[done] = refused.results[refused.told]
        answers.note_log_index(lane.group, refused.log_index)
        return set(done.tolist())

    async def _end_one(self, unit: Unit, told: Told) -> Unit | None:
        rows, errand = unit.rows, self._errand
        own = lay_out_alone(errand.words[rows].tobytes(), [Side(*side) for side in errand.sides[rows].tolist()])
        try:
            if isinstance(own, ChainFault):
                raise CallFailed(chain_fault(own))
            driven = DrivenChain(own, errand.network.lane_of, errand.sent_as, errand.deadline_ns)
            if told.verdict is Verdict.MOVE:
                await driven.move(told.amount, errand.deadline_s)
            else:
                await driven.refuse(Outcome(unit.reason), unit.leg, errand.deadline_s)
            self._answers.take_driven(rows, driven, await driven.until_answered(errand.deadline_s), replayed=False)
        except ShortAt as short:
            return unit_of(errand.words, rows, short.leg, short.reason, unit.tries + 1)
        except (CallFailed, OriginalElsewhere) as failed:
            self._answers.fail(rows, failed.fault if isinstance(failed, CallFailed) else CHANGING)
        return None


def _chains(words: Words, rows: Rows, wanted: npt.NDArray[np.bool_]) -> list[Rows]:
    """Return the rows of each chain of which a row is wanted."""
    if not wanted.any():
        return []
    linked = (words[rows, 15] & _LINKED) != 0
    starts = np.flatnonzero(np.concatenate(([True], ~linked[:-1])))
    chosen = np.logical_or.reduceat(wanted, starts)
    ends = np.append(starts[1:], len(rows))
    return [rows[starts[at] : ends[at]] for at in np.flatnonzero(chosen).tolist()]
