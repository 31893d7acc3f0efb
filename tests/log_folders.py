"""Small logs on a disk in memory, for the tests of the log."""

from pathlib import Path
from typing import Final

from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity
from engine.replication.worker import Worker
from tests.crash_images import Image
from tests.memory_disk import MemoryDisk

FOLDER: Final = Path("/log")
OWNER: Final = Identity("ab" * 16, 3, "node-a")
SEGMENT_BYTES: Final = 4096
CACHE_BYTES: Final = 1000


def open_log(disk: MemoryDisk, worker: Worker | None = None) -> SegmentedLog:
    """Open the log of this disk."""
    return SegmentedLog.open(
        FOLDER, OWNER, disk=disk, worker=worker, segment_bytes=SEGMENT_BYTES, cache_bytes=CACHE_BYTES
    )


def record_of(number: int, size: int = 100) -> bytes:
    """The bytes of a record that no other number has."""
    return number.to_bytes(8, "little") * (size // 8)


def append_records(log: SegmentedLog, count: int, term: int = 1) -> None:
    """Append so many records; each says its index."""
    for _ in range(count):
        log.append(term, record_of(log.last_index + 1))


def records_of(log: SegmentedLog) -> list[bytes]:
    """Every record held."""
    return [bytes(log.entry_at(index).record) for index in range(log.first_index, log.last_index + 1)]


def segment_path(number: int) -> Path:
    """Where a segment stands."""
    return FOLDER / f"segment-{number:010d}"


def segment_numbers(disk: MemoryDisk) -> list[int]:
    """The segments there are."""
    return [int(name.removeprefix("segment-")) for name in disk.names(FOLDER) if name.startswith("segment-")]


def closed_log(records: int, salt: int = 1) -> Image:
    """What the disk holds after that many records, one group each, and a clean close."""
    disk = MemoryDisk(salt=salt)
    log = open_log(disk)
    log.save_vote(1, "node-a")
    for _ in range(records):
        append_records(log, 1)
        log.start_sync()
    log.close()
    return disk.image()
