"""Open reservations in the compiled kernel: opening, committing, giving back, expiry."""

from typing import Final

import numpy as np

from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.accounts import (
    CHUNK_SHIFT,
    CREDITS_POSTED,
    CREDITS_RESERVED,
    DEBITS_POSTED,
    DEBITS_RESERVED,
    M16,
    M32,
    SHIFT_32,
    count_given_back,
    lower_counter,
    raise_counter,
    touch_account,
)
from engine.core.kernel.arrays import (
    DEADLINE_COUNT,
    FREE_COUNT,
    GROUP,
    HASH_SEED,
    RESERVATION_COUNT,
    RESERVATION_HIGH,
    TABLES_TYPE,
    U64_NUMBER,
    WORDS_TYPE,
    Tables,
    Work,
)
from engine.core.kernel.deadlines import is_stale, pop_deadline, push_deadline
from engine.core.kernel.tables import delete, insert
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO, add, subtract
from engine.core.known import Ended
from engine.core.outcomes import Outcome
from engine.core.placement import hash_id
from engine.core.records import Kind, Words

DEBIT: Final = 2
CREDIT: Final = 4
REMAINING: Final = 6
RESERVED: Final = 8
DEADLINE: Final = 10
TIMESTAMP: Final = 11
POSITION: Final = 12
ROWS: Final = 13
LEDGER: Final = 14
OPEN: Final = 15

COMMITTED: Final = np.uint8(Ended.COMMITTED)
RELEASED: Final = np.uint8(Ended.RELEASED)
_NS_PER_S: Final = np.uint64(1_000_000_000)
_EXPIRED_META: Final = np.uint64((Outcome.POSTED << 32) | (Kind.EXPIRE << 16))


@helper
def debit_row_of(tables: Tables, row: I64) -> I64:
    """Return the account row of a reservation's debit side."""
    return np.int64(tables.reservations[row, ROWS] & M32)


@helper
def credit_row_of(tables: Tables, row: I64) -> I64:
    """Return the account row of a reservation's credit side."""
    return np.int64(tables.reservations[row, ROWS] >> SHIFT_32)


@helper
def touch_reservation(tables: Tables, row: I64) -> None:
    """Mark the chunk of this row as changed since the last checkpoint."""
    tables.dirty_reservations[row >> CHUNK_SHIFT] = 1


@helper
def decided_here(tables: Tables, row: I64) -> bool:
    """Whether this group's log orders the reservation's life: it is local, or the hold of a chain that it decides."""
    decider = (tables.reservations[row, LEDGER] >> SHIFT_32) & M16
    return bool(decider == ZERO or decider == tables.counters[GROUP] + ONE)


@outlined
def settle(tables: Tables, row: I64, low: U64, high: U64, back_low: U64, back_high: U64) -> None:
    """Post the first amount of a reservation, and give back the second one."""
    reservation, accounts = tables.reservations[row], tables.accounts
    taken_low, taken_high = add(low, high, back_low, back_high)
    reservation[REMAINING], reservation[REMAINING + 1] = subtract(
        reservation[REMAINING], reservation[REMAINING + 1], taken_low, taken_high
    )
    touch_reservation(tables, row)
    if reservation[ROWS] == FULL:
        return
    debit, credit = debit_row_of(tables, row), credit_row_of(tables, row)
    raise_counter(accounts, debit, DEBITS_POSTED, low, high)
    raise_counter(accounts, credit, CREDITS_POSTED, low, high)
    lower_counter(accounts, debit, DEBITS_RESERVED, taken_low, taken_high)
    lower_counter(accounts, credit, CREDITS_RESERVED, taken_low, taken_high)
    touch_account(tables, debit)
    touch_account(tables, credit)
    if back_low | back_high != ZERO:
        count_given_back(tables, debit, back_low, back_high)
        count_given_back(tables, credit, back_low, back_high)


@helper
def is_empty(tables: Tables, row: I64) -> bool:
    """Whether nothing is reserved any more."""
    return bool(tables.reservations[row, REMAINING] | tables.reservations[row, REMAINING + 1] == ZERO)


@helper
def _take_row(tables: Tables) -> I64:
    counters = tables.counters
    if counters[FREE_COUNT] != ZERO:
        counters[FREE_COUNT] -= ONE
        return np.int64(tables.free_reservations[counters[FREE_COUNT]])
    row = np.int64(counters[RESERVATION_HIGH])
    counters[RESERVATION_HIGH] += ONE
    return row


@outlined
def list_reservation(tables: Tables, row: I64) -> None:
    """Make the filled row an open reservation."""
    reservation = tables.reservations[row]
    reservation[OPEN] = ONE
    digest = hash_id(reservation[0], reservation[1], tables.counters[HASH_SEED])
    insert(tables.reservation_slots, digest, row)
    tables.counters[RESERVATION_COUNT] += ONE
    touch_reservation(tables, row)


@outlined
def unlist_reservation(tables: Tables, row: I64) -> None:
    """End the reservation; its row is free, and keeps its words until it is taken again."""
    delete(tables.reservation_slots, tables.reservations, row, tables.counters[HASH_SEED])
    tables.reservations[row, OPEN] = ZERO
    tables.free_reservations[tables.counters[FREE_COUNT]] = np.uint64(row)
    tables.counters[FREE_COUNT] += ONE
    tables.counters[RESERVATION_COUNT] -= ONE
    touch_reservation(tables, row)


@outlined
def relist_reservation(tables: Tables, row: I64) -> None:
    """Undo the latest `unlist_reservation`."""
    tables.counters[FREE_COUNT] -= ONE
    list_reservation(tables, row)


@outlined
def reserve(
    tables: Tables, rows: Words, at: I64, debit: I64, credit: I64, position: U64, since_ns: U64, groups: U64
) -> I64:
    """Open the reservation that the stored RESERVE row `at` describes; return its row.

    debit, credit: account rows, both negative if this group runs neither. since_ns: from when its timeout counts.
    groups: of a cross-group hold, what stands above the ledger in word 14; 0 for local ones.
    """
    row = _take_row(tables)
    reservation = tables.reservations[row]
    for word in range(6):
        reservation[word] = rows[at, word]
    reservation[REMAINING], reservation[REMAINING + 1] = rows[at, 6], rows[at, 7]
    reservation[RESERVED], reservation[RESERVED + 1] = rows[at, 6], rows[at, 7]
    timeout_s = rows[at, 14] >> SHIFT_32
    reservation[DEADLINE] = since_ns + timeout_s * _NS_PER_S if timeout_s != ZERO else ZERO
    reservation[TIMESTAMP] = rows[at, 13]
    reservation[POSITION] = position
    reservation[ROWS] = np.uint64(debit) | (np.uint64(credit) << SHIFT_32) if debit >= 0 else FULL
    reservation[LEDGER] = (rows[at, 14] & M32) | (groups << SHIFT_32)
    list_reservation(tables, row)
    if timeout_s != ZERO and decided_here(tables, row):
        push_deadline(tables, reservation[DEADLINE], position, row)
    if debit >= 0:
        raise_counter(tables.accounts, debit, DEBITS_RESERVED, rows[at, 6], rows[at, 7])
        raise_counter(tables.accounts, credit, CREDITS_RESERVED, rows[at, 6], rows[at, 7])
        touch_account(tables, debit)
        touch_account(tables, credit)
    return row


@helper
def rest_after(tables: Tables, row: I64, low: U64, high: U64, keep_rest: bool) -> tuple[U64, U64]:
    """Return what a COMMIT of this amount gives back where it is decided."""
    if keep_rest:
        return ZERO, ZERO
    return subtract(tables.reservations[row, REMAINING], tables.reservations[row, REMAINING + 1], low, high)


@outlined
def commit(tables: Tables, row: I64, low: U64, high: U64, keep_rest: bool) -> bool:
    """Post up to what is left of a reservation; return whether that ended it."""
    back_low, back_high = rest_after(tables, row, low, high, keep_rest)
    settle(tables, row, low, high, back_low, back_high)
    if not is_empty(tables, row):
        return False
    unlist_reservation(tables, row)
    return True


@outlined
def release(tables: Tables, row: I64) -> None:
    """Give back what is left of a reservation, and end it."""
    settle(tables, row, ZERO, ZERO, tables.reservations[row, REMAINING], tables.reservations[row, REMAINING + 1])
    unlist_reservation(tables, row)


@outlined
def obey(
    tables: Tables, row: I64, low: U64, high: U64, back_low: U64, back_high: U64, how: U64, keep_rest: bool
) -> bool:
    """Let a reservation that another group decides follow that group's word; return whether that ended it.

    Such words may come in any order, so that it may be done and still have something reserved for an earlier one.
    """
    settle(tables, row, low, high, back_low, back_high)
    empty = is_empty(tables, row)
    ends = bool(tables.reservations[row, OPEN] == ONE and (empty or not keep_rest))
    if ends:
        tables.reservations[row, OPEN] = ONE + how
    if empty:
        unlist_reservation(tables, row)
    return ends


@helper
def _write_expiry(tables: Tables, rows: Words, at: I64, row: I64, timestamp_ns: U64) -> None:
    reservation = tables.reservations[row]
    for word in range(8):
        rows[at, word] = reservation[word]
    rows[at, 8], rows[at, 9] = reservation[0], reservation[1]
    rows[at, 10], rows[at, 11], rows[at, 12] = ZERO, ZERO, ZERO
    rows[at, 13] = timestamp_ns
    rows[at, 14] = reservation[LEDGER] & M32
    rows[at, 15] = _EXPIRED_META


@entry((TABLES_TYPE, WORDS_TYPE, U64_NUMBER, U64_NUMBER))
def expire_due(tables: Tables, rows: Words, record_time_ns: U64, first_timestamp_ns: U64) -> I64:
    """Expire what is due at the record's time, in order of deadline, then position; return the EXPIRE rows written.

    At most as many as `rows` has room for; the first gets `first_timestamp_ns`, each later one a nanosecond more.
    """
    written = 0
    while written < len(rows) and tables.counters[DEADLINE_COUNT] != ZERO:
        if not is_stale(tables, np.int64(0)):
            if tables.deadlines[0, 0] > record_time_ns:
                break
            row = np.int64(tables.deadlines[0, 2])
            _write_expiry(tables, rows, written, row, first_timestamp_ns + np.uint64(written))
            release(tables, row)
            written += 1
        pop_deadline(tables)
    return written


@helper
def mark_ended(work: Work, stored: I64, how: np.uint8) -> None:
    """Note, beside the stored RESERVE, how its reservation ended."""
    known = len(work.known_rows)
    if stored < known:
        work.known_ended[stored] = how
    else:
        work.ended[stored - known] = how
