"""Open chains in the compiled kernel: secured by this group, waiting for their decider's word (`engine.core.book`)."""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from engine.core.chains.word import Step
from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.accounts import M32, SHIFT_32
from engine.core.kernel.arrays import (
    CHAIN_COUNT,
    CHAIN_FREE_COUNT,
    CHAIN_HIGH,
    HASH_SEED,
    TABLES_TYPE,
    WORDS_TYPE,
    Tables,
    Work,
)
from engine.core.kernel.stored import flags_of, kind_of
from engine.core.kernel.tables import delete, find_hashed, insert
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO
from engine.core.placement import hash_id
from engine.core.records import Flag, Kind, Words

DIGEST: Final = 2
SECURED: Final = 4
POSITION: Final = 6
_PLAN: Final = 7
_DEADLINE: Final = 8
_TIMESTAMP: Final = 9
ACCOUNTS: Final = 10
BODY: Final = 11
_OPEN: Final = 15

# Words of `step_record.STEP`.
STEP_DIGEST: Final = 2
STEP_TIME: Final = 4
STEP_ROWS: Final = 5
STEP_META: Final = 6
_M16: Final = np.uint64(0xFFFF)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_48: Final = np.uint64(48)
_LEG: Final = np.uint64(0x1FFF << 48)
_POST: Final = np.uint64(Kind.POST)
_BALANCING: Final = np.uint64(Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
_COMMIT: Final = np.uint64(Step.COMMIT)
_RELEASE: Final = np.uint64(Step.RELEASE)


@helper
def first_row_of(steps: Words, number: I64) -> I64:
    """Return the first row of a step."""
    return np.int64(steps[number, STEP_ROWS] & np.uint64(0xFFFFFFFF))


@helper
def row_count_of(steps: Words, number: I64) -> I64:
    """Return how many rows a step carries."""
    return np.int64((steps[number, STEP_ROWS] >> SHIFT_32) & _M16)


@helper
def decider_of(steps: Words, number: I64) -> U64:
    """Return the group that decides a step's chain."""
    return steps[number, STEP_ROWS] >> _SHIFT_48


@helper
def reason_of(steps: Words, number: I64) -> U64:
    """Return the reason of an ABORT."""
    return steps[number, STEP_META] & _M16


@helper
def step_leg_of(steps: Words, number: I64) -> I64:
    """Return the leg that an ABORT or EXPIRE is about."""
    return np.int64((steps[number, STEP_META] >> _SHIFT_16) & _M16)


@helper
def legs_of(steps: Words, number: I64) -> U64:
    """Return how many legs a step's whole chain has."""
    return (steps[number, STEP_META] >> SHIFT_32) & _M16


@helper
def step_of(steps: Words, number: I64) -> U64:
    """Return the `Step`."""
    return (steps[number, STEP_META] >> _SHIFT_48) & np.uint64(0xFF)


@helper
def find_chain(tables: Tables, low: U64, high: U64) -> I64:
    """Return the row of the open chain with this id; -1 if there is none."""
    digest = hash_id(low, high, tables.counters[HASH_SEED])
    return find_hashed(tables.chain_slots, tables.chains, digest, low, high)


@helper
def is_chain(tables: Tables, row: I64, steps: Words, number: I64) -> bool:
    """Whether an open chain stands in this row, and has the id of a step's."""
    chain = tables.chains[row]
    differs = (chain[0] ^ steps[number, 0]) | (chain[1] ^ steps[number, 1])
    return bool(differs == ZERO and chain[_OPEN] != ZERO)


@helper
def is_of_digest(tables: Tables, row: I64, steps: Words, number: I64) -> bool:
    """Whether an open chain is just the one that a step is for."""
    chain = tables.chains[row]
    differs = (chain[DIGEST] ^ steps[number, STEP_DIGEST]) | (chain[DIGEST + 1] ^ steps[number, STEP_DIGEST + 1])
    return bool(differs == ZERO)


@helper
def _fold(hashed: U64, low: U64, high: U64) -> U64:
    return hash_id(low, high, hashed)


@helper
def body_of(tables: Tables, work: Work, i: I64) -> U64:
    """Return a hash, never zero, of a POST as it was sent, with its sides and the number of its leg: of all that must
    be the same in each step of a chain of one leg."""
    row = work.batch[i]
    hashed = _fold(tables.counters[HASH_SEED], row[0], row[1])
    hashed = _fold(hashed, row[2], row[3])
    hashed = _fold(hashed, row[4], row[5])
    hashed = _fold(hashed, work.asked[i, 0], work.asked[i, 1])
    hashed = _fold(hashed, row[8], row[9])
    hashed = _fold(hashed, row[10], row[11])
    hashed = _fold(hashed, row[12], row[14])
    sides = np.uint64(work.sides[i, 0]) | (np.uint64(work.sides[i, 1]) << _SHIFT_16)
    hashed = _fold(hashed, row[15] & (M32 | _LEG), sides)
    return hashed if hashed != ZERO else ONE


@helper
def body_kept(tables: Tables, work: Work, i: I64) -> U64:
    """Return what an open chain keeps of its only leg, to know it again: zero of any but POSTs of a given amount.

    Rolled forward from a journal row, which has the amount that moved, it must be the same.
    """
    meta = work.batch[i, 15]
    if kind_of(meta) != _POST or flags_of(meta) & _BALANCING != ZERO:
        return ZERO
    return body_of(tables, work, i)


@outlined
def open_chain(
    tables: Tables,
    steps: Words,
    number: I64,
    low: U64,
    high: U64,
    accounts: U64,
    body: U64,
    timestamp_ns: U64,
    position: U64,
) -> None:
    """Add the chain that a RESERVE secured; low, high, accounts, body: of a chain of one leg, what and whose."""
    counters = tables.counters
    if counters[CHAIN_FREE_COUNT] != ZERO:
        counters[CHAIN_FREE_COUNT] -= ONE
        row = np.int64(tables.free_chains[counters[CHAIN_FREE_COUNT]])
    else:
        row = np.int64(counters[CHAIN_HIGH])
        counters[CHAIN_HIGH] += ONE
    chain = tables.chains[row]
    for word in range(4):
        chain[word] = steps[number, word]
    chain[SECURED], chain[SECURED + 1], chain[POSITION] = low, high, position
    chain[_PLAN] = legs_of(steps, number) | (decider_of(steps, number) << _SHIFT_16)
    chain[_DEADLINE], chain[_TIMESTAMP], chain[ACCOUNTS] = steps[number, STEP_TIME], timestamp_ns, accounts
    chain[BODY] = body
    for word in range(BODY + 1, _OPEN):
        chain[word] = ZERO
    chain[_OPEN] = ONE
    insert(tables.chain_slots, hash_id(chain[0], chain[1], counters[HASH_SEED]), row)
    counters[CHAIN_COUNT] += ONE


@outlined
def close_chain(tables: Tables, row: I64) -> None:
    """Remove a chain whose decider's word is obeyed."""
    delete(tables.chain_slots, tables.chains, row, tables.counters[HASH_SEED])
    tables.chains[row, _OPEN] = ZERO
    tables.free_chains[tables.counters[CHAIN_FREE_COUNT]] = np.uint64(row)
    tables.counters[CHAIN_FREE_COUNT] += ONE
    tables.counters[CHAIN_COUNT] -= ONE


@helper
def pack_rows(debit: I64, credit: I64) -> U64:
    """Return two account rows as one word; all ones if this group runs neither side."""
    return np.uint64(debit) | (np.uint64(credit) << SHIFT_32) if debit >= 0 else FULL


@entry((TABLES_TYPE, WORDS_TYPE, WORDS_TYPE, types.Array(types.boolean, 1, "C")))
def know_bodies(tables: Tables, steps: Words, rows: Words, known: npt.NDArray[np.bool_]) -> None:
    """Set `known`, shape (n,), for the rows of COMMITs and RELEASEs of which their open chain keeps the body: whether
    it is theirs, the book alone says. steps: shape (s, 8); rows: shape (n, 16)."""
    for number in range(np.int64(len(steps))):
        step = step_of(steps, number)
        if (step == _COMMIT or step == _RELEASE) and legs_of(steps, number) == ONE:
            chain, first = find_chain(tables, steps[number, 0], steps[number, 1]), first_row_of(steps, number)
            if chain >= 0 and is_of_digest(tables, chain, steps, number) and tables.chains[chain, BODY] != ZERO:
                same = (rows[first, 0] ^ steps[number, 0]) | (rows[first, 1] ^ steps[number, 1]) == ZERO
                known[first] = same and kind_of(rows[first, 15]) == _POST
