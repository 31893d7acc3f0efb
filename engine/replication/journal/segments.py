"""The segment files of one log: made ahead of need, written in groups, recycled whole.

Names in the folder: `segment-<number>` holds records; `scrap-<number>` is an old segment that waits to be used again;
`new` is one in the making. A file gets a segment's name only once its header and size are durable, so that a segment
with a damaged header is damage, never an accident of a crash.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.disk import Bytes, Disk
from engine.replication.journal.segment_format import (
    FORMAT_VERSION,
    SEGMENT_HEADER_BYTES,
    SEGMENT_NUMBER_MAX,
    Identity,
    SegmentHeader,
    encode_segment_header,
    seed_of,
)

SEGMENT_BYTES_DEFAULT: Final = 64 << 20
SCRAPS_MAX: Final = 1
"""Old segments kept to be used again: their blocks are allocated and written, so a sync of new bytes there is cheaper.
With the spare that is ready, one is enough to never allocate while the store keeps up."""
JOIN_BYTES_MAX: Final = 4096
"""Buffers that are smaller than this on average are joined before a write; larger ones go to the kernel as they are."""
BRIEF_WRITE_BYTES_MAX: Final = 16 << 10
"""A write up to this size takes no longer than its sync."""

_SEGMENT: Final = "segment-"
_SCRAP: Final = "scrap-"
_NEW: Final = "new"


class Write(NamedTuple):
    """Buffers that follow each other on disk."""

    number: int
    offset: int
    buffers: list[Bytes]


class SegmentFiles:
    """Open descriptors by segment number. Methods that write run on the log's thread; `read` also on the loop's."""

    def __init__(self, disk: Disk, folder: Path, identity: Identity, segment_bytes: int) -> None:
        """`segment_bytes` is the size of segments made from now on; nothing is opened yet."""
        self.disk, self.folder, self.identity, self.segment_bytes = disk, folder, identity, segment_bytes
        self.salt = 0
        self.descriptors: dict[int, int] = {}
        self._scraps: list[str] = []

    def open_all(self) -> list[int]:
        """Open what the folder holds; return the segments' numbers, ascending."""
        for name in self.disk.names(self.folder):
            if name.startswith(_SEGMENT) and name[len(_SEGMENT) :].isdigit():
                self.descriptors[int(name[len(_SEGMENT) :])] = self.disk.open(self.folder / name)
            elif name.startswith(_SCRAP):
                self._scraps.append(name)
            elif name == _NEW:
                self.disk.remove(self.folder / name)
        return sorted(self.descriptors)

    def seed_of(self, number: int) -> int:
        """What the CRC of every record header in a segment starts from."""
        return seed_of(self.salt, number)

    def size(self, number: int) -> int:
        """Bytes of a segment's file, which an older setting may have made."""
        return self.disk.size(self.descriptors[number])

    def path_of(self, number: int) -> Path:
        """Where a segment stands."""
        return self.folder / f"{_SEGMENT}{number:010d}"

    def ensure(self, number: int) -> None:
        """Make the segment if it is not there: durable header, size and name before the first record is written."""
        if number in self.descriptors:
            return
        if number > SEGMENT_NUMBER_MAX:
            raise EngineStopped(ExitCode.FAILED, "the log has used up its segment numbers; replace this replica")
        new = self.folder / _NEW
        descriptor = self._scrap_as(new) or self._allocated(new)
        header = SegmentHeader(FORMAT_VERSION, self.identity, number, self.salt, self.segment_bytes)
        self.disk.pwrite(descriptor, [encode_segment_header(header)], 0)
        self.disk.sync(descriptor)
        self.disk.rename(new, self.path_of(number))
        self.disk.sync_folder(self.folder)
        self.descriptors[number] = descriptor

    def write(self, writes: Sequence[Write]) -> None:
        """Write one group and sync it: when this returns, all of it is durable."""
        written: dict[int, None] = {}  # each once, in order
        for number, offset, buffers in writes:
            self.ensure(number)
            self.disk.pwrite(self.descriptors[number], _joined(buffers), offset)
            written[number] = None
        for number in written:
            self.disk.sync(self.descriptors[number])

    def writes_briefly(self, writes: Sequence[Write]) -> bool:
        """Whether a group is one small write into a segment that exists."""
        one = writes[0]
        return (
            len(writes) == 1 and one.number in self.descriptors and sum(map(len, one.buffers)) <= BRIEF_WRITE_BYTES_MAX
        )

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Read from a segment; DATA_MISSING if its file is not there."""
        descriptor = self.descriptors.get(number)
        if descriptor is None:
            raise EngineStopped(
                ExitCode.DATA_MISSING, f"{self.path_of(number)} is missing; restore it, or replace this replica"
            )
        return self.disk.pread(descriptor, length, offset)

    def recycle(self, numbers: Iterable[int]) -> None:
        """Take segments out of the log; keep a few as scrap, remove the rest."""
        gone = [number for number in numbers if number in self.descriptors]
        for number in gone:
            self.disk.close(self.descriptors.pop(number))
            if len(self._scraps) < SCRAPS_MAX:
                scrap = f"{_SCRAP}{number:010d}"
                self.disk.rename(self.path_of(number), self.folder / scrap)
                self._scraps.append(scrap)
            else:
                self.disk.remove(self.path_of(number))
        if gone:
            # Before a scrap gets a new header, its old name must be gone for good.
            self.disk.sync_folder(self.folder)

    def close(self) -> None:
        """Close every descriptor; nothing is synced."""
        for descriptor in self.descriptors.values():
            self.disk.close(descriptor)
        self.descriptors.clear()

    def _scrap_as(self, new: Path) -> int | None:
        """Open a scrap of the right size under another name, if there is one."""
        while self._scraps:
            path = self.folder / self._scraps.pop()
            descriptor = self.disk.open(path)
            if self.disk.size(descriptor) == self.segment_bytes:
                self.disk.rename(path, new)
                return descriptor
            self.disk.close(descriptor)
            self.disk.remove(path)
        return None

    def _allocated(self, new: Path) -> int:
        descriptor = self.disk.open(new, create=True)
        try:
            self.disk.allocate(descriptor, self.segment_bytes)
        except EngineStopped:
            self.disk.close(descriptor)
            self.disk.remove(new)
            raise
        return descriptor


def room_of(segment_bytes: int) -> int:
    """Bytes for records in one segment."""
    return segment_bytes - SEGMENT_HEADER_BYTES


def _joined(buffers: list[Bytes]) -> list[Bytes]:
    if len(buffers) > 1 and sum(map(len, buffers)) < len(buffers) * JOIN_BYTES_MAX:
        return [b"".join(buffers)]
    return buffers
