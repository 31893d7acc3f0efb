"""A binary heap of (deadline, position, reservation row): what expires next, in one order for all replicas.

Entries of reservations that ended early stay until they are met or swept: a stale one names a row that is free, or that
holds a reservation made at another journal position.
"""

from typing import Final

import numpy as np

from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.arrays import DEADLINE_COUNT, GROUP, I64_NUMBER, TABLES_TYPE, Tables, U64Array
from engine.core.kernel.u128 import I64, ONE, U64, ZERO

_POSITION_WORD: Final = 12
_DEADLINE_WORD: Final = 10
_GROUPS_WORD: Final = 14
_OPEN_WORD: Final = 15
_SHIFT_32: Final = np.uint64(32)
_M16: Final = np.uint64(0xFFFF)


@helper
def _before(heap: U64Array, a: I64, b: I64) -> bool:
    return bool(heap[a, 0] < heap[b, 0] or (heap[a, 0] == heap[b, 0] and heap[a, 1] < heap[b, 1]))


@helper
def _swap(heap: U64Array, a: I64, b: I64) -> None:
    for word in range(3):
        kept = heap[a, word]
        heap[a, word] = heap[b, word]
        heap[b, word] = kept


@outlined
def _sink(heap: U64Array, at: I64, count: I64) -> None:
    while True:
        child = 2 * at + 1
        if child >= count:
            return
        if child + 1 < count and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, at):
            return
        _swap(heap, child, at)
        at = child


@outlined
def push_deadline(tables: Tables, deadline: U64, position: U64, row: I64) -> None:
    """Add one entry; room for it was made before the batch."""
    heap = tables.deadlines
    at = np.int64(tables.counters[DEADLINE_COUNT])
    tables.counters[DEADLINE_COUNT] += ONE
    heap[at, 0], heap[at, 1], heap[at, 2] = deadline, position, np.uint64(row)
    while at > 0 and _before(heap, at, (at - 1) // 2):
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2


@helper
def pop_deadline(tables: Tables) -> None:
    """Remove the first entry."""
    heap = tables.deadlines
    tables.counters[DEADLINE_COUNT] -= ONE
    last = np.int64(tables.counters[DEADLINE_COUNT])
    _swap(heap, np.int64(0), last)
    _sink(heap, np.int64(0), last)


@helper
def is_stale(tables: Tables, at: I64) -> bool:
    """Whether the entry's reservation has ended."""
    row = tables.deadlines[at, 2]
    return bool(
        tables.reservations[row, _OPEN_WORD] == ZERO
        or tables.reservations[row, _POSITION_WORD] != tables.deadlines[at, 1]
        # What was short gave its position back: another reservation may stand at it, in the same row.
        or tables.reservations[row, _DEADLINE_WORD] != tables.deadlines[at, 0]
    )


@entry((TABLES_TYPE,))
def sweep_deadlines(tables: Tables) -> None:
    """Drop the stale entries and order the rest anew."""
    heap, kept = tables.deadlines, np.int64(0)
    for at in range(np.int64(tables.counters[DEADLINE_COUNT])):
        if not is_stale(tables, at):
            heap[kept, 0], heap[kept, 1], heap[kept, 2] = heap[at, 0], heap[at, 1], heap[at, 2]
            kept += 1
    tables.counters[DEADLINE_COUNT] = np.uint64(kept)
    for at in range(kept // 2 - 1, -1, -1):
        _sink(heap, np.int64(at), kept)


@entry((TABLES_TYPE, I64_NUMBER))
def fill_deadlines(tables: Tables, count: I64) -> None:
    """Make the heap from the open ones among the first `count` reservation rows, but those that others decide."""
    tables.counters[DEADLINE_COUNT] = ZERO
    for row in range(count):
        deadline = tables.reservations[row, _DEADLINE_WORD]
        decider = (tables.reservations[row, _GROUPS_WORD] >> _SHIFT_32) & _M16
        decided_here = decider == ZERO or decider == tables.counters[GROUP] + ONE
        if tables.reservations[row, _OPEN_WORD] != ZERO and deadline != ZERO and decided_here:
            push_deadline(tables, deadline, tables.reservations[row, _POSITION_WORD], np.int64(row))
