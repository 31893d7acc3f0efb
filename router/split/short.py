"""Units that a bucket of a split account was short for, until each has an outcome or a fault (DESIGN §8).

A *unit* is a transfer by itself or a chain, as one group was asked for it. All of a caller's units that one group was
short for go together: one relief, one request, however many they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.rpc.faults import CallFailed
from router.chains.batch import Rows
from router.chains.driven import DrivenChain, ShortAt
from router.split.funds import Funds, Need, Told, Verdict, Want, contended
from router.split.short_units import Draw, draw_of, legs_of, plain_wants, want_of

PULLS_MAX: Final = 16
"""How often one unit is asked for again after a pull."""
LATER_PAUSE_S: Final = 0.002
"""Before a unit that waits for others joins the next round."""


class Unit:
    """One unit that was short."""

    __slots__ = ("draw", "leg", "reason", "rows", "tries", "want")

    def __init__(self, rows: Rows, leg: int, reason: int, draw: Draw, want: Want, tries: int = 0) -> None:
        """leg: the number of the failing one; reason: how it would be refused; draw, want: what it was short of."""
        self.rows, self.leg, self.reason, self.draw, self.want, self.tries = rows, leg, reason, draw, want, tries


def unit_of(words: Words, rows: Rows, leg: int, reason: int, tries: int = 0) -> Unit:
    """Return the unit of these rows of a batch, shape (n, 16)."""
    legs = legs_of(words[rows].tobytes())
    draw = draw_of(legs[leg], reason)
    return Unit(rows, leg, reason, draw, want_of(legs, leg, draw), tries)


def units_of(words: Words, chains: Sequence[Rows], results: npt.NDArray[np.void]) -> list[Unit]:
    """Return the unit of each chain that a bucket was short for.

    results: of all rows of the batch; of a short one, the position is the failing leg, the timestamp the reason.
    """
    firsts = np.array([chain[0] for chain in chains], np.int64)
    legs, reasons = results["position"][firsts].tolist(), results["timestamp"][firsts].tolist()
    known = plain_wants(words[firsts], reasons)
    return [
        unit_of(words, chain, leg, reason) if plain is None or len(chain) > 1 else Unit(chain, leg, reason, *plain)
        for chain, leg, reason, plain in zip(chains, legs, reasons, known, strict=True)
    ]


PostAgain = Callable[[int, Sequence[Unit], float], Awaitable[list[Unit]]]
"""Asks a group for units again; returns those that are short still. Raises nothing."""
End = Callable[[Sequence[Unit], Sequence[Told]], Awaitable[list[Unit]]]
"""Has units refused, or balancing ones moved, with a proof; returns those that are short still. Raises nothing."""
Fail = Callable[[Rows, CallFailed], None]


class ShortUnits:
    """Those of one caller in one group."""

    def __init__(self, group: int, funds: Funds, post: PostAgain, end: End, fail: Fail) -> None:
        self._group, self._funds, self._post, self._end, self._fail = group, funds, post, end, fail
        self._ticket = funds.ticket()

    async def settle(self, units: list[Unit], deadline_s: float) -> None:
        """Give every unit an outcome or a fault; `deadline_s` is on the loop's clock."""
        while units:
            units = self._without_exhausted(units)
            by_draw: dict[Draw, list[Unit]] = {}
            for unit in units:
                by_draw.setdefault(unit.draw, []).append(unit)
            left = await asyncio.gather(*(self._round(draw, own, deadline_s) for draw, own in by_draw.items()))
            units = [unit for part in left for unit in part]

    def _without_exhausted(self, units: list[Unit]) -> list[Unit]:
        for unit in units:
            if unit.tries > PULLS_MAX:
                self._fail(unit.rows, CallFailed(contended()))
        return [unit for unit in units if unit.tries <= PULLS_MAX]

    async def _round(self, draw: Draw, units: list[Unit], deadline_s: float) -> list[Unit]:
        wants = tuple(unit.want for unit in units)
        need = Need(draw.account, draw.side, self._group, wants, self._ticket)
        try:
            verdicts = await self._funds.relieve(need, deadline_s)
        except CallFailed as failed:
            for unit in units:
                self._fail(unit.rows, failed)
            return []
        try:
            return await self._obey(units, verdicts, deadline_s)
        finally:
            self._funds.done(draw.account, self._ticket)

    async def _obey(self, units: list[Unit], verdicts: list[Told], deadline_s: float) -> list[Unit]:
        paired = list(zip(units, verdicts, strict=True))
        again = [unit for unit, told in paired if told.verdict is Verdict.ASK_AGAIN]
        later = [unit for unit, told in paired if told.verdict is Verdict.LATER]
        ends = [(unit, told) for unit, told in paired if told.verdict in (Verdict.REFUSE, Verdict.MOVE)]
        asked, ended = await asyncio.gather(self._asked_again(again, deadline_s), self._ended(ends))
        if not again and not ends:
            await asyncio.sleep(LATER_PAUSE_S)
        return later + asked + ended

    async def _ended(self, ends: list[tuple[Unit, Told]]) -> list[Unit]:
        return await self._end([unit for unit, _ in ends], [told for _, told in ends]) if ends else []

    async def _asked_again(self, again: list[Unit], deadline_s: float) -> list[Unit]:
        for unit in again:
            unit.tries += 1
        return await self._post(self._group, again, deadline_s) if again else []


class ChainRelief:
    """Relief for one chain that buckets are short for; call `done` once it has asked again."""

    def __init__(self, driven: DrivenChain, funds: Funds) -> None:
        self._driven, self._funds, self._ticket = driven, funds, funds.ticket()
        self._accounts: set[bytes] = set()

    async def relieve(self, short: ShortAt, deadline_s: float) -> Told:
        """Return what becomes of it, never LATER; raises `CallFailed`."""
        legs = legs_of(self._driven.own.rows, self._driven.own.plan.sides, short.group)
        draw = draw_of(legs[short.leg], short.reason)
        self._accounts.add(draw.account)
        wants = (want_of(legs, short.leg, draw),)
        need = Need(draw.account, draw.side, short.group, wants, self._ticket)
        while (told := (await self._funds.relieve(need, deadline_s))[0]).verdict is Verdict.LATER:
            await asyncio.sleep(LATER_PAUSE_S)
        return told

    def done(self) -> None:
        """Free what was pulled for it, if it has not been spent."""
        for account in self._accounts:
            self._funds.done(account, self._ticket)
