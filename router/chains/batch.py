"""A batch sorted by how its chains are posted: inside one group, plain across two, or driven one by one (DESIGN §7).

Pure functions over arrays. A *local* chain has every side in one group, and is that group's own business. A *plain* one
is a single transfer between two groups: thousands of them are driven together as arrays (`router.chains.plain`).
Everything else is laid out and driven chain by chain (`router.chains.driven`).
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import chain_starts
from engine.core.records import Words

_INTERNAL: Final = np.uint64((1 << 64) - 1)
"""The first word of the ids of the engine's own accounts."""

Rows = npt.NDArray[np.int64]
"""Numbers of rows of a batch, ascending."""


class PlainPart(NamedTuple):
    """Single transfers that are reserved in one group and decided by another."""

    other: int
    decider: int
    rows: Rows


class Sorted(NamedTuple):
    """What becomes of each row of a batch; every row is in exactly one of these."""

    local: dict[int, Rows]
    """By group: the rows of chains that lie in it whole."""
    plain: list[PlainPart]
    """One for each pair of groups."""
    driven: list[Rows]
    """One for each chain of several legs over several groups."""

    @property
    def only_group(self) -> int | None:
        """The group that the whole batch lies in, if there is one."""
        return next(iter(self.local)) if len(self.local) == 1 and not self.plain and not self.driven else None


def sort_chains(words: Words, sides: npt.NDArray[np.uint16]) -> Sorted:
    """Sort a batch, shape (n, 16), whose accounts lie in `sides`, shape (n, 2) (`engine.core.chains.plan.sides_of`)."""
    if len(words) == 1:
        return _sort_one(sides)
    starts = chain_starts(words)
    lowest, highest = sides.min(axis=1), sides.max(axis=1)
    if len(starts) == len(words):
        return Sorted(_by_group(lowest, lowest == highest), _plain(sides, lowest != highest), [])
    legs = np.diff(starts, append=len(words))
    local = np.minimum.reduceat(lowest, starts) == np.maximum.reduceat(highest, starts)
    crosses = np.repeat(~local, legs)
    alone = np.repeat(legs == 1, legs)
    driven = [np.arange(starts[at], starts[at] + legs[at]) for at in np.flatnonzero(~local & (legs > 1))]
    return Sorted(_by_group(lowest, ~crosses), _plain(sides, crosses & alone), driven)


def internal_alone(words: Words, sides: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Lay every chain that names one of the engine's own accounts on one group, which refuses it by name.

    Such an id has no home by its hash, and no group could tell a caller's step on it from the engine's own.
    """
    names_one = (words[:, 2] == _INTERNAL) | (words[:, 4] == _INTERNAL)
    if not names_one.any():
        return sides
    starts = chain_starts(words)
    legs = np.diff(starts, append=len(words))
    alone = np.repeat(np.logical_or.reduceat(names_one, starts), legs)
    last = np.repeat(sides[starts + legs - 1, 1], legs)
    return np.where(alone[:, None], last[:, None], sides).astype(np.uint16)


def _sort_one(sides: npt.NDArray[np.uint16]) -> Sorted:
    """Sort a single transfer, as most batches of live traffic are."""
    (debit, credit), row = sides[0].tolist(), np.zeros(1, np.int64)
    return Sorted({debit: row}, [], []) if debit == credit else Sorted({}, [PlainPart(debit, credit, row)], [])


def _by_group(groups: npt.NDArray[np.uint16], chosen: npt.NDArray[np.bool_]) -> dict[int, Rows]:
    rows = np.flatnonzero(chosen)
    return {int(group): rows[groups[rows] == group] for group in np.unique(groups[rows])}


def _plain(sides: npt.NDArray[np.uint16], chosen: npt.NDArray[np.bool_]) -> list[PlainPart]:
    rows = np.flatnonzero(chosen)
    pairs = sides[rows, 0].astype(np.int64) << 16 | sides[rows, 1]
    return [PlainPart(int(pair) >> 16, int(pair) & 0xFFFF, rows[pairs == pair]) for pair in np.unique(pairs)]
