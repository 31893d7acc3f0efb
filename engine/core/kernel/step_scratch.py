"""Judging a chain of several legs in order, each upon what the earlier ones would leave; all of it is taken back."""

from typing import Final

import numpy as np

from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import ACCEPTED, CREDITS_RESERVED, DEBITS_RESERVED, move, raise_counter
from engine.core.kernel.arrays import INCONSISTENT, UNDO_COUNT, Tables, Work
from engine.core.kernel.chain import add_reversed
from engine.core.kernel.judge import COMMIT, POST, RELEASE, RESERVE, REVERSE, find_followed, judge
from engine.core.kernel.reservations import COMMITTED, RELEASED, commit, mark_ended, release
from engine.core.kernel.step_rows import stored_of_id
from engine.core.kernel.stored import flags_of, kind_of
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO
from engine.core.kernel.undo import note_account, note_remaining, note_unlisted, roll_back
from engine.core.outcomes import Outcome
from engine.core.records import Flag

_DIFFERENT_CHAIN: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN)
_KEEP_REST: Final = np.uint64(Flag.KEEP_REST)


@outlined
def judge_on_scratch(tables: Tables, work: Work, first: I64, count: I64, decides: bool) -> tuple[U64, I64]:
    """Judge records first..first+count-1, legs of one chain whose id is new: (refusal or `ACCEPTED`, the leg refused).

    The amounts of the accepted ones are set to what they move.
    """
    work.counts[UNDO_COUNT] = ZERO
    refusal, failed = ACCEPTED, np.int64(0)
    for leg in range(count):
        i = first + leg
        failed = np.int64(leg)
        if leg > 0 and stored_of_id(work, i) >= 0:
            refusal = _DIFFERENT_CHAIN
            break
        refusal, low, high, target = judge(tables, work, i, decides)
        if refusal != ACCEPTED:
            break
        if kind_of(work.batch[i, 15]) != RELEASE:
            work.batch[i, 6], work.batch[i, 7] = low, high
        _try(tables, work, i, target)
    roll_back(tables, work)
    return refusal, failed if refusal != ACCEPTED else np.int64(0)


@helper
def _try(tables: Tables, work: Work, i: I64, target: I64) -> None:
    """Let a leg take effect as far as later legs can see it. (A hold of this chain, none of them can follow.)"""
    kind, debit, credit = kind_of(work.batch[i, 15]), work.debit_rows[i], work.credit_rows[i]
    low, high = work.batch[i, 6], work.batch[i, 7]
    if debit >= 0:
        note_account(tables, work, debit)
        note_account(tables, work, credit)
    if kind == POST and debit >= 0:
        move(tables, debit, credit, low, high)
    elif kind == RESERVE and debit >= 0:
        raise_counter(tables.accounts, debit, DEBITS_RESERVED, low, high)
        raise_counter(tables.accounts, credit, CREDITS_RESERVED, low, high)
    elif kind == REVERSE:
        if debit >= 0:
            move(tables, credit, debit, low, high)
        stored = find_followed(tables, work, i)
        if stored >= 0:
            add_reversed(work, stored, low, high, True)
    elif target >= 0:
        _try_ending(tables, work, i, target)


@outlined
def _try_ending(tables: Tables, work: Work, i: I64, target: I64) -> None:
    """Commit or release the open reservation at `target`; where another group decides, as that would."""
    original, meta, how = find_followed(tables, work, i), work.batch[i, 15], RELEASED
    if original < 0:
        work.counts[INCONSISTENT] = ONE
        return
    low, high = work.batch[i, 6], work.batch[i, 7]
    note_remaining(tables, work, target)
    if kind_of(meta) == COMMIT and low & high != FULL:
        how = COMMITTED
        if not commit(tables, target, low, high, flags_of(meta) & _KEEP_REST != ZERO):
            return
    else:
        release(tables, target)
    mark_ended(work, original, how)
    note_unlisted(tables, work, target, original)
