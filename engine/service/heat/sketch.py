"""A bounded sketch of the accounts that occur most in a group's journal rows: heavy hitters (DESIGN §8).

The summary of Misra and Gries with the purge of Anderson et al. (2017, "A High-Performance Algorithm for Identifying
Frequent Items in Data Streams"): a table of at most `COUNTERS_MAX` accounts; when it is full, the median weight is
taken off every weight, and what falls to zero is forgotten. After n entries no account has lost more than
2n / `COUNTERS_MAX` of its own, so every account with a larger share is there.

Memory is 128 KiB and time some 10 us a log record at most, whatever is counted: of a record with more than
`ROWS_COUNTED_MAX` rows one in several is counted, for all of them. Which one is mixed anew for each, so that no rhythm
of the rows is met; equal rows give equal sketches all the same. The loop is compiled; it allocates nothing.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.word import Step
from engine.core.compiled import cache_folder, entries_kept_in, helper, outlined
from engine.core.kernel.tables import find_hashed, insert
from engine.core.kernel.u128 import I64, ONE, U64, ZERO
from engine.core.placement import hash_id
from engine.core.records import Kind, Words

COUNTERS_MAX: Final = 1536
SLOTS: Final = 4096
"""Entries of the hash table over the counters; it stays less than half full."""

ROWS_COUNTED_MAX: Final = 128
"""Of one log record."""

COUNTER_WORDS: Final = 8
_WEIGHT: Final = 2
_DEBITS: Final = 3
_CREDITS: Final = 4
_CROSSING: Final = 5
"""Words of a counter: 0,1 the account's id; its weight; its debits, its credits, and how many of both were legs with an
account of another group, since it was counted last."""

_COUNT: Final = 0
_OFFSET: Final = 1
_TRANSFERS: Final = 2
_CROSSED: Final = 3
_MIXED: Final = 4
TOTALS: Final = 5
"""Words of the totals: counters in use; what purges took off; transfers counted; those that crossed groups; blocks of
rows of which one was counted."""
_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT_32: Final = np.uint64(32)

_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)
_STEP_SHIFT: Final = np.uint64(61)
_SLOT_SHIFT: Final = np.uint64(52)
_POST: Final = np.uint64(Kind.POST)
_REVERSE: Final = np.uint64(Kind.REVERSE)
_STEP_NONE: Final = np.uint64(Step.NONE)
_STEP_FIRST_MAX: Final = np.uint64(Step.DECIDE)
"""RESERVE and DECIDE store a transfer first; later steps store it again."""

_HERE: Final = Path(__file__).parent
_KERNEL: Final = _HERE.parents[1] / "core" / "kernel"
_entry: Final = entries_kept_in(
    cache_folder(_HERE, [_KERNEL / "tables.py", _KERNEL / "arrays.py", _KERNEL / "u128.py", Path(__file__)])
)


class Counted(NamedTuple):
    """One account of a sketch."""

    account: bytes
    """16 bytes."""
    debits: int
    credits: int
    crossing: int
    """Of both, those with an account of another group."""
    missed_max: int
    """How many more entries it may have had."""

    @property
    def entries(self) -> int:
        """Debits and credits."""
        return self.debits + self.credits


@outlined
def _purge(counters: Words, slots: npt.NDArray[np.uint64], totals: npt.NDArray[np.uint64], seed: U64) -> None:
    """Take the median weight off all weights; forget what falls to zero, and index the rest anew."""
    count = np.int64(totals[_COUNT])
    median = _median(counters, count)
    totals[_OFFSET] += median
    for slot in range(len(slots)):
        slots[slot] = ZERO
    kept = np.int64(0)
    for row in range(count):
        if counters[row, _WEIGHT] > median:
            counters[row, _WEIGHT] -= median
            for word in range(COUNTER_WORDS):
                counters[kept, word] = counters[row, word]
            insert(slots, hash_id(counters[kept, 0], counters[kept, 1], seed), kept)
            kept += 1
    totals[_COUNT] = np.uint64(kept)


@helper
def _median(counters: Words, count: I64) -> U64:
    """Return the smallest weight that at least half of the counters do not exceed: found by halving its range."""
    low, high = ONE, ONE
    for row in range(count):
        high = max(high, counters[row, _WEIGHT])
    while low < high:
        middle = low + ((high - low) >> ONE)
        below = np.int64(0)
        for row in range(count):
            if counters[row, _WEIGHT] <= middle:
                below += 1
        if 2 * below >= count:
            high = middle
        else:
            low = middle + ONE
    return low


@helper
def _bump(
    counters: Words,
    slots: npt.NDArray[np.uint64],
    totals: npt.NDArray[np.uint64],
    digest: U64,
    low: U64,
    high: U64,
    side: I64,
    crossing: U64,
    stands_for: U64,
    seed: U64,
) -> None:
    """Count one entry of one account, as so many."""
    row = find_hashed(slots, counters, digest, low, high)
    if row < 0:
        if totals[_COUNT] == np.uint64(len(counters)):
            _purge(counters, slots, totals, seed)
        row = np.int64(totals[_COUNT])
        totals[_COUNT] += ONE
        counters[row, 0], counters[row, 1] = low, high
        for word in range(_WEIGHT, COUNTER_WORDS):
            counters[row, word] = ZERO
        insert(slots, digest, row)
    counters[row, _WEIGHT] += stands_for
    counters[row, side] += stands_for
    counters[row, _CROSSING] += crossing


@helper
def _mixed(totals: npt.NDArray[np.uint64]) -> U64:
    """Return the next of a fixed sequence of mixed numbers below 2^32."""
    totals[_MIXED] += ONE
    mixed = totals[_MIXED] * _MIX_1
    mixed ^= mixed >> _SHIFT_32
    mixed *= _MIX_2
    return mixed >> _SHIFT_32


@_entry("void(u8[:, ::1], b1[::1], u8, u8[:, ::1], u8[::1], u8[::1])")
def _note(
    rows: Words,
    slot_is_ours: npt.NDArray[np.bool_],
    seed: U64,
    counters: Words,
    slots: npt.NDArray[np.uint64],
    totals: npt.NDArray[np.uint64],
) -> None:
    """Count the accounts of this group in the rows that store a transfer for the first time."""
    stands_for = np.uint64(max(1, (len(rows) + ROWS_COUNTED_MAX - 1) // ROWS_COUNTED_MAX))
    for first in range(0, len(rows), np.int64(stands_for)):
        at = first + np.int64((_mixed(totals) * stands_for) >> _SHIFT_32)
        if at >= len(rows):
            continue
        kind = (rows[at, 15] >> _KIND_SHIFT) & _BYTE
        step = rows[at, 15] >> _STEP_SHIFT
        if kind < _POST or kind > _REVERSE or step > _STEP_FIRST_MAX:
            continue
        debit = hash_id(rows[at, 2], rows[at, 3], seed)
        credit = hash_id(rows[at, 4], rows[at, 5], seed)
        debit_here, credit_here = slot_is_ours[debit >> _SLOT_SHIFT], slot_is_ours[credit >> _SLOT_SHIFT]
        crossing = stands_for if debit_here != credit_here else ZERO
        totals[_TRANSFERS] += stands_for
        totals[_CROSSED] += crossing
        if debit_here:
            low, high = rows[at, 2], rows[at, 3]
            _bump(counters, slots, totals, debit, low, high, _DEBITS, crossing, stands_for, seed)
        if credit_here:
            low, high = rows[at, 4], rows[at, 5]
            _bump(counters, slots, totals, credit, low, high, _CREDITS, crossing, stands_for, seed)


class Sketch:
    """What was counted since the last `clear`. One thread at a time."""

    def __init__(self, counters_max: int = COUNTERS_MAX) -> None:
        """Take all its memory at once."""
        self._counters = np.zeros((counters_max, COUNTER_WORDS), np.uint64)
        self._slots = np.zeros(SLOTS, np.uint64)
        self._totals = np.zeros(TOTALS, np.uint64)

    @property
    def nbytes(self) -> int:
        """Its memory."""
        return self._counters.nbytes + self._slots.nbytes + self._totals.nbytes

    @property
    def transfers(self) -> int:
        """Transfers counted."""
        return int(self._totals[_TRANSFERS])

    @property
    def crossing(self) -> int:
        """Of those, the ones between an account of this group and one of another."""
        return int(self._totals[_CROSSED])

    def note(self, rows: Words, slot_is_ours: npt.NDArray[np.bool_], seed: int) -> None:
        """Count journal rows, shape (n, 16), whatever their outcome: a refusal is work, too.

        `slot_is_ours`, shape (4096,), says which accounts are this group's, by the cluster's hash seed.
        """
        _note(rows, slot_is_ours, np.uint64(seed), self._counters, self._slots, self._totals)

    def top(self, accounts_max: int) -> tuple[Counted, ...]:
        """Return the accounts with most entries, most first; those with equal entries by id."""
        used, offset = self._counters[: int(self._totals[_COUNT])], int(self._totals[_OFFSET])
        entries = used[:, _DEBITS] + used[:, _CREDITS]
        order = np.lexsort((used[:, 1], used[:, 0], ~entries))[:accounts_max]
        return tuple(_counted(used[row], offset) for row in order)

    def clear(self) -> None:
        """Forget everything."""
        self._slots[:] = 0
        self._totals[:] = 0


def _counted(counter: npt.NDArray[np.uint64], offset: int) -> Counted:
    weight, debits, credits, crossing = (int(counter[word]) for word in (_WEIGHT, _DEBITS, _CREDITS, _CROSSING))
    # What the last purges took off its weight is known to be its own; the rest of the offset may be what was forgotten.
    missed_max = weight + offset - (debits + credits)
    return Counted(counter[:2].tobytes(), debits, credits, crossing, missed_max)
