"""Taking back the legs of a chain: what each step changed is noted first, and restored in reverse order."""

from typing import Final

import numpy as np

from engine.core.compiled import outlined
from engine.core.kernel.accounts import BUCKET, FLAGS_WORD, OVERDRAFT, SHIFT_32
from engine.core.kernel.arrays import UNDO_COUNT, Tables, Work
from engine.core.kernel.reservations import REMAINING, relist_reservation, touch_reservation, unlist_reservation
from engine.core.kernel.u128 import I64, ONE, U64, ZERO

UNDO_PER_LEG: Final = 5
UNDO_WORDS: Final = 18

_ACCOUNT: Final = np.uint64(1)
_REMAINING: Final = np.uint64(2)
_LISTED: Final = np.uint64(3)
_UNLISTED: Final = np.uint64(4)
_ENDED: Final = np.uint64(5)
_REVERSED: Final = np.uint64(6)


@outlined
def _note(work: Work, what: U64, which: I64) -> U64:
    at = work.counts[UNDO_COUNT]
    work.counts[UNDO_COUNT] += ONE
    work.undo[at, 0], work.undo[at, 1] = what, np.uint64(which)
    return at


@outlined
def note_account(tables: Tables, work: Work, row: I64) -> None:
    """Before its counters change, and, of a bucket, what it gave back."""
    at = _note(work, _ACCOUNT, row)
    for word in range(8):
        work.undo[at, word + 2] = tables.accounts[row, word + 2]
    if tables.accounts[row, FLAGS_WORD] & BUCKET != ZERO:
        share = np.int64(tables.accounts[row, FLAGS_WORD] >> SHIFT_32) - 1
        work.undo[at, 10], work.undo[at, 11] = tables.accounts[share, OVERDRAFT], tables.accounts[share, OVERDRAFT + 1]


@outlined
def note_remaining(tables: Tables, work: Work, row: I64) -> None:
    """Before a reservation is committed or released."""
    at = _note(work, _REMAINING, row)
    work.undo[at, 2] = tables.reservations[row, REMAINING]
    work.undo[at, 3] = tables.reservations[row, REMAINING + 1]


@outlined
def note_listed(work: Work, row: I64) -> None:
    """After a reservation was opened."""
    _note(work, _LISTED, row)


@outlined
def note_unlisted(tables: Tables, work: Work, row: I64, stored: I64) -> None:
    """After a reservation ended; `stored` is its RESERVE. All words are noted: a later leg may reserve in this row."""
    at = _note(work, _UNLISTED, row)
    for word in range(16):
        work.undo[at, word + 2] = tables.reservations[row, word]
    _note(work, _ENDED, stored)


@outlined
def note_reversed(work: Work, stored: I64) -> None:
    """Before the sum reversed of a stored transfer grows."""
    at, known = _note(work, _REVERSED, stored), len(work.known_rows)
    for word in range(2):
        if stored < known:
            work.undo[at, word + 2] = work.known_reversed[stored, word]
        else:
            work.undo[at, word + 2] = work.reversed[stored - known, word]


@outlined
def roll_back(tables: Tables, work: Work) -> None:
    """Restore everything noted, latest first."""
    while work.counts[UNDO_COUNT] != ZERO:
        work.counts[UNDO_COUNT] -= ONE
        at = work.counts[UNDO_COUNT]
        what, which = work.undo[at, 0], np.int64(work.undo[at, 1])
        if what == _ACCOUNT:
            for word in range(8):
                tables.accounts[which, word + 2] = work.undo[at, word + 2]
            if tables.accounts[which, FLAGS_WORD] & BUCKET != ZERO:
                share = np.int64(tables.accounts[which, FLAGS_WORD] >> SHIFT_32) - 1
                tables.accounts[share, OVERDRAFT] = work.undo[at, 10]
                tables.accounts[share, OVERDRAFT + 1] = work.undo[at, 11]
        elif what == _REMAINING:
            tables.reservations[which, REMAINING] = work.undo[at, 2]
            tables.reservations[which, REMAINING + 1] = work.undo[at, 3]
            touch_reservation(tables, which)
        elif what == _LISTED:
            unlist_reservation(tables, which)
        elif what == _UNLISTED:
            for word in range(16):
                tables.reservations[which, word] = work.undo[at, word + 2]
            relist_reservation(tables, which)
        else:
            _restore_beside(work, at, what, which)


@outlined
def _restore_beside(work: Work, at: U64, what: U64, which: I64) -> None:
    known = len(work.known_rows)
    if what == _ENDED:
        if which < known:
            work.known_ended[which] = 0
        else:
            work.ended[which - known] = 0
        return
    for word in range(2):
        if which < known:
            work.known_reversed[which, word] = work.undo[at, word + 2]
        else:
            work.reversed[which - known, word] = work.undo[at, word + 2]
