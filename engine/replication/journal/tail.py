"""The end of the log: where the next record goes, and the group of writes that is being filled."""

from collections.abc import Callable
from typing import Final, NamedTuple

from crc32c import crc32c

from engine.replication.journal.disk import Bytes
from engine.replication.journal.segment_format import (
    REPLICA_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    START,
    RecordHeader,
    RecordKind,
    StartOfSegment,
    encode_record_header,
    encode_start,
    place_of,
    position_of,
    size_on_disk,
)
from engine.replication.journal.segments import SegmentFiles, Write, room_of

_PADDING: Final = tuple(bytes(count) for count in range(8))


class Opening(NamedTuple):
    """What a segment says at its start, so that all older ones can be dropped whole."""

    base_index: int
    base_term: int
    last_index: int
    term: int
    voted_for: str | None


class Group:
    """What is written and synced together. All before `start` is durable once it is under way."""

    def __init__(self, start: int, serial: int) -> None:
        """An empty one."""
        self.start, self.serial = start, serial
        self.writes: list[Write] = []
        self.last_index = 0
        """The last entry that is durable with the group; falls if it is truncated meanwhile."""
        self.drop_below = 0
        """Segments below this one may go once the group is durable."""


class Tail:
    """Places records one behind another and across segments; nothing here touches the disk."""

    def __init__(self, files: SegmentFiles, end: int, opening: Callable[[], Opening]) -> None:
        """`opening` is asked whenever a segment begins."""
        self._files, self._opening = files, opening
        self.position = end
        """Where the next record goes."""
        self._enter(place_of(end)[0])
        self._record_bytes_max = room_of(files.segment_bytes) - size_on_disk(START.size + REPLICA_BYTES_MAX)
        self.group = Group(end, 1)

    def put(self, kind: RecordKind, index: int, term: int, payload: Bytes = b"", payload_crc: int = 0) -> int:
        """Add one record to the group, in the next segment if it does not fit here; return its position.

        Raises ValueError if it fits into no segment.
        """
        size = size_on_disk(len(payload))
        if self.position + size > self._segment_end:
            if size > self._record_bytes_max:
                raise ValueError(f"a log record of {len(payload)} bytes does not fit into a segment")
            self.begin_segment(self.number + 1, self.position)
        return self._place(RecordHeader(payload_crc, len(payload), kind, index, term, self.group.start), payload, size)

    def begin_segment(self, number: int, previous: int) -> None:
        """Go on in another segment; `previous` is the position at which the log leaves the one before."""
        self.position = position_of(number, SEGMENT_HEADER_BYTES)
        self._enter(number)
        base_index, base_term, last_index, term, voted_for = self._opening()
        payload = encode_start(StartOfSegment(previous, last_index, term, voted_for))
        crc, start = crc32c(payload), self.group.start
        header = RecordHeader(crc, len(payload), RecordKind.START, base_index, base_term, start)
        self._place(header, payload, size_on_disk(len(payload)))

    def hand_over(self, last_index: int) -> Group:
        """Return the group, which is to be written now, and begin the next."""
        group = self.group
        group.last_index = last_index
        self.group = Group(self.position, group.serial + 1)
        return group

    def _enter(self, number: int) -> None:
        self.number, self._seed = number, self._files.seed_of(number)
        self._segment_end = position_of(number, self._bytes_of(number))

    def _bytes_of(self, number: int) -> int:
        """Of the file if there is one: an older setting may have made it."""
        return self._files.size(number) if number in self._files.descriptors else self._files.segment_bytes

    def _place(self, header: RecordHeader, payload: Bytes, size: int) -> int:
        writes = self.group.writes
        if not writes or writes[-1].number != self.number:
            writes.append(Write(self.number, place_of(self.position)[1], []))
        buffers = writes[-1].buffers
        buffers.append(encode_record_header(self._seed, header))
        if payload:
            buffers.append(payload)
            buffers.append(_PADDING[-len(payload) & 7])
        position = self.position
        self.position += size
        return position
