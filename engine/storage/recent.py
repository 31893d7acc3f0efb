"""The newest blocks, kept in memory as they are saved: applied and not yet saved, or soon asked for.

A commit or a retry mostly comes soon after what it follows, and the views read every block once: most look-ups end here
without touching LMDB, whose pages then never become part of this process's memory. Blocks are appended and dropped by
the apply thread; any thread may read, as a block does not change and lists are replaced, never cut short.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

from engine.storage.block import Place, place_of

RECENT_ROWS: Final = 1 << 18
"""Rows kept, some 36 MiB, beside what is not saved yet: half a second of the quickest load, for views that lag."""
ROWS_PER_BLOCK: Final = 4
"""What a block weighs by itself, in rows: blocks without rows take memory too."""


class PackedBlock(NamedTuple):
    """An encoded block."""

    first_position: int
    log_index: int
    data: bytes | memoryview
    """Read-only."""


class Kept(NamedTuple):
    """What is kept; replaced as a whole when blocks are dropped, so whoever took it reads on undisturbed."""

    blocks: list[PackedBlock]
    firsts: list[int]
    """First positions of `blocks`; equal ones where a block has no rows."""
    weights: list[int]
    behind_index: int
    """Log index of the block before the first one."""
    start: int
    """First position of the first one."""

    def holding(self, position: int) -> tuple[Place, memoryview]:
        """Give the block that holds `position`, which must be between `start` and the end."""
        data = memoryview(self.blocks[bisect_right(self.firsts, position) - 1].data)
        return place_of(data), data


class RecentBlocks:
    """The blocks of the last `capacity` rows, and all that are not saved. See the module's docstring for threads."""

    def __init__(self, position: int, log_index: int, capacity: int = RECENT_ROWS) -> None:
        """Begin behind `log_index`, at which the journal ended at `position`."""
        self.kept = Kept([], [], [], log_index, position)
        self._weight = 0
        self._capacity = capacity
        self.end = position
        self.saved_index = log_index

    @property
    def start(self) -> int:
        """The first position still here."""
        return self.kept.start

    def append(self, block: PackedBlock, rows: int) -> None:
        """Add the block at `end`, of so many rows."""
        kept, weight = self.kept, rows + ROWS_PER_BLOCK
        kept.blocks.append(block)
        kept.firsts.append(block.first_position)
        kept.weights.append(weight)
        self._weight += weight
        self.end = block.first_position + rows

    def unsaved(self) -> list[PackedBlock]:
        """Return the blocks that are not saved yet."""
        blocks, first = self.kept.blocks, len(self.kept.blocks)
        while first and blocks[first - 1].log_index > self.saved_index:
            first -= 1
        return blocks[first:]

    def saved(self, log_index: int) -> None:
        """All blocks up to `log_index` are saved; drop what is too old to be asked for soon."""
        self.saved_index = log_index
        kept, dropped = self.kept, 0
        while dropped < len(kept.blocks) and kept.blocks[dropped].log_index <= log_index:
            if self._weight - kept.weights[dropped] < self._capacity:
                break
            self._weight -= kept.weights[dropped]
            dropped += 1
        if dropped:
            rest = kept.blocks[dropped:]
            self.kept = Kept(
                rest,
                kept.firsts[dropped:],
                kept.weights[dropped:],
                kept.blocks[dropped - 1].log_index,
                rest[0].first_position if rest else self.end,
            )

    def saved_after(self, log_index: int) -> list[PackedBlock] | None:
        """Return the saved blocks behind `log_index`; None if some of them are not here any more."""
        kept, saved_index = self.kept, self.saved_index
        if log_index < kept.behind_index:
            return None
        first = bisect_right(kept.blocks, log_index, key=_log_index)
        return kept.blocks[first : bisect_right(kept.blocks, saved_index, key=_log_index)]


def _log_index(block: PackedBlock) -> int:
    return block.log_index
