"""The accounts ever split, as group 0's log has them, and where a batch runs that names some of them (DESIGN §8).

A map is a prefix of one order: a router that has an older one sends some transfers where they went before the split,
and they meet there whatever was logged since. Most clusters have few split accounts, most batches name none: looking
costs a batch some array operations, and nothing at all while no account was ever split.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.core.split.buckets import Placed

_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_FILTER_BITS: Final = 16
_FILTER_SHIFT: Final = np.uint64(64 - _FILTER_BITS)
_NEVER: Final = np.uint64((1 << 64) - 1)
"""The epoch of what was never split: later than all."""
_LINKED: Final = np.uint64(1 << 24)

Sides = npt.NDArray[np.uint16]
"""Shape (n, 2): the groups of each row's debit and credit side."""


class Split(NamedTuple):
    """One account ever split."""

    account: bytes
    """16 bytes."""
    epoch: int
    """The position of its bucket's row in group 0's journal."""


class Routed(NamedTuple):
    """Where a batch runs."""

    sides: Sides
    by_map: npt.NDArray[np.bool_] | None
    """Shape (n,): the rows that run where the map says, on buckets; None if there are none."""


class SplitMap:
    """One prefix of the directory's order; never changes."""

    def __init__(self, splits: Iterable[Split] = ()) -> None:
        """Keep them by ascending epoch."""
        self.splits = tuple(sorted(splits, key=lambda one: one.epoch))
        self.epoch = self.splits[-1].epoch if self.splits else 0
        """The newest; 0 if no account was ever split."""
        self._epoch_of = {one.account: one.epoch for one in self.splits}
        self._index()

    def __len__(self) -> int:
        """Return how many accounts were ever split."""
        return len(self.splits)

    def __contains__(self, account: bytes) -> bool:
        """Whether an account was ever split."""
        return account in self._epoch_of

    def placed(self, account: bytes, home: int) -> Placed:
        """Return what `engine.core.split.buckets.side_of` asks of an account."""
        return Placed(home, self._epoch_of.get(account))

    def routed(self, words: Words, homes: Sides) -> Routed:
        """Return where the rows of a batch, shape (n, 16), run: transfers by themselves as `side_of` says, chains of
        several legs at their accounts' homes."""
        if not self.splits:
            return Routed(homes, None)
        debit, credit = self._epochs(words[:, 2:4]), self._epochs(words[:, 4:6])
        by_map = (np.minimum(debit, credit) != _NEVER) & _alone(words)
        if not by_map.any():
            return Routed(homes, None)
        group = np.where(debit > credit, homes[:, 0], homes[:, 1])
        return Routed(np.where(by_map[:, None], group[:, None], homes).astype(np.uint16), by_map)

    def _index(self) -> None:
        joined = b"".join(one.account for one in self.splits)
        ids = np.frombuffer(joined, "<u8").reshape(-1, 2).astype(np.uint64)
        self._mix = _MIX_2
        while len(np.unique(keys := self._keys(ids))) < len(ids):
            self._mix = np.uint64((int(self._mix) + 2) & int(_NEVER))  # an odd factor under which no two are equal
        order = np.argsort(keys)
        self._sorted_keys, self._ids = keys[order], ids[order]
        self._epochs_by_key = np.array([one.epoch for one in self.splits], np.uint64)[order]
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[keys >> _FILTER_SHIFT] = True

    def _keys(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        mixed: npt.NDArray[np.uint64] = (ids[:, 0] ^ (ids[:, 1] * self._mix)) * _MIX_1
        return mixed

    def _epochs(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the epoch of each id, shape (n, 2), `_NEVER` for most."""
        epochs = np.full(len(ids), _NEVER)
        keys = self._keys(ids)
        rows = np.flatnonzero(self._filter[keys >> _FILTER_SHIFT])
        if len(rows):
            at = np.searchsorted(self._sorted_keys, keys[rows]).clip(0, len(self._ids) - 1)
            same = (self._ids[at] == ids[rows]).all(axis=1)
            epochs[rows[same]] = self._epochs_by_key[at[same]]
        return epochs


def _alone(words: Words) -> npt.NDArray[np.bool_]:
    """Return which rows are a chain by themselves."""
    linked = (words[:, 15] & _LINKED) != 0
    alone: npt.NDArray[np.bool_] = ~linked
    alone[1:] &= ~linked[:-1]
    return alone
