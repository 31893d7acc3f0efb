"""Rows and answers of steps in the compiled kernel: what is stored, found again, and told."""

from typing import Final

import numpy as np

from engine.core.chains.step_answers import ON_RECORD, SHORT
from engine.core.chains.word import Step
from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import M32, SHIFT_32
from engine.core.kernel.arrays import ASKED_OTHERWISE, FIRST_POSITION, FIRST_TIMESTAMP, Steps, Work
from engine.core.kernel.open_chains import STEP_DIGEST, step_of
from engine.core.kernel.stored import find_in_batch, list_in_batch, stored_asked, stored_position
from engine.core.kernel.u128 import FULL, I64, ONE, U8, U64, ZERO

_SHIFT_8: Final = np.uint64(8)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_48: Final = np.uint64(48)
_LEG_MASK: Final = np.uint64(0x1FFF)
_SHIFT_61: Final = np.uint64(61)
_ON_RECORD: Final = np.uint64(ON_RECORD)
_SHORT: Final = np.uint64(SHORT)
_RESERVE: Final = np.uint64(Step.RESERVE)
_DECIDE: Final = np.uint64(Step.DECIDE)
_COMMIT: Final = np.uint64(Step.COMMIT)
_HOLD: Final = np.uint64(Step.HOLD)
_ABORT: Final = np.uint64(Step.ABORT)


@helper
def stored_of_id(work: Work, i: I64) -> I64:
    """Return the first stored record with the id of record `i`, or -1."""
    if work.id_row[i] >= 0:
        return work.id_row[i]
    return find_in_batch(work, work.hashes[i], work.batch[i, 0], work.batch[i, 1])


@helper
def is_of_chain(work: Work, steps: Steps, number: I64, stored: I64) -> bool:
    """Whether a stored record is of the very chain that a step is for."""
    known = len(work.known_rows)
    if stored < known:
        low, high = work.known_digest[stored, 0], work.known_digest[stored, 1]
    else:
        by_step = work.row_step[stored - known]
        low, high = steps.steps[by_step, STEP_DIGEST], steps.steps[by_step, STEP_DIGEST + 1]
    differs = (low ^ steps.steps[number, STEP_DIGEST]) | (high ^ steps.steps[number, STEP_DIGEST + 1])
    return bool(differs == ZERO)


@helper
def is_on_record(work: Work, steps: Steps, number: I64, i: I64) -> bool:
    """Whether record `i` is the very leg of the step's chain that registered its id, body and sides."""
    stored, known = stored_of_id(work, i), len(work.known_rows)
    if stored < 0 or not is_of_chain(work, steps, number, stored):
        return False
    low, high = stored_asked(work, stored)
    differs = (work.asked[i, 0] ^ low) | (work.asked[i, 1] ^ high)
    row = work.known_rows[stored] if stored < known else work.batch[stored - known]
    sides = work.known_sides[stored] if stored < known else work.sides[stored - known]
    for word in range(2, 15):
        if word < 6 or (word > 7 and word != 13):
            differs |= row[word] ^ work.batch[i, word]
    differs |= (row[15] ^ work.batch[i, 15]) & (M32 | (_LEG_MASK << _SHIFT_48))
    return bool(differs == ZERO and sides[0] == work.sides[i, 0] and sides[1] == work.sides[i, 1])


@helper
def store_step(work: Work, steps: Steps, number: I64, i: I64, at: I64, outcome: U64, leg: I64, state: U8) -> None:
    """Make record `i` the journal row `at` of the block, stored by a step; leg: its number in the whole chain."""
    batch, step = work.batch, step_of(steps.steps, number)
    if i != at:
        for word in range(16):
            batch[at, word] = batch[i, word]
        work.asked[at, 0], work.asked[at, 1] = work.asked[i, 0], work.asked[i, 1]
        work.sides[at, 0], work.sides[at, 1] = work.sides[i, 0], work.sides[i, 1]
        steps.given_back[at, 0], steps.given_back[at, 1] = steps.given_back[i, 0], steps.given_back[i, 1]
    if step != _COMMIT and step != _HOLD:
        steps.given_back[at, 0] = steps.given_back[at, 1] = ZERO
    batch[at, 13] = work.counts[FIRST_TIMESTAMP] + np.uint64(at)
    batch[at, 15] = (batch[at, 15] & M32) | (outcome << SHIFT_32) | (np.uint64(leg) << _SHIFT_48) | (step << _SHIFT_61)
    work.row_step[at] = number
    if step == _RESERVE or step == _DECIDE or step == _ABORT:
        work.row_word[at] = state
        list_in_batch(work, work.hashes[i], at)
    set_step_amount(work, steps, at)


@helper
def set_step_amount(work: Work, steps: Steps, at: I64) -> None:
    """Note whether row `at` moves another amount than was asked for, or gives something back."""
    differs = (work.batch[at, 6] ^ work.asked[at, 0]) | (work.batch[at, 7] ^ work.asked[at, 1])
    if differs | steps.given_back[at, 0] | steps.given_back[at, 1] != ZERO:
        work.counts[ASKED_OTHERWISE] = ONE


@helper
def answer_changed(work: Work, steps: Steps, number: I64, at: I64, state: U8, reason: U64, leg: I64) -> None:
    """Answer with the new word, stored from row `at` on."""
    answers = steps.answers
    answers[number, 0] = np.uint64(state) | (reason << _SHIFT_16) | (np.uint64(leg) << SHIFT_32)
    answers[number, 1] = work.counts[FIRST_POSITION] + np.uint64(at)
    answers[number, 2] = work.batch[at, 13]
    answers[number, 3] = steps.steps[number, STEP_DIGEST]
    answers[number, 4] = steps.steps[number, STEP_DIGEST + 1]
    answers[number, 5] = ZERO
    steps.changed[number] = True


@outlined
def answer_short_step(steps: Steps, number: I64, reason: U64, leg: I64) -> None:
    """Answer that nothing is stored, as this group's bucket is short for a leg."""
    answers = steps.answers
    for word in range(6):
        answers[number, word] = ZERO
    answers[number, 0] = (_SHORT << _SHIFT_8) | (reason << _SHIFT_16) | (np.uint64(leg) << SHIFT_32)
    answers[number, 1] = FULL
    steps.changed[number] = False


@outlined
def answer_ignored(work: Work, steps: Steps, number: I64, met: I64) -> None:
    """Answer that nothing changed; `met` is a stored record of the chain whose word is the answer, or -1."""
    answers = steps.answers
    for word in range(6):
        answers[number, word] = ZERO
    answers[number, 0] = _ON_RECORD << _SHIFT_8
    answers[number, 1] = stored_position(work, met) if met >= 0 else FULL
    steps.changed[number] = False
