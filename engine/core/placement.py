"""Placement: account id -> slot -> group (DESIGN §2). The hash is replicated state's: for ever as it is here."""

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from engine.core.limits import SLOTS

_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT_29: Final = np.uint64(29)
_SHIFT_32: Final = np.uint64(32)
_SLOT_SHIFT: Final = np.uint64(52)

if SLOTS != 1 << (64 - 52):
    raise AssertionError("the slot is the top 12 bits of the hash")


@numba.njit("u8(u8, u8, u8)", inline="always", cache=True)
def hash_id(low: np.uint64, high: np.uint64, seed: np.uint64) -> np.uint64:
    """Hash a 16-byte id, as two little-endian u64 words, under the cluster's seed: a u64, all bits mixed.

    Seeded, because with a known hash crafted ids would make one long chain in every table.
    """
    x = (low ^ seed ^ ((high ^ (seed >> _SHIFT_32)) * _MIX_2)) * _MIX_1
    x ^= x >> _SHIFT_32
    x *= _MIX_2
    x ^= x >> _SHIFT_29
    x *= _MIX_1
    x ^= x >> _SHIFT_32
    return x


@numba.njit("u2[:](u8[:, :], i8, u8)", cache=True, nogil=True)
def slots_of(words: npt.NDArray[np.uint64], first_word: int, seed: np.uint64) -> npt.NDArray[np.uint16]:
    """Return the slot, u16 in [0, 4096), of the id at words[:, first_word:first_word + 2] of each row."""
    slots = np.empty(len(words), np.uint16)
    for row in range(len(words)):
        slots[row] = hash_id(words[row, first_word], words[row, first_word + 1], seed) >> _SLOT_SHIFT
    return slots


def slot_of(account_id: bytes, seed: int) -> int:
    """Return the slot of one 16-byte account id."""
    words = np.frombuffer(account_id, "<u8").reshape(1, 2).copy()
    return int(slots_of(words, 0, np.uint64(seed))[0])
