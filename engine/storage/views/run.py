"""A run: the entries of some 256 thousand journal rows by account, with sums, so that no page adds up from genesis.

An entry is one u32: offset from the run's first position << 1 | 1 if the account was debited. Entries lie by account,
in each account in order: *booked* (by position), and for accounts with a caller's `effective_at` among them once more
in *value* order, with their times. Accounts with 16 entries or more have sums: what their first 256, 512, ... and all
entries of this run debited and credited; a shorter list is added up from the journal."""

from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.compiled import entry, helper
from engine.storage.views.tail import Movements

SUMMED_ENTRIES_MIN: Final = 16
ENTRIES_PER_SUM: Final = 256

U32Array = npt.NDArray[np.uint32]
U64Array = npt.NDArray[np.uint64]


class Section(IntEnum):
    """Parts of a run, each one LMDB value. Format of the views: append members, never renumber."""

    ACCOUNTS = 1
    STARTS = 2
    ENTRIES = 3
    SUM_ACCOUNTS = 4
    SUM_STARTS = 5
    SUMS = 6
    VALUE_ACCOUNTS = 11
    VALUE_STARTS = 12
    VALUE_ENTRIES = 13
    VALUE_SUM_ACCOUNTS = 14
    VALUE_SUM_STARTS = 15
    VALUE_SUMS = 16
    VALUE_TIMES = 17


BOOKED: Final = 0
VALUE: Final = Section.VALUE_ACCOUNTS - Section.ACCOUNTS
"""Added to the first six sections."""

Sections: TypeAlias = dict[Section, npt.NDArray[Any]]
"""u64 words in `SUMS`, `VALUE_SUMS` and `VALUE_TIMES`, u32 in the others."""


class AccountEntries(NamedTuple):
    """One account's entries in one run, c of them, in one order."""

    entries: U32Array
    """Shape (c,)."""
    sums: Words
    """Shape (s, 4): debits and credits (low, high each) of the first 256, 512, ... and of all entries; s may be 0."""
    times: U64Array
    """Shape (c,): value times, ascending; empty in booked order."""


def build_run(movements: Movements) -> Sections:
    """Lay out the entries of n movements."""
    count = len(movements.offsets)
    numbers = np.arange(count, dtype=np.uint64) << np.uint64(1)
    keys = np.empty(2 * count, np.uint64)
    keys[0::2] = (movements.debited.astype(np.uint64) << _HALF_BITS) | numbers | _ONE
    keys[1::2] = (movements.credited.astype(np.uint64) << _HALF_BITS) | numbers
    keys.sort()
    sections = _sections(keys, movements, BOOKED)
    dated = np.zeros(int(keys[-1] >> _HALF_BITS) + 1 if count else 0, np.bool_)
    dated[movements.debited[movements.dated]] = True
    dated[movements.credited[movements.dated]] = True
    keys = keys[dated[(keys >> _HALF_BITS).astype(np.int64)]]
    times = movements.value_ns[_movement_of(keys)]
    order = np.lexsort((times, keys >> _HALF_BITS))  # stable: the same time stays in the order of the journal
    sections |= _sections(keys[order], movements, VALUE)
    sections[Section.VALUE_TIMES] = times[order]
    return sections


def entries_of(sections: Sections, account: int, order: int) -> AccountEntries:
    """Find one account's entries, as views; in value order only where it has a list of its own there."""
    start, end = _range_of(sections, Section.ACCOUNTS + order, account)
    first, last = _range_of(sections, Section.SUM_ACCOUNTS + order, account)
    times = sections[Section.VALUE_TIMES][start:end] if order == VALUE else _NO_TIMES
    sums = sections[Section(Section.SUMS + order)].reshape(-1, 4)[first:last]
    return AccountEntries(sections[Section(Section.ENTRIES + order)][start:end], sums, times)


def _range_of(sections: Sections, accounts_section: int, account: int) -> tuple[int, int]:
    accounts, starts = sections[Section(accounts_section)], sections[Section(accounts_section + 1)]
    at = int(np.searchsorted(accounts, np.uint32(account)))
    if at == len(accounts) or accounts[at] != account:
        return 0, 0
    return int(starts[at]), int(starts[at + 1])


_HALF_BITS: Final = np.uint64(32)
_HALF: Final = np.uint64(0xFFFFFFFF)
_ONE: Final = np.uint64(1)
_NO_TIMES: Final = np.empty(0, np.uint64)


def _movement_of(keys: U64Array) -> npt.NDArray[np.int64]:
    return ((keys & _HALF) >> _ONE).astype(np.int64)


def _sections(keys: U64Array, movements: Movements, order: int) -> Sections:
    """Make the six sections of entries that are in order; a key is account << 32 | movement << 1 | debited."""
    of_account = keys >> _HALF_BITS  # one account's keys are neighbours: no need to sort again
    first = np.flatnonzero(np.concatenate((np.ones(min(1, len(keys)), np.bool_), of_account[1:] != of_account[:-1])))
    accounts, starts = of_account[first], np.append(first, len(keys)).astype(np.uint32)
    offsets = movements.offsets[_movement_of(keys)]
    summed = np.flatnonzero(np.diff(starts.astype(np.int64)) >= SUMMED_ENTRIES_MIN)
    counts = -(-np.diff(starts.astype(np.int64))[summed] // ENTRIES_PER_SUM)
    sum_starts = np.concatenate(([0], np.cumsum(counts))).astype(np.uint32)
    sums = np.zeros((int(sum_starts[-1]), 4), np.uint64)
    _add_up(keys, movements.amounts, starts, summed, sum_starts, sums, np.zeros(4, np.uint64))
    return {
        Section(Section.ACCOUNTS + order): accounts.astype(np.uint32),
        Section(Section.STARTS + order): starts,
        Section(Section.ENTRIES + order): (offsets << np.uint32(1)) | (keys & _ONE).astype(np.uint32),
        Section(Section.SUM_ACCOUNTS + order): accounts[summed].astype(np.uint32),
        Section(Section.SUM_STARTS + order): sum_starts,
        Section(Section.SUMS + order): sums.reshape(-1),
    }


@helper
def add_to(total: U64Array, side: int, low: np.uint64, high: np.uint64) -> None:
    """Add an amount to the debits (side 0) or credits (1) of `total`, shape (4,)."""
    at = 2 * side
    total[at] += low
    carry = np.uint64(1) if total[at] < low else np.uint64(0)
    total[at + 1] += high + carry


@entry("void(u8[::1], u8[:, ::1], u4[::1], i8[::1], u4[::1], u8[:, ::1], u8[::1])")
def _add_up(
    keys: U64Array,
    amounts: Words,
    starts: U32Array,
    summed: npt.NDArray[np.int64],
    sum_starts: U32Array,
    sums: Words,
    total: U64Array,
) -> None:
    for number in range(len(summed)):
        for word in range(4):
            total[word] = np.uint64(0)
        start, end = starts[summed[number]], starts[summed[number] + 1]
        for at in range(start, end):
            movement = np.int64((keys[at] & _HALF) >> _ONE)
            side = 0 if keys[at] & _ONE == _ONE else 1
            add_to(total, side, amounts[movement, 0], amounts[movement, 1])
            done = at + 1 - start
            if done % ENTRIES_PER_SUM == 0 or at + 1 == end:
                for word in range(4):
                    sums[sum_starts[number] + (done - 1) // ENTRIES_PER_SUM, word] = total[word]
