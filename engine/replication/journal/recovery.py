"""Read a log back from its segments: what it holds, where it ends, and whether something durable is damaged.

**Torn tail or corruption.** The log's thread has one group of writes under way at a time, and issues the next only
after the fdatasync of the one before has succeeded. So when the power goes, everything before the last group is on the
disk whole, and of the last group any part may be there, in any order: a sound record behind a bad one proves nothing by
itself. What does prove something is the `synced_to` that each record carries: the position at which its own group
starts. All before that position was durable when the record was written. Recovery therefore reads records in order up
to the first that is not sound, at position P, and searches everything behind P for sound record headers:

- if one of them says `synced_to > P`, then P was durable and is damaged now: DATA_DAMAGED, nothing is written;
- otherwise nothing behind P was ever acknowledged *on the evidence of the disk*: the tail is torn and the log ends at
  P.

What is left undecided is damage within the very last group, when no later write tells of it. A MARK, written when the
log rests or closes, narrows that to the last second under load; and the owner of the log compares its end with what its
store has applied. After a torn tail that left sound records behind P, the log goes on in a new segment with another
seed, so that none of them can come back. Before a recovered tail counts as durable, its last group is written again,
byte for byte, and synced: a process that died of a failed sync may have left pages that the kernel calls clean and the
disk never had.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.exit_codes import EngineStopped, ExitCode, require
from engine.replication.journal.entry_index import EntryIndex
from engine.replication.journal.segment_format import (
    FORMAT_VERSION,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Identity,
    RecordHeader,
    RecordKind,
    SegmentHeader,
    StartOfSegment,
    decode_record,
    decode_segment_header,
    decode_start,
    decode_vote,
    headers_after,
    place_of,
    position_of,
    size_on_disk,
)
from engine.replication.journal.segments import SegmentFiles


class Dropped(NamedTuple):
    """What recovery left out behind the end of the log: writes that no sync had confirmed."""

    records: int
    bytes: int


@dataclass
class RecoveredLog:
    """The log as its segments tell it."""

    index: EntryIndex
    term: int
    voted_for: str | None
    end: int
    """Position of the first byte that does not belong to the log."""
    numbers: list[int]
    """Segments that belong to it, ascending; empty for a log that never began."""
    dropped: Dropped
    bytes_read: int

    @property
    def began(self) -> bool:
        """False for an empty folder: a new log, or a wiped one."""
        return bool(self.numbers)

    @property
    def torn(self) -> bool:
        """Sound records stand behind the end, so the log must go on in another segment."""
        return self.dropped.records > 0


class _Segment(NamedTuple):
    number: int
    header: SegmentHeader
    start: StartOfSegment | None
    """None if its first record is not sound: prepared and not used, or torn, or damaged."""


def recover(files: SegmentFiles) -> RecoveredLog:
    """Read the segments of a folder; raise CLUSTER_MISMATCH, DATA_DAMAGED or DATA_MISSING. Writes only what it read."""
    segments = [_segment(files, number) for number in files.open_all()]
    if segments:
        files.salt = segments[-1].header.salt
        if any(segment.header.salt != files.salt for segment in segments):
            raise _damaged(f"{files.folder} mixes the segments of two logs")
    chain = _chain(segments)
    if not chain and segments and segments[-1].number > 1:
        # Only the very first segment may be without a sound first record: when its making was cut short.
        raise _damaged(f"{files.path_of(segments[-1].number)} is damaged at byte {SEGMENT_HEADER_BYTES}")
    reader = _Reader()
    end, bytes_read = _read_chain(files, chain, reader)
    dropped = _judge_tail(files, segments, end)
    kept = [segment.number for segment in chain if segment.number <= place_of(end)[0]]
    reader.finish(files)
    _store_again(files, kept, reader.last_synced_to, end)
    return RecoveredLog(reader.index, reader.term, reader.voted_for, end, kept, dropped, bytes_read)


def _segment(files: SegmentFiles, number: int) -> _Segment:
    head = files.read(number, 0, SEGMENT_HEADER_BYTES)
    header = decode_segment_header(head)
    path = files.path_of(number)
    if header is None or header.number != number:
        raise _damaged(f"the header of {path} is damaged")
    if header.version != FORMAT_VERSION:
        raise _damaged(f"{path} has format {header.version}, this engine reads {FORMAT_VERSION}: use the newer engine")
    _check_identity(header.identity, files)
    if files.size(number) != header.segment_bytes:
        raise _damaged(f"{path} does not have the {header.segment_bytes} bytes that its header tells")
    return _Segment(number, header, _start_of(files, header))


def _check_identity(found: Identity, files: SegmentFiles) -> None:
    require(
        found == files.identity,
        ExitCode.CLUSTER_MISMATCH,
        f"the log in {files.folder} belongs to replica {found.replica} of group {found.group} in cluster"
        f" {found.cluster_id}, not to replica {files.identity.replica} of group {files.identity.group} in cluster"
        f" {files.identity.cluster_id}; give this one the folder that is its own",
    )


def _start_of(files: SegmentFiles, header: SegmentHeader) -> StartOfSegment | None:
    data = files.read(header.number, SEGMENT_HEADER_BYTES, 4096)
    record = decode_record(data, 0, header.seed)
    if record is None or record.kind != RecordKind.START:
        return None
    return decode_start(data[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + record.length])


def _chain(segments: list[_Segment]) -> list[_Segment]:
    """The segments of the log, ascending: from the newest whose way back, START by START, is whole."""
    by_number = {segment.number: segment for segment in segments}
    for newest in reversed(segments):
        chain = _way_back(by_number, newest.number)
        if chain:
            return chain[::-1]
    return []


def _way_back(by_number: dict[int, _Segment], number: int) -> list[_Segment]:
    """Follow each START to the segment before, down to the oldest that is there; empty if one has no sound START.

    That one, and all behind it, is a torn group that spanned segments, or damage: the search behind the end tells.
    """
    chain: list[_Segment] = []
    while number in by_number:
        segment = by_number[number]
        if segment.start is None:
            return []
        chain.append(segment)
        number = place_of(segment.start.previous)[0]
    return chain


def _read_chain(files: SegmentFiles, chain: list[_Segment], reader: "_Reader") -> tuple[int, int]:
    """Apply every record in order; return where the log ends, and how much was read."""
    end, bytes_read = position_of(1, SEGMENT_HEADER_BYTES), 0
    for place, segment in enumerate(chain):
        data = files.read(segment.number, 0, segment.header.segment_bytes)
        following = chain[place + 1].start if place + 1 < len(chain) else None
        limit = place_of(following.previous)[1] if following is not None else len(data)
        stopped = SEGMENT_HEADER_BYTES
        for offset, header in _records(data, limit, segment.header.seed):
            payload = memoryview(data)[offset + RECORD_HEADER_BYTES :][: header.length]
            reader.take(position_of(segment.number, offset), header, payload)
            stopped = offset + size_on_disk(header.length)
        end, bytes_read = position_of(segment.number, stopped), bytes_read + stopped
        if stopped != limit:
            break
    return end, bytes_read


def _records(data: bytes, limit: int, seed: int) -> Iterator[tuple[int, RecordHeader]]:
    """Yield (offset, header) of sound records up to the first that is not, or `limit`."""
    offset = SEGMENT_HEADER_BYTES
    while offset < limit:
        header = decode_record(data, offset, seed)
        if header is None or offset + size_on_disk(header.length) > limit:
            return
        yield offset, header
        offset += size_on_disk(header.length)


def _judge_tail(files: SegmentFiles, segments: list[_Segment], end: int) -> Dropped:
    """Search everything behind the end; raise DATA_DAMAGED if any record there proves that more was durable."""
    records, size = 0, 0
    end_number, end_offset = place_of(end)
    for segment in segments:
        if segment.number < end_number:
            continue
        data = files.read(segment.number, 0, segment.header.segment_bytes)
        first = end_offset if segment.number == end_number else SEGMENT_HEADER_BYTES
        for _, header in headers_after(data, first, segment.header.seed):
            if header.synced_to > end:
                raise _damaged(f"{files.path_of(end_number)} is damaged at byte {end_offset}")
            records, size = records + 1, size + size_on_disk(header.length)
    return Dropped(records, size)


def _store_again(files: SegmentFiles, numbers: list[int], first: int, end: int) -> None:
    """Write the last group again, byte for byte, and sync it."""
    first_number, first_offset = place_of(first)
    end_number, end_offset = place_of(end)
    for number in (number for number in numbers if number >= first_number):
        start = first_offset if number == first_number else SEGMENT_HEADER_BYTES
        data = files.read(number, 0, end_offset if number == end_number else files.size(number))[start:]
        if data:
            files.disk.pwrite(files.descriptors[number], [data], start)
        files.disk.sync(files.descriptors[number])
    files.disk.sync_folder(files.folder)


def _damaged(what: str) -> EngineStopped:
    return EngineStopped(
        ExitCode.DATA_DAMAGED,
        f"{what}; nothing was changed: replace this replica, or, if its group has no other, restore it from a backup",
    )


class _Reader:
    """Builds the log's state from its records, one after another."""

    def __init__(self) -> None:
        self.index = EntryIndex()
        self.term = 0
        self.voted_for: str | None = None
        self.last_synced_to = 0
        # What the log was allowed to forget. The index may begin above it until all is read: the segments between are
        # gone.
        self._base_index, self._base_term = 0, 0
        self._began = False

    def take(self, position: int, header: RecordHeader, payload: memoryview) -> None:
        """Apply one sound record."""
        self.last_synced_to = header.synced_to
        kind = header.kind
        if kind == RecordKind.ENTRY:
            self._entry(position, header)
        elif kind == RecordKind.START:
            self._start(header, decode_start(payload))
        elif kind == RecordKind.META:
            self.term, self.voted_for = header.term, decode_vote(payload)
        elif kind == RecordKind.TRUNCATE:
            self._truncate(header.log_index)
        elif kind == RecordKind.BASE:
            self._base(header.log_index, header.term)
        elif kind == RecordKind.RESET:
            self._base_index, self._base_term = header.log_index, header.term
            self.index.reset(header.log_index, header.term)
        elif kind != RecordKind.MARK:
            raise _damaged(f"the log has a record of unknown kind {kind}")

    def finish(self, files: SegmentFiles) -> None:
        """Check that nothing is missing before the first entry."""
        require(
            self._base_index >= self.index.base_index,
            ExitCode.DATA_MISSING,
            f"log records {self._base_index + 1} to {self.index.base_index} are missing from {files.folder}; restore"
            " its segment files, or replace this replica",
        )
        self.index.base_term = self._base_term

    def _entry(self, position: int, header: RecordHeader) -> None:
        if header.log_index != self.index.last_index + 1:
            raise _damaged(f"log record {header.log_index} follows {self.index.last_index}")
        self.index.append(header.term, position, header.length)

    def _start(self, header: RecordHeader, start: StartOfSegment) -> None:
        self.term, self.voted_for = start.term, start.voted_for
        if not self._began:
            self._began = True
            self._base_index, self._base_term = header.log_index, header.term
            self.index.reset(start.last_index, 0)
        elif start.last_index != self.index.last_index:
            raise _damaged(f"a segment begins after log record {start.last_index}, the one before ends otherwise")

    def _truncate(self, index: int) -> None:
        if index <= self.index.base_index:
            self.index.reset(index - 1, 0)
        else:
            self.index.truncate_from(index)

    def _base(self, index: int, term: int) -> None:
        self._base_index, self._base_term = index, term
        if index > self.index.last_index:
            raise _damaged(f"the log forgets up to record {index}, but ends at {self.index.last_index}")
        if index > self.index.base_index:
            self.index.forget_to(index)
