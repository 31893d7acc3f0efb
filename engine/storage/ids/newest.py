"""The newest entries, in hash tables in memory, until a sorted run is made of them.

A key's home slot is given by its *top* bits and there is no wrap-around, so a table read from end to end is almost
sorted: making a run costs one pass. Used on the apply thread only.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.compiled import copy_row, entry, outlined
from engine.storage.ids.entries import WIDTH, Family

NEWEST_ENTRIES: Final = 1 << 17
"""A run is made at the first block that would bring more: 2 MiB of ids."""
_SLACK_SLOTS: Final = 4096
"""Slots behind the last home slot, for the entries that are pushed there."""

_WORDS: Final = "u8[:, ::1]"
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_ENDED: Final = np.uint64(0xFF)


@outlined
def combine(into: npt.NDArray[np.uint64], entry: npt.NDArray[np.uint64]) -> None:
    """Add a `FOLLOWED` entry to another of the same id: sums add up, the greatest `Ended` says how it ended.

    A REVERSE never follows a reservation, nor anything else a POST, so both speak of the same thing.
    """
    low = into[3] + entry[3]
    carry = _ONE if low < entry[3] else _ZERO
    into[3], into[4] = low, into[4] + entry[4] + carry
    ended = max(into[5] & _ENDED, entry[5] & _ENDED)
    into[5] = max(into[5] & ~_ENDED, entry[5] & ~_ENDED) | ended


@outlined
def same_followed(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> bool:
    """Whether two `FOLLOWED` entries are of one id."""
    return bool(a[0] == b[0] and a[1] == b[1] and a[2] == b[2])


@entry(f"i8({_WORDS}, u8, {_WORDS}, i8)")
def _insert(slots: Words, shift: np.uint64, entries: Words, count: int) -> int:
    """Put the first `count` entries into the table; return how many of them took a new slot."""
    width, taken = slots.shape[1], 0
    for number in range(count):
        slot = entries[number, 0] >> shift
        while slots[slot, 0] != _ZERO and not (width > 2 and same_followed(slots[slot], entries[number])):
            slot += _ONE
        if slots[slot, 0] != _ZERO:
            combine(slots[slot], entries[number])
            continue
        copy_row(slots, slot, entries, number)
        taken += 1
    return taken


@entry(f"i8({_WORDS}, u8, u8[::1], u8)")
def _insert_ids(slots: Words, shift: np.uint64, keys: npt.NDArray[np.uint64], first_position: np.uint64) -> int:
    """Put `IDS` entries of consecutive positions into the table, none where a key is 0; return how many."""
    taken = 0
    for number in range(len(keys)):
        key = keys[number]
        if key == _ZERO:
            continue
        slot = key >> shift
        while slots[slot, 0] != _ZERO:
            slot += _ONE
        slots[slot, 0], slots[slot, 1] = key, first_position + np.uint64(number)
        taken += 1
    return taken


@entry(f"i8({_WORDS}, u8, u8[::1], i8[::1], {_WORDS}, i8)")
def _find(
    slots: Words, shift: np.uint64, keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64], found: Words, at: int
) -> int:
    """Write every entry with one of `keys` to `found` from `at` on, and the key's number beside it; return the end.

    Counts on where there is no room: the caller tries again with more.
    """
    for number in range(len(keys)):
        slot = keys[number] >> shift
        while slots[slot, 0] != _ZERO:
            if slots[slot, 0] == keys[number]:
                if at < len(found):
                    numbers[at] = number
                    copy_row(found, at, slots, slot)
                at += 1
            slot += _ONE
    return at


@entry(f"void({_WORDS}, {_WORDS})")
def _extract(slots: Words, entries: Words) -> None:
    """Copy the entries out in order of their keys; `entries` has one row to spare.

    Every slot is copied and the taken ones counted, as the processor cannot guess which are; then insertion sort, as
    almost all entries are in their place.
    """
    width, count = slots.shape[1], 0
    for slot in range(len(slots)):
        copy_row(entries, count, slots, slot)
        count += int(slots[slot, 0] != _ZERO)
    for number in range(1, count):
        at = number
        while at > 0 and entries[at - 1, 0] > entries[at, 0]:
            for word in range(width):
                kept = entries[at, word]
                entries[at, word] = entries[at - 1, word]
                entries[at - 1, word] = kept
            at -= 1


class NewestEntries:
    """One family's newest entries."""

    def __init__(self, family: Family, entries_max: int = NEWEST_ENTRIES) -> None:
        """Have room for `entries_max` entries, a power of two; one block that brings more makes the table grow."""
        self.entries_max = entries_max
        self.count = 0
        self._width = WIDTH[family]
        self._home_slots = 2 * entries_max
        self._slots = self._empty()

    def insert(self, entries: Words, count: int) -> None:
        """Add the first `count` entries, shape (>= count, width)."""
        self._ensure_room(count)
        self.count += _insert(self._slots, self._shift, entries, count)

    def insert_ids(self, keys: npt.NDArray[np.uint64], first_position: int) -> None:
        """Add an `IDS` entry for each key that is not 0, shape (n,): of positions from `first_position` on."""
        self._ensure_room(len(keys))
        self.count += _insert_ids(self._slots, self._shift, keys, np.uint64(first_position))

    def find(self, keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64], found: Words, at: int) -> int:
        """As `find_entries` of the sorted runs, in this table."""
        return int(_find(self._slots, self._shift, keys, numbers, found, at))

    def take(self) -> Words:
        """Return all entries in order, shape (count, width), and begin anew."""
        if not self.count:
            return np.empty((0, self._width), np.uint64)
        entries = self._in_order()
        self._home_slots = 2 * self.entries_max
        if len(self._slots) == self._home_slots + _SLACK_SLOTS:
            self._slots.fill(0)
        else:
            self._slots = self._empty()
        self.count = 0
        return entries

    @property
    def _shift(self) -> np.uint64:
        return np.uint64(64 - (self._home_slots.bit_length() - 1))

    def _empty(self) -> Words:
        return np.zeros((self._home_slots + _SLACK_SLOTS, self._width), np.uint64)

    def _in_order(self) -> Words:
        entries = np.empty((self.count + 1, self._width), np.uint64)
        _extract(self._slots, entries)
        return entries[: self.count]

    def _ensure_room(self, count: int) -> None:
        while (self.count + count) * 4 > self._home_slots * 3:
            self._grow()

    def _grow(self) -> None:
        entries = self._in_order()
        self._home_slots *= 2
        self._slots = self._empty()
        _insert(self._slots, self._shift, entries, len(entries))
