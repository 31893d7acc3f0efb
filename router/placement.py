"""Which group an account belongs to, for whole batches at once (DESIGN §2: account -> slot -> group)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.core.placement import slots_of
from engine.core.settings import Settings, group_of_slots


class Placement:
    """The slots as one epoch of the settings shares them among groups."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError unless every slot has exactly one group."""
        self.epoch = settings.placement_epoch
        self.hash_seed = settings.hash_seed
        self.group_of_slot: npt.NDArray[np.uint16] = np.array(group_of_slots(settings), np.uint16)
        """Shape (4096,)."""
        self.groups = sorted(set(self.group_of_slot.tolist()))
        self.single: int | None = self.groups[0] if len(self.groups) == 1 else None
        """The group that owns every slot, if one does: then nothing needs to be placed."""

    def groups_of_ids(self, ids: Sequence[bytes]) -> npt.NDArray[np.uint16]:
        """Return the group of each 16-byte account id, shape (n,); an id of another length goes to the first group,
        which refuses it."""
        joined = b"".join(one if len(one) == 16 else bytes(16) for one in ids)
        words = np.frombuffer(joined, "<u8").reshape(-1, 2).copy()
        groups: npt.NDArray[np.uint16] = self.group_of_slot[slots_of(words, 0, np.uint64(self.hash_seed))]
        groups[[len(one) != 16 for one in ids]] = self.groups[0]
        return groups
