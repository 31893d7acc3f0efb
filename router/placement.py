"""Which group an account belongs to, for whole batches at once (DESIGN §2: account -> slot -> group)."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.placement import slots_of
from engine.core.records import Flag, Words
from engine.core.settings import Settings, group_of_slots

LINKED: Final = np.uint64(Flag.LINKED << 24)
DEBIT_WORD: Final = 2


class Placement:
    """The slots as one epoch of the settings shares them among groups."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError unless every slot has exactly one group."""
        self.epoch = settings.placement_epoch
        self._seed = np.uint64(settings.hash_seed)
        self._group_of_slot = np.array(group_of_slots(settings), np.int64)
        self.groups = sorted(set(self._group_of_slot.tolist()))

    @property
    def single(self) -> int | None:
        """The group that owns every slot, if one does: then nothing needs to be placed."""
        return self.groups[0] if len(self.groups) == 1 else None

    def groups_of_ids(self, ids: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Return the group of each 16-byte account id, shape (n,); an id of another length goes to the first group,
        which refuses it."""
        joined = b"".join(one if len(one) == 16 else bytes(16) for one in ids)
        return self._groups(np.frombuffer(joined, "<u8").reshape(-1, 2).copy(), 0)

    def groups_of_rows(self, words: Words) -> npt.NDArray[np.int64]:
        """Return the group that each row goes to, shape (n,): its debit account's; a chain goes whole to its first
        leg's."""
        groups = self._groups(np.ascontiguousarray(words), DEBIT_WORD)
        linked = (words[:, 15] & LINKED) != 0
        if linked.any():
            groups = groups[_first_legs(linked)]
        return groups

    def _groups(self, words: npt.NDArray[np.uint64], first_word: int) -> npt.NDArray[np.int64]:
        return self._group_of_slot[slots_of(words, first_word, self._seed)]


def _first_legs(linked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return for each row the row at which its chain begins (itself, where it stands alone)."""
    rows = np.arange(len(linked))
    begins = np.ones(len(linked), bool)
    begins[1:] = ~linked[:-1]
    return np.maximum.accumulate(np.where(begins, rows, 0))
