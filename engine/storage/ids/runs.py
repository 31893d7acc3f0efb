"""Sorted runs: immutable, ordered arrays of entries in parts of bounded size, searched where they lie.

A part is one LMDB value, so that no single write stalls the hot path. Keys are hashes, evenly spread, so a search
guesses where its key lies (interpolation) and mostly looks at one or two cache lines of a part.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.compiled import entry, helper, outlined
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.mapped import MappedWords, word_at

PART_BYTES: Final = 512 << 10

_U64: Final = "u8[::1]"
_I64: Final = "i8[::1]"
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_BITS_16: Final = np.uint64(16)
_BITS_32: Final = np.uint64(32)
_BITS_48: Final = np.uint64(48)
_GUESS_SPAN: Final = 8
_GUESSES_MAX: Final = 6


class Run(NamedTuple):
    """One sorted run."""

    number: int
    """Its number among its family's, for ever; in keys and in the manifest."""
    level: int
    """How often its entries were merged."""
    parts: tuple[MappedWords, ...]

    @property
    def entries(self) -> int:
        """Entries of all parts."""
        return sum(part.entries for part in self.parts)


class Directory(NamedTuple):
    """Where all parts of some runs are, for compiled loops."""

    run_starts: npt.NDArray[np.int64]
    """Shape (runs + 1,): the number of each run's first part; at last, of all parts."""
    first_keys: npt.NDArray[np.uint64]
    addresses: npt.NDArray[np.uint64]
    entries: npt.NDArray[np.int64]


def directory_of(runs: Sequence[Run]) -> Directory:
    """Lay out the parts of `runs` in order."""
    parts = [part for run in runs for part in run.parts]
    return Directory(
        np.cumsum([0, *(len(run.parts) for run in runs)], dtype=np.int64),
        np.array([part.first_key for part in parts], np.uint64),
        np.array([part.address for part in parts], np.uint64),
        np.array([part.entries for part in parts], np.int64),
    )


@helper
def _part_of(first_keys: npt.NDArray[np.uint64], start: int, end: int, key: np.uint64) -> int:
    """Return the first part of start..end that may hold `key`: the last that begins below it, or `start`."""
    low, high = start, end
    while high - low > 1:
        middle = (low + high) // 2
        if first_keys[middle] < key:
            low = middle
        else:
            high = middle
    return low


@helper
def _share_of(span: int, part: np.uint64, whole: np.uint64) -> int:
    """Return about span x part / whole, never above `span`; span is below 2^31."""
    if whole >> _BITS_48 != _ZERO:
        part, whole = part >> _BITS_32, whole >> _BITS_32
    elif whole >> _BITS_32 != _ZERO:
        part, whole = part >> _BITS_16, whole >> _BITS_16
    return int((part * np.uint64(span)) // (whole + _ONE))


@outlined
def _lower_bound(address: np.uint64, width: int, entries: int, key: np.uint64) -> int:
    """Return the first of a part's entries whose key is not below `key`."""
    low, high = 0, entries  # the answer is in low..high
    guesses = 0
    while high - low > _GUESS_SPAN and guesses < _GUESSES_MAX:
        first, last = word_at(address, low * width), word_at(address, (high - 1) * width)
        if key <= first:
            return low
        if key > last:
            return high
        guess = low + _share_of(high - 1 - low, key - first, last - first)
        # Step to both sides of the guess by the spread to expect of it: the span shrinks to its root.
        margin = 1
        while margin * margin < high - low:
            margin *= 2
        below, above = max(low, guess - margin), min(high - 1, guess + margin)
        if word_at(address, below * width) >= key:
            high = below
        elif word_at(address, above * width) >= key:
            low, high = below + 1, above
        else:
            low = above + 1
        guesses += 1
    while low < high:
        middle = (low + high) // 2
        if word_at(address, middle * width) < key:
            low = middle + 1
        else:
            high = middle
    return low


@entry(f"i8({_I64}, {_U64}, {_U64}, {_I64}, {_U64}, {_I64}, u8[:, ::1], i8)")
def _find(
    run_starts: npt.NDArray[np.int64],
    first_keys: npt.NDArray[np.uint64],
    addresses: npt.NDArray[np.uint64],
    entries: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    numbers: npt.NDArray[np.int64],
    found: Words,
    at: int,
) -> int:
    width = found.shape[1]
    for run in range(len(run_starts) - 1):
        end = run_starts[run + 1]
        for number in range(len(keys)):
            part = _part_of(first_keys, run_starts[run], end, keys[number])
            entry = -1
            while part < end:
                address, count = addresses[part], entries[part]
                if entry < 0:
                    entry = _lower_bound(address, width, count, keys[number])
                while entry < count and word_at(address, entry * width) == keys[number]:
                    if at < len(found):
                        numbers[at] = number
                        for word in range(width):
                            found[at, word] = word_at(address, entry * width + word)
                    at += 1
                    entry += 1
                if entry < count:
                    break
                part, entry = part + 1, 0
    return at


def find_entries(
    directory: Directory, keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64], found: Words, at: int
) -> int:
    """Write every entry with one of `keys`, shape (k,), to `found`, shape (r, width), from `at` on, and the key's
    number to `numbers`, shape (r,); return the end. Counts on past r: the caller tries again with more room."""
    if not len(directory.entries):
        return at
    return int(_find(*directory, keys, numbers, found, at))


@entry("void(u8, i8, u8[::1])")
def _copy_keys(address: np.uint64, width: int, keys: npt.NDArray[np.uint64]) -> None:
    for number in range(len(keys)):
        keys[number] = word_at(address, number * width)


def keys_of(runs: Sequence[Run]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the keys of all entries of `IDS` runs, part by part."""
    for run in runs:
        for part in run.parts:
            keys = np.empty(part.entries, np.uint64)
            _copy_keys(np.uint64(part.address), WIDTH[Family.IDS], keys)
            yield keys


def part_entries(family: Family, part_bytes: int = PART_BYTES) -> int:
    """Entries of a full part."""
    return max(1, part_bytes // (8 * WIDTH[family]))
