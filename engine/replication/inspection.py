"""Judging a stopped replica's log offline: every record's checksum, where it ends, and whether the store fits it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.exit_codes import EngineStopped, ExitCode, require
from engine.replication.journal.disk import Bytes, Disk
from engine.replication.journal.recovery import recover
from engine.replication.journal.segment_format import SEGMENT_HEADER_BYTES, decode_segment_header
from engine.replication.journal.segments import SEGMENT_BYTES_DEFAULT, SegmentFiles
from engine.replication.raft.boot import LOG_FOLDER, require_fit
from engine.replication.raft.identity import IDENTITY_FILE, decode_identity

SEGMENT_FILES: Final = "segment-*"


class LogReport(NamedTuple):
    """What the log of a replica holds."""

    first_index: int
    """The first log index still in it; everything below is in the store."""
    last_index: int
    term: int
    dropped_records: int
    """Sound records behind its end that no sync had confirmed: the next start drops them."""


class LookingDisk(Disk):
    """Reads, and leaves everything as it is: recovery's own writes are for a log that goes on."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            words = f"cannot read {path} ({error.strerror}); give this user access to it"
            raise EngineStopped(ExitCode.FAILED, words) from error

    def pwrite(self, descriptor: int, buffers: Sequence[Bytes], offset: int) -> None:
        """Write nothing."""

    def sync(self, descriptor: int) -> None:
        """Sync nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Sync nothing."""

    def remove(self, path: Path) -> None:
        """Remove nothing."""


def inspect_log(folder: Path, applied_index: int) -> LogReport:
    """Read a replica's `log` folder through, whichever kind of log it is; `applied_index` is its store's.

    Raises `EngineStopped`: DATA_DAMAGED for bytes that are not what they were, DATA_MISSING for segments that are not
    there, or a log that does not reach the store. No process may have the folder open. Nothing is changed.
    """
    records = folder / LOG_FOLDER if (folder / LOG_FOLDER).is_dir() else folder
    segments = sorted(records.glob(SEGMENT_FILES))
    require(
        bool(segments) or applied_index == 0,
        ExitCode.DATA_MISSING,
        f"{records} holds no segment of the log, and the store has applied record {applied_index}: restore the log's "
        "folder, or replace this replica",
    )
    if not segments:
        return LogReport(1, 0, 0, 0)
    report = _read(records, segments[-1])
    if not _is_installing(folder):
        require_fit(report.first_index - 1, report.last_index, applied_index)
    return report


def _read(records: Path, newest: Path) -> LogReport:
    header = decode_segment_header(newest.read_bytes()[:SEGMENT_HEADER_BYTES])
    if header is None:
        words = f"the header of {newest} is damaged; nothing was changed: restore or replace this replica"
        raise EngineStopped(ExitCode.DATA_DAMAGED, words)
    files = SegmentFiles(LookingDisk(), records, header.identity, SEGMENT_BYTES_DEFAULT)
    try:
        found = recover(files)
    finally:
        files.close()
    return LogReport(found.index.base_index + 1, found.index.last_index, found.term, found.dropped.records)


def _is_installing(folder: Path) -> bool:
    """Return whether a snapshot was being installed: until that is finished, log and store need not fit."""
    path = folder / IDENTITY_FILE
    return path.is_file() and decode_identity(path.read_bytes()).installing is not None
