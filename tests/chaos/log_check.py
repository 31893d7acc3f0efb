"""What must hold of the log and the store that `log_process` leaves behind, however it ended."""

from collections.abc import Iterable
from pathlib import Path

from engine.replication.journal.journal import SegmentedLog
from tests.chaos.log_process import OWNER, SEGMENT_BYTES, Answer, Store


def check(folder: Path, answers: Iterable[Answer]) -> None:
    """Every answer's record is in the log under its index, or was applied from there; the store stands within the
    log."""
    store = Store(folder / "store")
    log = SegmentedLog.open(folder / "log", OWNER, segment_bytes=SEGMENT_BYTES)
    try:
        assert log.base_index <= store.applied_index <= log.last_index
        for answer in answers:
            assert checksums(log, store, answer.log_index) == {answer.checksum}, answer
    finally:
        log.close()
        store.close()


def checksums(log: SegmentedLog, store: Store, log_index: int) -> set[int]:
    """All that log and store know of a record: they must agree."""
    found = set()
    if log.base_index < log_index <= log.last_index:
        found.add(log.entry_at(log_index).crc)
    if log_index <= store.applied_index:
        found.add(store.checksum(log_index) or 0)
    return found
