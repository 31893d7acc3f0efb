"""Which ids were surely never seen: a blocked Bloom filter in memory, two bytes an id, grown by segments that double.

A key's block is one cache line of 512 bits, in which it sets one bit of each 64-bit word (a "split block" filter, as in
Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007): one cache miss per segment and key. At
32 keys a block, 0.1 % of the strangers to a full segment pass. The filter is rebuilt from the id runs at a start.
"""

import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.storage.compiled import entry

KEYS_PER_BLOCK: Final = 32
FIRST_SEGMENT_KEYS: Final = 1 << 22
"""Eight MiB, resident after the first few thousand ids. Five segments then hold 130 million ids."""

_WORDS: Final = 8
_MIX: Final = np.uint64(0x9FB21C651E98DF25)
_SHIFT_32: Final = np.uint64(32)
_BITS: Final = np.uint64(6)
_BIT_MASK: Final = np.uint64(63)
_FIRST_BITS: Final = np.uint64(16)
_ONE: Final = np.uint64(1)
_NONE: Final = np.uint64(0)
_NEVER: Final = np.uint64(0x5DEECE66D1CE4E5B)
_AHEAD: Final = 32
_WORD_BYTES: Final = 8
_HUGE_PAGE_BYTES: Final = 2 << 20

_SEGMENT: Final = "u8[:, ::1]"
_KEYS: Final = "u8[::1]"


@entry(f"void({_SEGMENT}, {_KEYS})")
def _insert(segment: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> None:
    blocks = np.uint64(len(segment))
    touched = _NONE
    for start in range(0, len(keys), _AHEAD):
        end = min(start + _AHEAD, len(keys))
        for number in range(start, end):  # as in `_probe`
            touched |= segment[((keys[number] >> _SHIFT_32) * blocks) >> _SHIFT_32, 0]
        for number in range(start, end):
            key = keys[number]
            block = ((key >> _SHIFT_32) * blocks) >> _SHIFT_32
            bits = (key * _MIX) >> _FIRST_BITS
            for word in range(_WORDS):
                segment[block, word] |= _ONE << (bits & _BIT_MASK)
                bits >>= _BITS
    if touched == _NEVER:  # a stray bit is harmless too
        segment[0, 0] |= _ONE


@entry(f"void({_SEGMENT}, {_KEYS}, b1[::1])")
def _probe(segment: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], maybe: npt.NDArray[np.bool_]) -> None:
    blocks = np.uint64(len(segment))
    touched = _NONE
    for start in range(0, len(keys), _AHEAD):
        end = min(start + _AHEAD, len(keys))
        # Touch the cache lines first: loads that nothing waits for overlap, so a probe costs half as much.
        for number in range(start, end):
            touched |= segment[((keys[number] >> _SHIFT_32) * blocks) >> _SHIFT_32, 0]
        for number in range(start, end):
            key = keys[number]
            block = ((key >> _SHIFT_32) * blocks) >> _SHIFT_32
            bits = (key * _MIX) >> _FIRST_BITS
            missing = _NONE
            for word in range(_WORDS):
                missing |= ~(segment[block, word] >> (bits & _BIT_MASK)) & _ONE
                bits >>= _BITS
            maybe[number] |= (missing == _NONE) & (key != _NONE)
    if touched == _NEVER:  # keeps the compiler from dropping the loads; a stray `maybe` is harmless
        maybe[0] = True


@entry(f"i8({_SEGMENT}, {_KEYS}, b1[::1])")
def _meet(segment: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], maybe: npt.NDArray[np.bool_]) -> int:
    """As `_probe`, then insert the keys that were not there, while their blocks are at hand; return how many."""
    blocks = np.uint64(len(segment))
    touched, inserted = _NONE, 0
    for start in range(0, len(keys), _AHEAD):
        end = min(start + _AHEAD, len(keys))
        for number in range(start, end):  # as in `_probe`
            touched |= segment[((keys[number] >> _SHIFT_32) * blocks) >> _SHIFT_32, 0]
        for number in range(start, end):
            key = keys[number]
            if key == _NONE:
                continue
            block = ((key >> _SHIFT_32) * blocks) >> _SHIFT_32
            bits = (key * _MIX) >> _FIRST_BITS
            missing = _NONE
            for word in range(_WORDS):
                bit = _ONE << (bits & _BIT_MASK)
                missing |= ~segment[block, word] & bit
                segment[block, word] |= bit
                bits >>= _BITS
            inserted += int(missing != _NONE and not maybe[number])
            maybe[number] |= missing == _NONE
    if touched == _NEVER:  # as in `_insert`
        segment[0, 0] |= _ONE
    return inserted


class IdFilter:
    """A set of u64 keys (never 0) that forgets nothing and sometimes claims to hold what it does not."""

    def __init__(self, expected_keys: int = 0, first_segment_keys: int = FIRST_SEGMENT_KEYS) -> None:
        """Begin with one segment that has room for `expected_keys` and half as many to come."""
        self._capacity = max(first_segment_keys, expected_keys + expected_keys // 2)
        self._segments = [_new_segment(self._capacity)]
        self._free = self._capacity

    @property
    def segments(self) -> int:
        """How many cache misses a probe costs."""
        return len(self._segments)

    def insert(self, keys: npt.NDArray[np.uint64]) -> None:
        """Add keys, shape (n,)."""
        while len(keys) > self._free:
            _insert(self._segments[-1], keys[: self._free])
            keys = keys[self._free :]
            self._capacity *= 2
            self._segments.append(_new_segment(self._capacity))
            self._free = self._capacity
        _insert(self._segments[-1], keys)
        self._free -= len(keys)

    def maybe(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the indices of those keys, shape (n,), that may have been inserted; the key 0 never was."""
        maybe = np.zeros(len(keys), np.bool_)
        for segment in self._segments:
            _probe(segment, keys, maybe)
        return maybe.nonzero()[0]

    def meet(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return what `maybe` does, and insert the keys in the same pass: those that were there take no room."""
        if len(keys) > self._free:
            found = self.maybe(keys)
            strangers = np.delete(keys, found)
            self.insert(strangers[strangers != _NONE])
            return found
        maybe = np.zeros(len(keys), np.bool_)
        for segment in self._segments[:-1]:
            _probe(segment, keys, maybe)
        self._free -= _meet(self._segments[-1], keys, maybe)
        return maybe.nonzero()[0]


def _new_segment(keys: int) -> npt.NDArray[np.uint64]:
    """Make an empty segment, of huge pages where it fills some: every key is in another page, and a probe that must ask
    the page tables for it, twice on a virtual machine, takes twice as long (docs/decisions/0016)."""
    words = -(-keys // KEYS_PER_BLOCK) * _WORDS
    memory = mmap.mmap(-1, words * _WORD_BYTES + _HUGE_PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE") and words * _WORD_BYTES >= _HUGE_PAGE_BYTES:
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole: npt.NDArray[np.uint64] = np.frombuffer(memory, np.uint64)
    first = -int(whole.ctypes.data) % _HUGE_PAGE_BYTES // _WORD_BYTES
    return whole[first : first + words].reshape(-1, _WORDS)
