"""EXPIRE in the compiled kernel: a hold that another group decided met its deadline there."""

from typing import Final

import numpy as np

from engine.core.chains.word import State
from engine.core.compiled import outlined
from engine.core.kernel.accounts import M32
from engine.core.kernel.arrays import Steps, Tables, Work
from engine.core.kernel.open_chains import first_row_of, step_leg_of
from engine.core.kernel.reservations import LEDGER, OPEN, REMAINING, decided_here, mark_ended, obey
from engine.core.kernel.step_rows import (
    answer_changed,
    answer_ignored,
    is_of_chain,
    set_step_amount,
    store_step,
    stored_of_id,
)
from engine.core.kernel.tables import find_reservation
from engine.core.kernel.u128 import I64, ONE, ZERO, less
from engine.core.known import Ended
from engine.core.outcomes import Outcome
from engine.core.records import Kind

_EXPIRED: Final = np.uint8(Ended.EXPIRED)
_HELD: Final = np.uint8(State.HELD)
_POSTED: Final = np.uint64(Outcome.POSTED)
_KIND: Final = np.uint64(Kind.EXPIRE << 16)


@outlined
def expire_elsewhere(tables: Tables, work: Work, steps: Steps, number: I64, at: I64) -> I64:
    """Give back what the decider gave back of a hold, if it is HELD here; return the next row."""
    i = first_row_of(steps.steps, number)
    stored = stored_of_id(work, i)
    row = find_reservation(tables, work.batch[i, 0], work.batch[i, 1])
    if stored < 0 or row < 0 or not _is_heard(tables, work, steps, number, i, stored, row):
        answer_ignored(work, steps, number, stored)
        return at
    back_low, back_high = steps.given_back[i, 0], steps.given_back[i, 1]
    for word in range(2, 6):
        work.batch[i, word] = tables.reservations[row, word]
    work.batch[i, 14] = tables.reservations[row, LEDGER] & M32
    obey(tables, row, ZERO, ZERO, back_low, back_high, np.uint64(_EXPIRED), False)
    mark_ended(work, stored, _EXPIRED)
    work.batch[i, 6], work.batch[i, 7] = back_low, back_high
    work.asked[i, 0], work.asked[i, 1] = back_low, back_high
    work.batch[i, 8], work.batch[i, 9] = work.batch[i, 0], work.batch[i, 1]
    work.batch[i, 10] = work.batch[i, 11] = work.batch[i, 12] = ZERO
    work.batch[i, 15] = _KIND
    store_step(work, steps, number, i, at, _POSTED, step_leg_of(steps.steps, number), _HELD)
    steps.given_back[at, 0], steps.given_back[at, 1] = back_low, back_high
    set_step_amount(work, steps, at)
    answer_changed(work, steps, number, at, _HELD, ZERO, np.int64(0))
    return at + 1


@outlined
def _is_heard(tables: Tables, work: Work, steps: Steps, number: I64, i: I64, stored: I64, row: I64) -> bool:
    """Whether the hold is HELD here, of the very chain, decided elsewhere, and has that much left."""
    if tables.reservations[row, OPEN] != ONE or decided_here(tables, row):
        return False
    if not is_of_chain(work, steps, number, stored):
        return False
    rest = tables.reservations[row]
    return not less(rest[REMAINING], rest[REMAINING + 1], steps.given_back[i, 0], steps.given_back[i, 1])
