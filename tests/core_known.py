"""A stand-in for the store, for tests of core: remembers every journal row in dicts and builds `Known` from them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.known import Applied, Ended, Known, of_one_group
from engine.core.outcomes import took_effect
from engine.core.records import FOLLOWERS, Flag, Kind, Words

UNINDEXED = (Kind.CREATE_ACCOUNT, Kind.EXPIRE, Kind.SETTINGS)
AMOUNT = slice(6, 8)
Indexes = npt.NDArray[np.int64]


class Row(NamedTuple):
    """One stored journal row."""

    words: Words
    requested: Words
    chain_last: bool


def meta(words: Words) -> tuple[int, int, int, int]:
    """Return (kind, flags, outcome, leg) of a row."""
    word = int(words[15])
    return word >> 16 & 0xFF, word >> 24 & 0xFF, word >> 32 & 0xFFFF, word >> 48


def id_at(words: Words, first: int) -> tuple[int, int]:
    return int(words[first]), int(words[first + 1])


def number(words: Words) -> int:
    return int(words[0]) | int(words[1]) << 64


class KnownIds:
    """Every row ever stored, and what follows from them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.by_id: dict[tuple[int, int], int] = {}
        self.creations: dict[tuple[int, int], int] = {}
        self.ended: dict[int, int] = {}
        self.reversed: dict[int, int] = {}
        self.left: dict[int, int] = {}

    def add(self, applied: Applied) -> None:
        """Remember what one log record stored."""
        requested = applied.rows[:, AMOUNT].copy()
        requested[applied.requested_index] = applied.requested_amount
        legs = [*(applied.rows[:, 15] >> np.uint64(48)).tolist(), 0]
        for at, words in enumerate(applied.rows):
            self._add(words.copy(), requested[at], legs[at + 1] == 0)

    def _add(self, words: Words, requested: Words, chain_last: bool) -> None:
        position, (kind, flags, outcome, _) = len(self.rows), meta(words)
        self.rows.append(Row(words, requested, chain_last))
        if kind == Kind.CREATE_ACCOUNT:
            self.creations[id_at(words, 0)] = position
        if kind not in UNINDEXED:
            self.by_id[id_at(words, 0)] = position
        if took_effect(outcome):
            self._follow(kind, flags, position, words)

    def _follow(self, kind: int, flags: int, position: int, words: Words) -> None:
        if kind == Kind.RESERVE:
            self.left[position] = number(words[AMOUNT])
        if kind not in FOLLOWERS and kind != Kind.EXPIRE:
            return
        original = self.by_id[id_at(words, 8)]
        if kind == Kind.REVERSE:
            self.reversed[original] = self.reversed.get(original, 0) + number(words[AMOUNT])
        elif kind == Kind.COMMIT:
            self.left[original] -= number(words[AMOUNT])
            if not (flags & Flag.KEEP_REST and self.left[original]):
                self.ended[original] = Ended.COMMITTED
        else:
            self.ended[original] = Ended.RELEASED if kind == Kind.RELEASE else Ended.EXPIRED

    def known(self, batch: Words) -> Known:
        """Build what the kernel asks for, each stored row once."""
        used: dict[int, int] = {}

        def row_of(position: int | None) -> int:
            return -1 if position is None else used.setdefault(position, len(used))

        id_row, followed_row = np.full(len(batch), -1, np.int64), np.full(len(batch), -1, np.int64)
        for at, words in enumerate(batch):
            kind = meta(words)[0]
            ids = self.creations if kind == Kind.CREATE_ACCOUNT else self.by_id
            id_row[at] = row_of(ids.get(id_at(words, 0)))
            if kind in FOLLOWERS:
                followed_row[at] = row_of(self.by_id.get(id_at(words, 8)))
        return self._known(id_row, followed_row, list(used))

    def _known(self, id_row: Indexes, followed_row: Indexes, positions: list[int]) -> Known:
        rows = [self.rows[position] for position in positions]
        sums = [self.reversed.get(position, 0) for position in positions]
        return Known(
            id_row,
            followed_row,
            np.array([row.words for row in rows], np.uint64).reshape(-1, 16),
            np.array(positions, np.uint64),
            np.array([row.requested for row in rows], np.uint64).reshape(-1, 2),
            np.array([row.chain_last for row in rows], np.bool_),
            np.array([self.ended.get(position, 0) for position in positions], np.uint8),
            np.array([(part & (1 << 64) - 1, part >> 64) for part in sums], np.uint64).reshape(-1, 2),
            *of_one_group(len(positions), 0),
        )
