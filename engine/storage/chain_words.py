"""This group's words for cross-group chains, read from its journal and its book (`engine.core.chains.word`).

The first rows of a chain (RESERVE, DECIDE or ABORT) hold its bodies, their block its plan; the book has what is open;
the rows of COMMIT, HOLD or RELEASE, found by the chain's id, say how a secured chain went on. Used on the apply thread.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.plan import Chain, Plan, Side, bodies, chain_of
from engine.core.chains.step_record import StepRecord
from engine.core.chains.word import Hold, State, Step, Word
from engine.core.known import Ended
from engine.core.outcomes import Outcome
from engine.core.records import Words
from engine.exit_codes import ExitCode, require
from engine.storage.block import Block
from engine.storage.ids.known_ids import KnownIds
from engine.storage.journal import Journal
from engine.storage.step_rows import (
    IS_LATER,
    LEG_MASK,
    LEG_SHIFT,
    STEP_SHIFT,
    StepRows,
    local_rows,
    steps_of_block,
    steps_of_rows,
    words_of_ids,
)
from engine.storage.stored_rows import goes_on

_OUTCOME_SHIFT: Final = np.uint64(32)
_OUTCOME_MASK: Final = np.uint64(0xFFFF)
_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)
_AMOUNT_BITS: Final = 64
_ENDED_STATES: Final = {
    Ended.OPEN: State.HELD,
    Ended.COMMITTED: State.COMMITTED,
    Ended.RELEASED: State.RELEASED,
    Ended.EXPIRED: State.EXPIRED,
}
_LATER_STATES: Final = np.zeros(len(Step), np.uint8)
_LATER_STATES[Step.COMMIT], _LATER_STATES[Step.HOLD] = State.COMMITTED, State.HELD
_LATER_STATES[Step.RELEASE] = State.RELEASED
_LOST: Final = "the store does not know what became of the chain at position {}: restore or replace this replica"
_OTHER_DIGEST: Final = (
    "the chain at position {} has not the digest that its block says: restore or replace this replica"
)


class _Step(NamedTuple):
    """One step as a block has it."""

    first_position: int
    rows: Words
    """Shape (k, 16), as stored."""
    asked: Words
    """Shape (k, 2)."""
    given_back: Words
    sides: npt.NDArray[np.uint16]
    decider: int
    chain_id: Words
    """Shape (1, 2)."""
    digest: bytes


class WordReader:
    """See the module's docstring."""

    def __init__(self, book: Book, ids: KnownIds, journal: Journal) -> None:
        """Read what these have; all are changed elsewhere, between calls."""
        self._book, self._ids, self._journal = book, ids, journal
        self._group = book.group
        self._last: tuple[Block, StepRecord | None] | None = None

    # -- many at once

    def step_rows(self, rows: Words, positions: npt.NDArray[np.uint64]) -> StepRows:
        """Return what is to be said of the stored `rows`, shape (m, 16), at `positions`, ascending."""
        found = local_rows(rows, positions, self._group)
        which = np.flatnonzero(rows[:, 15] >> STEP_SHIFT)
        if len(which):
            self._journal.fill_steps(positions[which], which, found)
        return found

    def states(self, rows: Words, steps: StepRows) -> npt.NDArray[np.uint8]:
        """Return the state of this group's word for the chain of each row, which is one of its first; NONE for local
        rows."""
        outcomes = (rows[:, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK
        states = np.zeros(len(rows), np.uint8)
        states[steps.step == Step.ABORT] = State.TOMBSTONE
        decided = steps.step == Step.DECIDE
        states[decided] = np.where(steps.holds[decided], State.HELD, State.POSTED)
        states[(decided & (outcomes != Outcome.POSTED)) | (steps.step == Step.RESERVE)] = State.REFUSED
        secured = np.flatnonzero((steps.step == Step.RESERVE) & (outcomes == Outcome.SECURED))
        if len(secured):
            states[secured] = self._secured_states(steps.chain_id[secured], steps.first[secured])
        return states

    def _secured_states(self, chain_ids: Words, first: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        states = np.full(len(chain_ids), State.RESERVED, np.uint8)
        ended = np.flatnonzero(self._book.find_chains(chain_ids) < 0)
        if len(ended):
            later = self.later_positions(chain_ids[ended])
            lost = np.flatnonzero(later < 0)
            require(not len(lost), ExitCode.APPLY_FAILED, _LOST.format(first[ended[lost[:1]]]))
            rows = self._journal.stored_at(later.astype(np.uint64)).rows
            states[ended] = _LATER_STATES[steps_of_rows(rows)]
        return states

    def later_positions(self, chain_ids: Words) -> npt.NDArray[np.int64]:
        """Return where the COMMIT, HOLD or RELEASE of each chain, ids of shape (n, 2), begins; -1 if there is none."""
        found = self._ids.find_ids(np.ascontiguousarray(chain_ids))
        positions, index = np.unique(found.entries[:, 1], return_inverse=True)
        rows = self._journal.stored_at(positions).rows
        steps = self.step_rows(rows, positions)
        same = IS_LATER[steps.step][index] & (steps.chain_id[index] == chain_ids[found.numbers]).all(axis=1)
        later = np.full(len(chain_ids), -1, np.int64)
        later[found.numbers[same]] = positions[index[same]].astype(np.int64)
        return later

    def first_positions(self, ids: Words) -> npt.NDArray[np.int64]:
        """Return where the first row with each id, shape (n, 2), is stored, shape (n,); -1 for those that are not."""
        found = self._ids.find_ids(np.ascontiguousarray(ids))
        positions, index = np.unique(found.entries[:, 1], return_inverse=True)
        named = rows_named(ids, found.numbers, self._journal.stored_at(positions).rows, index)
        known = named >= 0
        named[known] = positions[named[known]].astype(np.int64)
        return named

    # -- one by one

    def word_at(self, position: int) -> Word:
        """Return the word for the chain of which a row stands at `position`; a local record is a chain of this group
        alone."""
        block, record, number = self._row_at(position)
        if record is None or not block.rows[number, 15] >> STEP_SHIFT:
            return self._local_word(block, number)
        step = _step_at(block, record, number)
        if Step(int(step.rows[0, 15] >> STEP_SHIFT)) in _NOT_FIRST:
            return self.word_at(int(self.first_positions(step.chain_id)[0]))
        return self._word(step)

    def _row_at(self, position: int) -> tuple[Block, StepRecord | None, int]:
        last = self._last
        if last is None or not last[0].header.first_position <= position < last[0].header.end_position:
            block = self._journal.block_at(position)
            if block is None:
                raise AssertionError(f"position {position} is behind the journal's end")
            self._last = last = (block, steps_of_block(block))
        return (*last, position - last[0].header.first_position)

    def _step_from(self, position: int) -> _Step:
        block, record, number = self._row_at(position)
        if record is None:
            raise AssertionError(f"position {position} is not of a step")
        return _step_at(block, record, number)

    def _word(self, step: _Step) -> Word:
        chain = _chain_of(step)
        require(chain.digest == step.digest, ExitCode.DATA_DAMAGED, _OTHER_DIGEST.format(step.first_position))
        position, timestamp_ns = step.first_position, int(step.rows[0, 13])
        state = State(self._state_of(step))
        if state in (State.REFUSED, State.TOMBSTONE):
            reason, leg = _refusal(step.rows)
            return Word(chain, state, reason=reason, leg=leg, position=position, timestamp_ns=timestamp_ns)
        amounts, back = _numbers(step.rows[:, 6:8]), _numbers(step.given_back)
        if state in (State.COMMITTED, State.HELD) and chain.decider != self._group:
            self._overlay(step, amounts, back)
        word = Word(chain, state, tuple(amounts), tuple(back) if any(back) else ())
        word = word._replace(position=position, timestamp_ns=timestamp_ns)
        return word._replace(holds=self._holds(chain)) if state is State.HELD else word

    def _state_of(self, step: _Step) -> int:
        positions = np.array([step.first_position], np.uint64)
        return int(self.states(step.rows[:1], self.step_rows(step.rows[:1], positions))[0])

    def _overlay(self, step: _Step, amounts: list[int], back: list[int]) -> None:
        """Put what was decided over what was secured, for this group's legs."""
        later = self._step_from(int(self.later_positions(step.chain_id)[0]))
        legs = ((later.rows[:, 15] >> LEG_SHIFT) & LEG_MASK).tolist()
        decided = zip(legs, _numbers(later.rows[:, 6:8]), _numbers(later.given_back), strict=True)
        for leg, amount, given_back in decided:
            amounts[leg], back[leg] = amount, given_back

    def _holds(self, chain: Chain) -> tuple[Hold, ...]:
        ids = np.frombuffer(chain.rows, np.uint64).reshape(-1, 16)[list(chain.holds), 0:2]
        places, followed = self._book.find_reservations(ids), self._ids.followed(np.ascontiguousarray(ids))
        decides, holds = chain.decider == self._group, []
        for number, leg in enumerate(chain.holds):
            if not decides and self._group not in chain.plan.sides[leg]:
                holds.append(Hold(State.NONE, 0))
                continue
            ended, rest = int(followed.ended[number]), 0
            if places[number] >= 0:
                row = self._book.tables.reservations[places[number]]
                ended, rest = int(row[15]) - 1, _number(row[6:8])
            expired = _number(followed.expired[number]) if ended == Ended.EXPIRED else 0
            holds.append(Hold(_ENDED_STATES[ended], rest, expired))
        return tuple(holds)

    def _local_word(self, block: Block, number: int) -> Word:
        first = number - int((block.rows[number, 15] >> LEG_SHIFT) & LEG_MASK)
        end = first + 1
        while end < len(block.rows) and goes_on(block.rows[end - 1 : end, 15], block.rows[end : end + 1, 15])[0]:
            end += 1
        rows, asked = block.rows[first:end], _asked(block, first, end)
        sides = (Side(self._group, self._group),) * len(rows)
        chain = chain_of(_bodies(rows, asked), Plan(sides, self._group))
        word = Word(chain, State.REFUSED, position=block.header.first_position + first, timestamp_ns=int(rows[0, 13]))
        reason, leg = _refusal(rows)
        if reason not in (Outcome.POSTED, Outcome.ACCOUNT_UPDATED):
            return word._replace(reason=reason, leg=leg)
        word = word._replace(state=State.POSTED, amounts=tuple(_numbers(rows[:, 6:8])))
        return word._replace(state=State.HELD, holds=self._holds(chain)) if chain.holds else word


_NOT_FIRST: Final = frozenset({Step.COMMIT, Step.HOLD, Step.RELEASE, Step.EXPIRE})


def rows_named(
    ids: Words, numbers: npt.NDArray[np.int64], rows: Words, index: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return for each id, shape (n, 2), the first row that has it, of those found (`index`, for the ids `numbers`); or
    -1. Rows of COMMIT, HOLD and RELEASE are never the first: their ids are on record."""
    named = np.full(len(ids), -1, np.int64)
    same = (rows[index, 0:2] == ids[numbers]).all(axis=1) & ~IS_LATER[steps_of_rows(rows)][index]
    numbers, found = numbers[same], index[same]
    if (numbers[1:] <= numbers[:-1]).any():
        order = np.argsort(-found, kind="stable")  # the first of several is assigned last
        numbers, found = numbers[order], found[order]
    named[numbers] = found
    return named


def _step_at(block: Block, record: StepRecord, number: int) -> _Step:
    behind = len(block.rows) - len(record.rows)
    steps = record.steps
    which = int(np.searchsorted(steps["first_row"], number - behind, side="right")) - 1
    first = int(steps[which]["first_row"])
    end = first + int(steps[which]["rows"])
    rows, back = record.rows[first:end], np.zeros((end - first, 2), np.uint64)
    low, high = np.searchsorted(record.amounts["row"], (first, end))
    for amount in record.amounts[low:high]:
        back[int(amount["row"]) - first] = amount["given_back_low"], amount["given_back_high"]
    return _Step(
        block.header.first_position + behind + first,
        rows,
        _asked(block, behind + first, behind + end),
        back,
        record.sides[first:end],
        int(steps[which]["decider"]),
        words_of_ids(steps["chain_id"][which : which + 1]),
        steps[which]["digest"].tobytes(),
    )


def _asked(block: Block, first: int, end: int) -> Words:
    """Return the amounts asked for in some rows of a block, shape (end - first, 2)."""
    asked = block.rows[first:end, 6:8].copy()
    low, high = np.searchsorted(block.requested_index, (first, end))
    asked[block.requested_index[low:high].astype(np.int64) - first] = block.requested_amount[low:high]
    return asked


def _chain_of(step: _Step) -> Chain:
    sides = tuple(Side(debit, credit) for debit, credit in step.sides.tolist())
    return chain_of(_bodies(step.rows, step.asked), Plan(sides, step.decider))


def _bodies(rows: Words, asked: Words) -> bytes:
    sent = rows.copy()
    sent[:, 6:8] = asked
    return bodies(sent)


def _refusal(rows: Words) -> tuple[int, int]:
    """Return the outcome of the leg that says how the chain ended, and its number."""
    outcomes = ((rows[:, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK).tolist()
    said = [(outcome, leg) for leg, outcome in enumerate(outcomes) if outcome != Outcome.CHAIN_FAILED]
    return said[0] if said else (int(Outcome.CHAIN_FAILED), 0)


def _number(words: npt.NDArray[np.uint64]) -> int:
    return int(words[0]) | int(words[1]) << _AMOUNT_BITS


def _numbers(words: Words) -> list[int]:
    return [low | high << _AMOUNT_BITS for low, high in words.tolist()]
