"""Rolling a book forward over the rows of a STEPS block, compiled: what was secured or decided is done again."""

from typing import Final

import numpy as np

from engine.core.chains.word import Step
from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.arrays import (
    FIRST_POSITION,
    LAST_TIMESTAMP,
    NEXT_POSITION,
    STEPS_TYPE,
    TABLES_TYPE,
    WORK_TYPE,
    Steps,
    Tables,
    Work,
)
from engine.core.kernel.open_chains import (
    ACCOUNTS,
    SECURED,
    body_kept,
    close_chain,
    decider_of,
    find_chain,
    first_row_of,
    is_of_digest,
    legs_of,
    open_chain,
    pack_rows,
    row_count_of,
    step_of,
)
from engine.core.kernel.reservations import OPEN, obey
from engine.core.kernel.step_effects import (
    count_freed,
    lacks_transit,
    make_transits,
    place_leg,
    run_leg,
    secure_net,
    secure_one,
)
from engine.core.kernel.stored import kind_of, outcome_of
from engine.core.kernel.tables import find_reservation
from engine.core.kernel.u128 import I64, ONE, U64, ZERO
from engine.core.known import Ended
from engine.core.outcomes import Outcome

_RESERVE_STEP: Final = np.uint64(Step.RESERVE)
_DECIDE_STEP: Final = np.uint64(Step.DECIDE)
_COMMIT_STEP: Final = np.uint64(Step.COMMIT)
_RELEASE_STEP: Final = np.uint64(Step.RELEASE)
_ABORT_STEP: Final = np.uint64(Step.ABORT)
_HOLD_STEP: Final = np.uint64(Step.HOLD)
_EXPIRE_STEP: Final = np.uint64(Step.EXPIRE)
_POSTED: Final = np.uint64(Outcome.POSTED)
_SECURED: Final = np.uint64(Outcome.SECURED)
_EXPIRED: Final = np.uint64(Ended.EXPIRED)
_SHIFT_61: Final = np.uint64(61)


@outlined
def _redo_step(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, count: I64) -> bool:
    step, outcome = step_of(steps.steps, number), outcome_of(work.batch[first, 15])
    if step == _ABORT_STEP:
        return True
    if step == _EXPIRE_STEP:
        return _redo_expiry(tables, work, steps, first)
    for i in range(first, first + count):
        place_leg(tables, work, i, False)
        if (step == _RESERVE_STEP or step == _DECIDE_STEP) and lacks_transit(tables, work, i):
            make_transits(tables, work, i, first)
    if step == _RESERVE_STEP:
        if outcome == _SECURED:
            _redo_secure(tables, work, steps, number, first, count)
        return True
    if step == _DECIDE_STEP:
        return outcome != _POSTED or _redo_run(tables, work, steps, number, first, count, work.batch[first, 13])
    return _redo_end(tables, work, steps, number, first, count)


@helper
def _redo_secure(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, count: I64) -> None:
    low, high, accounts, body = work.batch[first, 6], work.batch[first, 7], ZERO, ZERO
    if count == 1:
        debit, credit = work.debit_rows[first], work.credit_rows[first]
        secure_one(tables, kind_of(work.batch[first, 15]), debit, credit, low, high, True)
        accounts, body = pack_rows(debit, credit), body_kept(tables, work, first)
    else:
        low = high = ZERO
        secure_net(tables, work, steps, first, first, count, decider_of(steps.steps, number), True)
    position = work.counts[FIRST_POSITION] + np.uint64(first)
    open_chain(tables, steps.steps, number, low, high, accounts, body, work.batch[first, 13], position)


@outlined
def _redo_run(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, count: I64, since_ns: U64) -> bool:
    for i in range(first, first + count):
        if work.debit_rows[i] == -1 or work.credit_rows[i] == -1:
            return False
        run_leg(tables, work, steps, i, i, decider_of(steps.steps, number), since_ns)
    return True


@helper
def _redo_end(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, count: I64) -> bool:
    chain, step = find_chain(tables, steps.steps[number, 0], steps.steps[number, 1]), step_of(steps.steps, number)
    ends = step == _COMMIT_STEP or step == _HOLD_STEP or step == _RELEASE_STEP
    if not ends or chain < 0 or not is_of_digest(tables, chain, steps.steps, number):
        return False
    if legs_of(steps.steps, number) == 1:
        low, high = tables.chains[chain, SECURED], tables.chains[chain, SECURED + 1]
        debit, credit = work.debit_rows[first], work.credit_rows[first]
        if pack_rows(debit, credit) != tables.chains[chain, ACCOUNTS]:
            return False
        secure_one(tables, kind_of(work.batch[first, 15]), debit, credit, low, high, False)
        count_freed(tables, work, first, debit, credit, low, high)
    else:
        secure_net(tables, work, steps, first, first, count, decider_of(steps.steps, number), False)
    close_chain(tables, chain)
    return step == _RELEASE_STEP or _redo_run(tables, work, steps, number, first, count, steps.steps[number, 4])


@outlined
def _redo_expiry(tables: Tables, work: Work, steps: Steps, at: I64) -> bool:
    row = find_reservation(tables, work.batch[at, 0], work.batch[at, 1])
    if row < 0 or tables.reservations[row, OPEN] != ONE:
        return False
    obey(tables, row, ZERO, ZERO, work.batch[at, 6], work.batch[at, 7], _EXPIRED, False)
    return True


@entry((TABLES_TYPE, WORK_TYPE, STEPS_TYPE))
def replay_step_rows(tables: Tables, work: Work, steps: Steps) -> I64:
    """Roll forward; return how many steps fitted: fewer than all if one does not, which damage alone explains."""
    for number in range(np.int64(len(steps.steps))):
        first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
        for at in range(first, first + count):
            if work.batch[at, 13] <= tables.counters[LAST_TIMESTAMP]:
                return np.int64(number)
            if work.batch[at, 15] >> _SHIFT_61 != step_of(steps.steps, number):
                return np.int64(number)
            tables.counters[LAST_TIMESTAMP] = work.batch[at, 13]
            tables.counters[NEXT_POSITION] += ONE
        if not _redo_step(tables, work, steps, number, first, count):
            return np.int64(number)
    return np.int64(len(steps.steps))
