"""Sorted runs: immutable, ordered arrays of entries in parts of bounded size, searched where they lie.

A part is one LMDB value, so that no single write stalls the hot path. Keys are hashes, evenly spread, so a search
guesses where its key lies (interpolation) and mostly looks at one or two cache lines of a part.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.mapped import MappedWords, words_at

PART_BYTES: Final = 512 << 10

_U64: Final = "u8[::1]"
_I64: Final = "i8[::1]"
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


@numba.njit("i8(u8[::1], i8, i8, u8)", cache=True, nogil=True)
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


@numba.njit("i8(u8[:, ::1], u8)", cache=True, nogil=True)
def _lower_bound(words: Words, key: np.uint64) -> int:
    """Return the first entry whose key is not below `key`."""
    low, high = 0, len(words)  # the answer is in low..high
    guesses = 0
    while high - low > _GUESS_SPAN and guesses < _GUESSES_MAX:
        first, last = words[low, 0], words[high - 1, 0]
        if key <= first:
            return low
        if key > last:
            return high
        share = float(key - first) / (float(last - first) + 1.0)
        guess = low + int(share * (high - 1 - low))
        # Step to both sides of the guess by the spread to expect of it: the span shrinks to its root.
        margin = int(np.sqrt(float(high - low))) + 1
        below, above = max(low, guess - margin), min(high - 1, guess + margin)
        if words[below, 0] >= key:
            high = below
        elif words[above, 0] >= key:
            low, high = below + 1, above
        else:
            low = above + 1
        guesses += 1
    while low < high:
        middle = (low + high) // 2
        if words[middle, 0] < key:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(f"i8({_I64}, {_U64}, {_U64}, {_I64}, {_U64}, {_I64}, u8[:, ::1], i8)", cache=True, nogil=True)
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
                words = words_at(addresses[part], entries[part], width)
                if entry < 0:
                    entry = _lower_bound(words, keys[number])
                while entry < len(words) and words[entry, 0] == keys[number]:
                    if at < len(found):
                        numbers[at] = number
                        found[at] = words[entry]
                    at += 1
                    entry += 1
                if entry < len(words):
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


@numba.njit("u8[::1](u8, i8, i8)", cache=True, nogil=True)
def _keys_at(address: np.uint64, entries: int, width: int) -> npt.NDArray[np.uint64]:
    return words_at(address, entries, width)[:, 0].copy()


def keys_of(runs: Sequence[Run]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the keys of all entries of `IDS` runs, part by part."""
    for run in runs:
        for part in run.parts:
            yield _keys_at(np.uint64(part.address), part.entries, WIDTH[Family.IDS])


def part_entries(family: Family, part_bytes: int = PART_BYTES) -> int:
    """Entries of a full part."""
    return max(1, part_bytes // (8 * WIDTH[family]))
