"""Load: what the store knows about a batch's ids, for the kernel (DESIGN §6, `engine.core.known`).

Exact: every id that a fingerprint points to is compared with the journal's row. Rows of records that are applied but
not yet saved are known as well: the journal has them in memory.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.step_record import Sides, StepRecord, step_words
from engine.core.chains.word import Step
from engine.core.events import plain
from engine.core.kernel.open_chains import know_bodies
from engine.core.known import Known, nothing_known, of_one_group
from engine.core.records import Kind, Words
from engine.storage.chain_words import WordReader, rows_named
from engine.storage.ids.known_ids import Followed, KnownIds, Named
from engine.storage.journal import Journal
from engine.storage.step_rows import LATER_STEPS, STEP_SHIFT, StepRows
from engine.storage.stored_rows import StoredRows

_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)
_OUTCOME_SHIFT: Final = np.uint64(32)
_OUTCOME_MASK: Final = np.uint64(0xFFFF)
_EFFECT_MAX: Final = 9
_MET_STEPS: Final = LATER_STEPS | {int(step) for step in (Step.RESERVE, Step.DECIDE, Step.ABORT)}
_POSITION_WORD: Final = 15
"""Of an account's row: where its CREATE_ACCOUNT stands."""
LaidOut: TypeAlias = tuple[npt.NDArray[np.uint8], Words, Sides, npt.NDArray[np.uint16]]
"""The last four fields of `Known`."""


class Loader:
    """Finds stored rows, wherever they are. Used on the apply thread only."""

    def __init__(self, book: Book, ids: KnownIds, journal: Journal) -> None:
        """Look into these; all are changed elsewhere, between calls."""
        self._book, self._ids, self._journal = book, ids, journal
        self.words = WordReader(book, ids, journal)

    def load(self, batch: Words, spared: npt.NDArray[np.bool_] | None = None) -> Known:
        """Return what is known about the ids in a batch, shape (n, 16).

        spared: rows, shape (n,), whose ids need not be looked for, unless some row follows another.
        """
        return self.known(batch, self._ids.find(batch, spared))

    def known(self, batch: Words, named: Named) -> Known:
        """Return what is known about the ids in a batch, shape (n, 16), from what `KnownIds` found of them."""
        creates, created_at = self._created(batch) if named.creates else (_NONE, _NO_POSITIONS)
        own, followed = named.own, named.followed
        if not len(own.numbers) and not len(followed.numbers) and not len(creates):
            return nothing_known(len(batch))
        positions, index = _distinct(np.concatenate((own.entries[:, 1], followed.entries[:, 1], created_at)))
        stored = self.stored_at(positions)
        own_index, followed_index, created_index = np.split(index, np.cumsum([len(own.numbers), len(followed.numbers)]))
        id_row = rows_named(batch[:, 0:2], own.numbers, stored.rows, own_index)
        id_row[creates] = created_index
        followed_row = rows_named(batch[:, 8:10], followed.numbers, stored.rows, followed_index)
        became = self._became(stored.rows, np.unique(followed_row[followed_row >= 0]))
        return Known(
            id_row,
            followed_row,
            stored.rows,
            positions,
            stored.requested,
            stored.chain_last,
            became.ended,
            became.reversed,
            *self._laid_out(stored.rows, positions, id_row, followed_row),
        )

    def load_steps(self, steps: StepRecord, kinds: frozenset[int]) -> tuple[Known, Named | None]:
        """Return what is known about the ids in the rows of steps: of a COMMIT, HOLD or RELEASE too, since it is obeyed
        only with the very legs that are on record; but where its open chain knows its only leg by itself. kinds: the
        steps that occur.

        Plain steps are met (`KnownIds.meet`): then what that said is returned, too.
        """
        spared = None
        if not kinds.isdisjoint(LATER_STEPS):
            spared = np.zeros(len(steps.rows), np.bool_)
            know_bodies(self._book.tables, plain(step_words(steps.steps), np.uint64), steps.rows, spared)
        if not steps.compact or not kinds <= _MET_STEPS:
            return self.load(steps.rows, spared), None
        met = self._ids.meet(steps.rows, spared)
        return self.known(steps.rows, met), met

    def _laid_out(
        self,
        rows: Words,
        positions: npt.NDArray[np.uint64],
        id_row: npt.NDArray[np.int64],
        followed_row: npt.NDArray[np.int64],
    ) -> LaidOut:
        """Return the last four fields of `Known` for `rows`; of rows that nothing names, nothing is asked."""
        if not (rows[:, 15] >> STEP_SHIFT).any():
            return of_one_group(len(rows), self._book.group)
        steps = self.words.step_rows(rows, positions)
        is_named = np.zeros(len(rows) + 1, np.bool_)  # the last one stands for none, -1
        is_named[id_row], is_named[followed_row] = True, True
        named = np.flatnonzero(is_named[:-1])
        if len(named) == len(rows):
            return self.words.states(rows, steps), steps.digest, steps.sides, steps.decider
        word = np.zeros(len(rows), np.uint8)
        word[named] = self.words.states(rows[named], StepRows._make(field[named] for field in steps))
        return word, steps.digest, steps.sides, steps.decider

    def stored_at(self, positions: npt.NDArray[np.uint64]) -> StoredRows:
        """Return the rows at `positions`, shape (m,), ascending, from memory or from LMDB."""
        return self._journal.stored_at(positions)

    def positions_of(self, ids: Words) -> npt.NDArray[np.int64]:
        """Return where the transfers with `ids`, shape (n, 2), are stored, shape (n,); -1 for those that are not."""
        return self.words.first_positions(ids)

    def became(self, rows: Words) -> Followed:
        """Tell what became of stored rows, shape (m, 16): all zero for those that nothing can follow, and for open
        reservations."""
        return self._became(rows, np.arange(len(rows)))

    def _created(self, batch: Words) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Return which records create an account that is there, and where its CREATE_ACCOUNT stands."""
        creates = np.flatnonzero(_kinds(batch) == Kind.CREATE_ACCOUNT)
        accounts = self._book.find_accounts(batch[creates, 0:2])
        there = accounts >= 0
        return creates[there], self._book.tables.accounts[accounts[there], _POSITION_WORD]

    def _became(self, rows: Words, which: npt.NDArray[np.int64]) -> Followed:
        """Tell what became of the rows `which`; zero for all others."""
        nothing = np.zeros((len(rows), 2), np.uint64)
        became = Followed(nothing, nothing.copy(), np.zeros(len(rows), np.uint8))
        asked = which[self._may_be_followed(rows[which])]
        if len(asked):
            followed = self._ids.followed(np.ascontiguousarray(rows[asked, 0:2]))
            became.reversed[asked] = followed.reversed
            became.expired[asked] = followed.expired
            became.ended[asked] = followed.ended
        return became

    def _may_be_followed(self, rows: Words) -> npt.NDArray[np.bool_]:
        """Tell which rows took effect and had followers that the book does not tell of: all but open reservations.

        An open reservation may have had COMMITs, whose mark would wrongly say that it ended.
        """
        kinds, outcomes = _kinds(rows), (rows[:, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK
        asked = (outcomes >= 1) & (outcomes <= _EFFECT_MAX) & np.isin(kinds, _FOLLOWED_KINDS)
        reserves = np.flatnonzero(asked & (kinds == Kind.RESERVE))
        if len(reserves):
            asked[reserves] = self._book.find_reservations(rows[reserves, 0:2]) < 0
        return asked


_NONE: Final = np.empty(0, np.int64)
_NO_POSITIONS: Final = np.empty(0, np.uint64)
_FOLLOWED_KINDS: Final = np.array([Kind.POST, Kind.RESERVE, Kind.COMMIT], np.uint64)


def _distinct(positions: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the positions ascending, each once, and for each that was given its place among them.

    They mostly come so: what was secured together is committed together.
    """
    if (positions[1:] > positions[:-1]).all():
        return positions, np.arange(len(positions))
    ascending, index = np.unique(positions, return_inverse=True)
    return ascending, index.astype(np.int64, copy=False)


def _kinds(rows: Words) -> npt.NDArray[np.uint64]:
    return (rows[:, 15] >> _KIND_SHIFT) & _BYTE
