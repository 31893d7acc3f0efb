"""Hash tables from a 16-byte id to a row: open addressing, linear probing, seeded.

An entry is one u64: the upper half of the id's hash, then row + 1 in the lower half; 0 is empty. The fingerprint spares
a look at the row for all but one in 2^32 of the neighbours that a probe passes.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.arrays import (
    ELSEWHERE,
    HASH_SEED,
    I64_NUMBER,
    I64_TYPE,
    TABLES_TYPE,
    U64_NUMBER,
    U64_TYPE,
    UNKNOWN,
    WORDS_TYPE,
    Tables,
    U64Array,
)
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO
from engine.core.placement import hash_id
from engine.core.records import AccountFlag, Words

_ROW_MASK: Final = np.uint64(0xFFFFFFFF)
_FINGERPRINT_MASK: Final = np.uint64(0xFFFFFFFF00000000)
_SLOT_SHIFT: Final = np.uint64(52)
_OPEN_WORD: Final = 15
_FLAGS_WORD: Final = 14
_BUCKET: Final = np.uint64(AccountFlag.BUCKET << 16)


@helper
def find_hashed(slots: U64Array, rows: Words, digest: U64, low: U64, high: U64) -> I64:
    """Return the row whose first two words are the id; -1 if there is none."""
    mask = np.uint64(len(slots) - 1)
    slot = digest & mask
    while slots[slot] != ZERO:
        if (slots[slot] ^ digest) & _FINGERPRINT_MASK == ZERO:
            row = np.int64((slots[slot] & _ROW_MASK) - ONE)
            if rows[row, 0] == low and rows[row, 1] == high:
                return row
        slot = (slot + ONE) & mask
    return np.int64(-1)


@helper
def insert(slots: U64Array, digest: U64, row: I64) -> None:
    """Add a row whose id is not in the table yet."""
    mask = np.uint64(len(slots) - 1)
    slot = digest & mask
    while slots[slot] != ZERO:
        slot = (slot + ONE) & mask
    slots[slot] = (digest & _FINGERPRINT_MASK) | (np.uint64(row) + ONE)


@outlined
def delete(slots: U64Array, rows: Words, row: I64, seed: U64) -> None:
    """Remove `row`, whose id words still stand, and close the gap: no tombstones, so that probes stay short."""
    mask = np.uint64(len(slots) - 1)
    slot = hash_id(rows[row, 0], rows[row, 1], seed) & mask
    while slots[slot] & _ROW_MASK != np.uint64(row) + ONE:
        slot = (slot + ONE) & mask
    gap = slot
    while True:
        slot = (slot + ONE) & mask
        if slots[slot] == ZERO:
            break
        other = np.int64((slots[slot] & _ROW_MASK) - ONE)
        home = hash_id(rows[other, 0], rows[other, 1], seed) & mask
        if (slot - home) & mask >= (slot - gap) & mask:
            slots[gap] = slots[slot]
            gap = slot
    slots[gap] = ZERO


@helper
def find_account(tables: Tables, low: U64, high: U64) -> I64:
    """Return the account's row, `UNKNOWN`, or `ELSEWHERE`: the slot map decides, even if the row is still here, but for
    buckets of split accounts, which every group has.

    The engine's own accounts are unknown to callers.
    """
    digest = hash_id(low, high, tables.counters[HASH_SEED])
    if low == FULL:
        return UNKNOWN
    if not tables.slot_is_ours[digest >> _SLOT_SHIFT]:
        return _find_bucket(tables, digest, low, high)
    row = find_hashed(tables.account_slots, tables.accounts, digest, low, high)
    return row if row >= 0 else UNKNOWN


@outlined
def _find_bucket(tables: Tables, digest: U64, low: U64, high: U64) -> I64:
    row = find_hashed(tables.account_slots, tables.accounts, digest, low, high)
    return row if row >= 0 and tables.accounts[row, _FLAGS_WORD] & _BUCKET != ZERO else ELSEWHERE


@helper
def is_ours(tables: Tables, low: U64, high: U64) -> bool:
    """Whether the slot map gives an account to this group."""
    return bool(tables.slot_is_ours[hash_id(low, high, tables.counters[HASH_SEED]) >> _SLOT_SHIFT])


@helper
def find_home(tables: Tables, low: U64, high: U64) -> I64:
    """As `find_account`, for commands about the account itself, which go to its home alone."""
    row = find_account(tables, low, high)
    return row if row < 0 or is_ours(tables, low, high) else ELSEWHERE


@helper
def find_account_anywhere(tables: Tables, low: U64, high: U64) -> I64:
    """Return the account's row whatever the slot map says now, or `UNKNOWN`."""
    digest = hash_id(low, high, tables.counters[HASH_SEED])
    return find_hashed(tables.account_slots, tables.accounts, digest, low, high)


@helper
def find_reservation(tables: Tables, low: U64, high: U64) -> I64:
    """Return the row of the open reservation with this id; -1 if there is none."""
    digest = hash_id(low, high, tables.counters[HASH_SEED])
    return find_hashed(tables.reservation_slots, tables.reservations, digest, low, high)


@entry((U64_TYPE, WORDS_TYPE, I64_NUMBER, U64_NUMBER))
def index_accounts(slots: U64Array, rows: Words, count: I64, seed: U64) -> None:
    """Fill an empty table with the first `count` account rows."""
    for row in range(count):
        insert(slots, hash_id(rows[row, 0], rows[row, 1], seed), np.int64(row))


@entry((U64_TYPE, WORDS_TYPE, I64_NUMBER, U64_NUMBER))
def index_reservations(slots: U64Array, rows: Words, count: I64, seed: U64) -> None:
    """Fill an empty table with the open ones among the first `count` reservation rows."""
    for row in range(count):
        if rows[row, _OPEN_WORD] != ZERO:
            insert(slots, hash_id(rows[row, 0], rows[row, 1], seed), np.int64(row))


@entry((U64_TYPE, WORDS_TYPE, WORDS_TYPE, U64_NUMBER, I64_TYPE))
def find_rows(slots: U64Array, rows: Words, ids: Words, seed: U64, found: npt.NDArray[np.int64]) -> None:
    """Fill `found`, shape (n,), with the row of each id, -1 where there is none; `ids` has shape (n, 2)."""
    for number in range(len(ids)):
        low, high = ids[number, 0], ids[number, 1]
        found[number] = find_hashed(slots, rows, hash_id(low, high, seed), low, high)


@entry((TABLES_TYPE, WORDS_TYPE, I64_TYPE))
def find_accounts_here(tables: Tables, ids: Words, found: npt.NDArray[np.int64]) -> None:
    """As `find_rows`, for accounts, by the slot map: -1 for those that should be here, -2 for those elsewhere."""
    for number in range(len(ids)):
        found[number] = find_account(tables, ids[number, 0], ids[number, 1])
