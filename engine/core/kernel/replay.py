"""Rolling a book forward over journal rows, compiled: what took effect is done again, nothing is judged."""

from typing import Final

import numpy as np

from engine.core.compiled import entry, outlined
from engine.core.kernel.accounts import create_account, move, update_account
from engine.core.kernel.arrays import (
    LAST_TIMESTAMP,
    NEXT_POSITION,
    TABLES_TYPE,
    WORDS_TYPE,
    Tables,
)
from engine.core.kernel.buckets import make_bucket
from engine.core.kernel.judge import COMMIT, POST, RELEASE, RESERVE, REVERSE, UPDATE_ACCOUNT
from engine.core.kernel.reservations import commit, release, reserve
from engine.core.kernel.stored import flags_of, kind_of, outcome_of
from engine.core.kernel.tables import find_account_anywhere, find_reservation
from engine.core.kernel.u128 import I64, ONE, U64, ZERO
from engine.core.records import Flag, Kind, Words

_CREATE_ACCOUNT: Final = np.uint64(Kind.CREATE_ACCOUNT)
_BUCKET: Final = np.uint64(Kind.BUCKET)
_EXPIRE: Final = np.uint64(Kind.EXPIRE)
_SETTINGS: Final = np.uint64(Kind.SETTINGS)
_KEEP_REST: Final = np.uint64(Flag.KEEP_REST)
_LAST_EFFECTIVE: Final = np.uint64(9)


@outlined
def _find_account(tables: Tables, low: U64, high: U64) -> I64:
    """Find the row whatever the slot map says now: it was right when the row was judged."""
    return find_account_anywhere(tables, low, high)


@outlined
def _redo_followed(tables: Tables, rows: Words, at: I64, kind: U64) -> bool:
    row = find_reservation(tables, rows[at, 8], rows[at, 9])
    if row < 0:
        return False
    if kind == COMMIT:
        commit(tables, row, rows[at, 6], rows[at, 7], flags_of(rows[at, 15]) & _KEEP_REST != ZERO)
    elif kind == RELEASE or kind == _EXPIRE:
        release(tables, row)
    else:
        return False
    return True


@outlined
def _redo(tables: Tables, rows: Words, at: I64) -> bool:
    kind = kind_of(rows[at, 15])
    if kind == _SETTINGS:
        return True
    if kind == _CREATE_ACCOUNT:
        if _find_account(tables, rows[at, 0], rows[at, 1]) >= 0:
            return False
        create_account(tables, rows, at, tables.counters[NEXT_POSITION])
        return True
    if kind == _BUCKET:
        make_bucket(tables, rows, at, tables.counters[NEXT_POSITION])
        return True
    if kind == _EXPIRE:
        return _redo_followed(tables, rows, at, kind)  # its accounts may be other groups'
    debit = _find_account(tables, rows[at, 2], rows[at, 3])
    if kind == UPDATE_ACCOUNT:
        if debit >= 0:
            update_account(tables, rows, at, debit)
        return bool(debit >= 0)
    credit = _find_account(tables, rows[at, 4], rows[at, 5])
    if debit < 0 or credit < 0:
        return False
    if kind == POST:
        move(tables, debit, credit, rows[at, 6], rows[at, 7])
    elif kind == REVERSE:
        move(tables, credit, debit, rows[at, 6], rows[at, 7])
    elif kind == RESERVE:
        reserve(tables, rows, at, debit, credit, tables.counters[NEXT_POSITION], rows[at, 13], ZERO)
    else:
        return _redo_followed(tables, rows, at, kind)
    return True


@entry((TABLES_TYPE, WORDS_TYPE))
def replay(tables: Tables, rows: Words) -> I64:
    """Roll forward over `rows`; return how many fitted: fewer than all if one does not, which damage alone explains."""
    counters = tables.counters
    for at in range(len(rows)):
        if rows[at, 13] <= counters[LAST_TIMESTAMP]:
            return at
        if outcome_of(rows[at, 15]) <= _LAST_EFFECTIVE and not _redo(tables, rows, at):
            return at
        counters[LAST_TIMESTAMP] = rows[at, 13]
        counters[NEXT_POSITION] += ONE
    return len(rows)
