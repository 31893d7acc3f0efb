"""Plain steps in and out of their payload's runs, and what a leader checks of them, each in one pass
(`engine.core.chains.step_record`)."""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from engine.core.chains.word import Step
from engine.core.compiled import entry, helper
from engine.core.kernel.arrays import U64_NUMBER, WORDS_TYPE
from engine.core.kernel.u128 import I64, ONE, U64, ZERO
from engine.core.limits import GROUPS_MAX
from engine.core.records import Flag, Words

RUN_WORDS: Final = 3
"""Of a run: steps u32, step u8, zero u8, decider u16; debit group u16, credit group u16, reason u16, zero u16; time."""

_READ_ONLY: Final = types.Array(types.uint64, 2, "C", readonly=True)
_SIDES: Final = types.Array(types.uint16, 2, "C")
_SIDES_READ_ONLY: Final = types.Array(types.uint16, 2, "C", readonly=True)

# Words of `step_record.STEP`.
_TIME: Final = 4
_ROWS: Final = 5
_META: Final = 6
_RESERVED: Final = 7

_M8: Final = np.uint64(0xFF)
_M16: Final = np.uint64(0xFFFF)
_M32: Final = np.uint64(0xFFFF_FFFF)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_24: Final = np.uint64(24)
_SHIFT_32: Final = np.uint64(32)
_SHIFT_48: Final = np.uint64(48)
_ONE_LEG: Final = np.uint64(1 << 32)
_ONE_LEG_MASK: Final = np.uint64(0xFF00_FFFF_FFFF_0000)
"""Of `_META`: zero, how many legs, which leg."""
_LINKED: Final = np.uint64(Flag.LINKED)
_GROUPS: Final = np.uint64(GROUPS_MAX)
_DECIDE: Final = np.uint64(Step.DECIDE)
_ABORT: Final = np.uint64(Step.ABORT)
_ASK: Final = np.uint64(Step.ASK)
_RESERVE: Final = np.uint64(Step.RESERVE)
_LAST_STEP: Final = np.uint64(max(Step))


@helper
def _is_plain(steps: Words, rows: Words, number: I64) -> bool:
    """Whether a step is of a chain of one leg, named after it, and its row the one of its number."""
    row_word = steps[number, _ROWS]
    here = row_word & _M32 == np.uint64(number) and (row_word >> _SHIFT_32) & _M16 == ONE
    one_leg = steps[number, _META] & _ONE_LEG_MASK == _ONE_LEG and steps[number, _RESERVED] == ZERO
    named = (steps[number, 0] ^ rows[number, 0]) | (steps[number, 1] ^ rows[number, 1]) == ZERO
    return bool(here and one_leg and named)


@entry((_READ_ONLY, _READ_ONLY, _SIDES_READ_ONLY, WORDS_TYPE, WORDS_TYPE))
def fill_runs(steps: Words, rows: Words, sides: npt.NDArray[np.uint16], runs: Words, digests: Words) -> I64:
    """Write plain steps, shape (n, 8), as runs, shape (n, 3) at most, and their digests, shape (n, 2); return how many
    runs there are, or -1 if not all steps are plain."""
    count = np.int64(0)
    for number in range(np.int64(len(steps))):
        if not _is_plain(steps, rows, number):
            return np.int64(-1)
        meta, time_ns = steps[number, _META], steps[number, _TIME]
        step, decider = (meta >> _SHIFT_48) & _M8, steps[number, _ROWS] >> _SHIFT_48
        first = (step << _SHIFT_32) | (decider << _SHIFT_48)
        groups = np.uint64(sides[number, 0]) | (np.uint64(sides[number, 1]) << _SHIFT_16)
        second = groups | ((meta & _M16) << _SHIFT_32)
        at = count - 1
        if at >= 0 and runs[at, 0] & ~_M32 == first and runs[at, 1] == second and runs[at, 2] == time_ns:
            runs[at, 0] += ONE
        else:
            runs[count, 0], runs[count, 1], runs[count, 2] = first | ONE, second, time_ns
            count += 1
        digests[number, 0], digests[number, 1] = steps[number, 2], steps[number, 3]
    return count


@entry((_READ_ONLY, _READ_ONLY, _READ_ONLY, WORDS_TYPE, _SIDES))
def fill_steps(runs: Words, rows: Words, digests: Words, steps: Words, sides: npt.NDArray[np.uint16]) -> bool:
    """Inverse of `fill_runs`: fill all steps, shape (n, 8), and sides, shape (n, 2); return whether the runs, none of
    them empty, have just so many steps."""
    number, count = np.int64(0), np.int64(len(steps))
    for at in range(np.int64(len(runs))):
        first, second = runs[at, 0], runs[at, 1]
        length = np.int64(first & _M32)
        if length == 0 or length > count - number:
            return False
        rows_word = (ONE << _SHIFT_32) | (first & (_M16 << _SHIFT_48))
        meta = ((second >> _SHIFT_32) & _M16) | _ONE_LEG | (((first >> _SHIFT_32) & _M8) << _SHIFT_48)
        for _ in range(length):
            steps[number, 0], steps[number, 1] = rows[number, 0], rows[number, 1]
            steps[number, 2], steps[number, 3] = digests[number, 0], digests[number, 1]
            steps[number, _TIME], steps[number, _ROWS] = runs[at, 2], rows_word | np.uint64(number)
            steps[number, _META], steps[number, _RESERVED] = meta, ZERO
            sides[number, 0] = np.uint16(second & _M16)
            sides[number, 1] = np.uint16((second >> _SHIFT_16) & _M16)
            number += 1
    return bool(number == count)


@helper
def _is_placed(steps: Words, sides: npt.NDArray[np.uint16], number: I64, step: U64, group: U64) -> bool:
    """Whether the group has a part in the plan, and the step is for that part."""
    debit, credit = np.uint64(sides[number, 0]), np.uint64(sides[number, 1])
    decider = steps[number, _ROWS] >> _SHIFT_48
    if debit >= _GROUPS or credit >= _GROUPS or decider >= _GROUPS:
        return False
    if decider == group:
        return bool(step == _DECIDE or step == _ABORT or step == _ASK)
    return bool(step != _DECIDE and step != _ABORT and (debit == group or credit == group))


@entry((_READ_ONLY, _READ_ONLY, _SIDES_READ_ONLY, U64_NUMBER))
def are_plain(steps: Words, rows: Words, sides: npt.NDArray[np.uint16], group: U64) -> bool:
    """Whether all steps, shape (n, 8), are plain, of known kinds, and meant for the group; their bodies and digests are
    not looked at, but for the flag that would make them legs of longer chains."""
    for number in range(np.int64(len(steps))):
        meta = steps[number, _META]
        step = (meta >> _SHIFT_48) & _M8
        if step == ZERO or step > _LAST_STEP or not _is_plain(steps, rows, number):
            return False
        if (meta & _M16 != ZERO) != (step == _ABORT) or not _is_placed(steps, sides, number, step, group):
            return False
        whole = step == _RESERVE or step == _DECIDE or step == _ABORT or step == _ASK
        if whole and (rows[number, 15] >> _SHIFT_24) & _LINKED != ZERO:
            return False
    return True
