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
    keys = _by_account(movements)
    sections = _sections(keys, movements, BOOKED)
    keys = keys[_of_dated_accounts(keys, movements)] if movements.dated.any() else keys[:0]
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
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_DIGIT_BITS: Final = 11
_DIGIT_MASK: Final = np.uint64((1 << _DIGIT_BITS) - 1)
_NO_TIMES: Final = np.empty(0, np.uint64)


def _by_account(movements: Movements) -> U64Array:
    """Return a key for each entry, shape (2n,), in booked order within each account: see `_sections`."""
    count = len(movements.offsets)
    keys, spare = np.empty(2 * count, np.uint64), np.empty(2 * count, np.uint64)
    _make_keys(movements.debited, movements.credited, keys)
    rows = 1 + int(max(movements.debited.max(), movements.credited.max())) if count else 0
    for digit in range(-(-rows.bit_length() // _DIGIT_BITS)):
        _sort_by_digit(keys, np.uint64(32 + digit * _DIGIT_BITS), np.zeros(1 << _DIGIT_BITS, np.int64), spare)
        keys, spare = spare, keys
    return keys


@entry("void(u4[::1], u4[::1], u8[::1])")
def _make_keys(debited: U32Array, credited: U32Array, keys: U64Array) -> None:
    for number in range(len(debited)):
        low = np.uint64(number) << _ONE
        keys[2 * number] = (np.uint64(credited[number]) << _HALF_BITS) | low
        keys[2 * number + 1] = (np.uint64(debited[number]) << _HALF_BITS) | low | _ONE


@entry("void(u8[::1], u8, i8[::1], u8[::1])")
def _sort_by_digit(keys: U64Array, shift: np.uint64, starts: npt.NDArray[np.int64], out: U64Array) -> None:
    """Copy the keys in order of the digit at `shift`, equal ones as they came. `starts`: zeros."""
    for number in range(len(keys)):
        starts[(keys[number] >> shift) & _DIGIT_MASK] += 1
    start = 0
    for digit in range(len(starts)):
        count = starts[digit]
        starts[digit] = start
        start += count
    for number in range(len(keys)):
        digit = (keys[number] >> shift) & _DIGIT_MASK
        out[starts[digit]] = keys[number]
        starts[digit] += 1


def _of_dated_accounts(keys: U64Array, movements: Movements) -> npt.NDArray[np.bool_]:
    dated = np.zeros(int(keys[-1] >> _HALF_BITS) + 1, np.bool_)
    dated[movements.debited[movements.dated]] = True
    dated[movements.credited[movements.dated]] = True
    found: npt.NDArray[np.bool_] = dated[(keys >> _HALF_BITS).astype(np.int64)]
    return found


def _movement_of(keys: U64Array) -> npt.NDArray[np.int64]:
    return ((keys & _HALF) >> _ONE).astype(np.int64)


def _sections(keys: U64Array, movements: Movements, order: int) -> Sections:
    """Make the six sections of entries that are in order; a key is account << 32 | movement << 1 | debited."""
    accounts, starts = np.empty(len(keys), np.uint32), np.empty(len(keys) + 1, np.uint32)
    entries = np.empty(len(keys), np.uint32)
    found = _list_entries(keys, movements.offsets, accounts, starts, entries)
    accounts, starts = accounts[:found].copy(), starts[: found + 1].copy()
    lengths = np.diff(starts)
    summed = np.flatnonzero(lengths >= SUMMED_ENTRIES_MIN)
    counts = -(-lengths[summed].astype(np.int64) // ENTRIES_PER_SUM)
    sum_starts = np.concatenate(([0], np.cumsum(counts))).astype(np.uint32)
    sums = np.zeros((int(sum_starts[-1]), 4), np.uint64)
    _add_up(keys, movements.amounts, starts, summed, sum_starts, sums)
    return {
        Section(Section.ACCOUNTS + order): accounts,
        Section(Section.STARTS + order): starts,
        Section(Section.ENTRIES + order): entries,
        Section(Section.SUM_ACCOUNTS + order): accounts[summed],
        Section(Section.SUM_STARTS + order): sum_starts,
        Section(Section.SUMS + order): sums.reshape(-1),
    }


@entry("i8(u8[::1], u4[::1], u4[::1], u4[::1], u4[::1])")
def _list_entries(keys: U64Array, offsets: U32Array, accounts: U32Array, starts: U32Array, entries: U32Array) -> int:
    """Write the entries, and for each account its number and its first entry; return how many accounts there are."""
    count = 0
    for at in range(len(keys)):
        account = np.uint32(keys[at] >> _HALF_BITS)
        if count == 0 or accounts[count - 1] != account:
            accounts[count], starts[count] = account, np.uint32(at)
            count += 1
        low = keys[at] & _HALF
        entries[at] = np.uint32((np.uint64(offsets[np.int64(low >> _ONE)]) << _ONE) | (low & _ONE))
    starts[count] = np.uint32(len(keys))
    return count


@helper
def add_to(total: U64Array, side: int, low: np.uint64, high: np.uint64) -> None:
    """Add an amount to the debits (side 0) or credits (1) of `total`, shape (4,)."""
    at = 2 * side
    total[at] += low
    carry = np.uint64(1) if total[at] < low else np.uint64(0)
    total[at + 1] += high + carry


@entry("void(u8[::1], u8[:, ::1], u4[::1], i8[::1], u4[::1], u8[:, ::1])")
def _add_up(
    keys: U64Array,
    amounts: Words,
    starts: U32Array,
    summed: npt.NDArray[np.int64],
    sum_starts: U32Array,
    sums: Words,
) -> None:
    for number in range(len(summed)):
        start, end = np.int64(starts[summed[number]]), np.int64(starts[summed[number] + 1])
        debits_low = debits_high = credits_low = credits_high = _ZERO
        for at in range(start, end):
            movement = np.int64((keys[at] & _HALF) >> _ONE)
            debited = _ZERO - (keys[at] & _ONE)  # a mask: which side it is cannot be guessed, so nothing branches
            low, high = amounts[movement, 0], amounts[movement, 1]
            debits_low += low & debited
            debits_high += (high & debited) + np.uint64(debits_low < low & debited)
            credits_low += low & ~debited
            credits_high += (high & ~debited) + np.uint64(credits_low < low & ~debited)
            done = at + 1 - start
            if done % ENTRIES_PER_SUM == 0 or at + 1 == end:
                total = sums[sum_starts[number] + (done - 1) // ENTRIES_PER_SUM]
                total[0], total[1], total[2], total[3] = debits_low, debits_high, credits_low, credits_high
