"""The bytes of a log segment. Format version 1, little-endian.

A segment is one preallocated file: a header of 128 bytes, then records, each on a multiple of 8::

    segment header   see `SEGMENT`: magic, version, group, segment number, salt, bytes, cluster id, replica, CRC-32C
    record header    48 bytes, see `RECORD`: magic, CRC-32C of the 40 bytes that follow, CRC-32C of the payload, payload
                     bytes, kind, index, term, synced-to position
    payload          opaque, padded with zeros to a multiple of 8

The CRC of a record header starts from `seed`: the log's salt plus the segment's number. A recycled file keeps the bytes
of an older segment; another starting value never yields the same CRC over the same bytes, so none of them can pass for
a record of this segment. The salt is random and stays in the folder, so that no caller can place bytes in a transfer
that would pass for a record header when recovery looks for one behind a torn write.

*synced to*: the position from which the group of writes that a record belongs to starts. That group was issued only
after all before it was durable, so a valid record proves that every byte before its `synced_to` was once on the disk.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from crc32c import crc32c

from engine.replication.journal.disk import Bytes

FORMAT_VERSION: Final = 1
SEGMENT_MAGIC: Final = b"PE-LOG\r\n"
RECORD_MAGIC: Final = b"\xf1REC"

SEGMENT: Final = struct.Struct("<8sIIIIQ16s64s12x")
"""magic, version, group, segment number, salt, bytes of the file, cluster id, replica (UTF-8, zero-padded),
reserved."""
SEGMENT_HEADER_BYTES: Final = 128
RECORD_BODY: Final = struct.Struct("<IIHHIQQQ")
"""payload CRC, payload bytes, kind, 0, 0, index, term, synced to."""
RECORD_LEAD: Final = struct.Struct("<4sI")
"""magic, CRC-32C of the body, seeded."""
RECORD_HEADER_BYTES: Final = 48
START: Final = struct.Struct("<QQQ")
"""Payload of a START record, before the vote: where the previous segment ended, last index before it, current term."""
REPLICA_BYTES_MAX: Final = 64
SEGMENT_NUMBER_MAX: Final = (1 << 32) - 1
_U32: Final = (1 << 32) - 1
_CRC: Final = struct.Struct("<I")

if SEGMENT.size + 4 != SEGMENT_HEADER_BYTES or RECORD_LEAD.size + RECORD_BODY.size != RECORD_HEADER_BYTES:
    raise AssertionError("headers have fixed sizes")


class RecordKind(IntEnum):
    """What a record does to the log. On disk: append members, never renumber."""

    ENTRY = 1
    """Index, term, payload: one record of the replicated log."""
    META = 2
    """Term, and the vote as payload: durable before a vote leaves this replica."""
    TRUNCATE = 3
    """Everything from index on is gone: another leader overwrote it."""
    BASE = 4
    """Everything up to index (whose term it names) may be forgotten: the store has synced it."""
    START = 5
    """First record of a segment: base index and term, and in the payload all that older segments would tell."""
    MARK = 6
    """Nothing but its `synced_to`: written when the log rests or closes, so that damage before it is told from a torn
    tail."""
    RESET = 7
    """Everything is gone, and the log goes on after index: a snapshot took its place."""


class Identity(NamedTuple):
    """Whose log it is; a folder of another is refused."""

    cluster_id: str
    """32 hexadecimal digits."""
    group: int
    replica: str
    """Up to 64 bytes of UTF-8."""


class SegmentHeader(NamedTuple):
    """A decoded segment header; `seed` starts the CRC of its records' headers."""

    version: int
    identity: Identity
    number: int
    salt: int
    segment_bytes: int

    @property
    def seed(self) -> int:
        """What the CRC of every record header in this segment starts from."""
        return seed_of(self.salt, self.number)


class RecordHeader(NamedTuple):
    """A decoded record header."""

    payload_crc: int
    length: int
    kind: int
    log_index: int
    term: int
    synced_to: int


class StartOfSegment(NamedTuple):
    """The payload of a START record."""

    previous: int
    """Position at which the log leaves the previous segment; 0 in the first."""
    last_index: int
    term: int
    voted_for: str | None


def seed_of(salt: int, number: int) -> int:
    """Another one for each segment of a log: see the module."""
    return (salt + number) & _U32


def position_of(number: int, offset: int) -> int:
    """A place in the log as one number that grows with it: segment in the high half, offset in the low one."""
    return number << 32 | offset


def place_of(position: int) -> tuple[int, int]:
    """Return (segment number, offset), the inverse of `position_of`."""
    return position >> 32, position & _U32


def size_on_disk(length: int) -> int:
    """Bytes of a record with a payload of `length`, header and padding included."""
    return RECORD_HEADER_BYTES + (length + 7 & ~7)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return its 128 bytes; raise ValueError if the identity does not fit."""
    replica = header.identity.replica.encode()
    cluster = bytes.fromhex(header.identity.cluster_id)
    if len(replica) > REPLICA_BYTES_MAX or len(cluster) != 16:
        raise ValueError(f"a replica's name has at most {REPLICA_BYTES_MAX} bytes, a cluster id 32 hexadecimal digits")
    body = SEGMENT.pack(
        SEGMENT_MAGIC,
        header.version,
        header.identity.group,
        header.number,
        header.salt,
        header.segment_bytes,
        cluster,
        replica,
    )
    return body + _CRC.pack(crc32c(body))


def decode_segment_header(data: Bytes) -> SegmentHeader | None:
    """Return the header, or None if the bytes are not one; versions are for the caller to judge."""
    if len(data) < SEGMENT_HEADER_BYTES or data[:8] != SEGMENT_MAGIC:
        return None
    body = data[: SEGMENT.size]
    if _CRC.unpack_from(data, SEGMENT.size)[0] != crc32c(body):
        return None
    _, version, group, number, salt, segment_bytes, cluster, replica = SEGMENT.unpack(body)
    name = replica.rstrip(b"\0").decode()
    return SegmentHeader(version, Identity(cluster.hex(), group, name), number, salt, segment_bytes)


def encode_record_header(seed: int, header: RecordHeader) -> bytes:
    """Return the 48 bytes that stand before the payload."""
    payload_crc, length, kind, index, term, synced_to = header
    body = RECORD_BODY.pack(payload_crc, length, kind, 0, 0, index, term, synced_to)
    return RECORD_LEAD.pack(RECORD_MAGIC, crc32c(body, seed)) + body


def decode_record_header(data: Bytes, offset: int, seed: int) -> RecordHeader | None:
    """Return the header at `offset`, or None if magic or CRC do not fit there."""
    start = offset + RECORD_LEAD.size
    end = offset + RECORD_HEADER_BYTES
    if end > len(data) or data[offset : offset + 4] != RECORD_MAGIC:
        return None
    if RECORD_LEAD.unpack_from(data, offset)[1] != crc32c(data[start:end], seed):
        return None
    payload_crc, length, kind, _, _, index, term, synced_to = RECORD_BODY.unpack_from(data, start)
    return RecordHeader(payload_crc, length, kind, index, term, synced_to)


def decode_record(data: Bytes, offset: int, seed: int) -> RecordHeader | None:
    """Return the header at `offset` if the whole record is sound, payload included."""
    header = decode_record_header(data, offset, seed)
    start = offset + RECORD_HEADER_BYTES
    if header is None or start + header.length > len(data):
        return None
    sound = crc32c(memoryview(data)[start : start + header.length]) == header.payload_crc
    return header if sound else None


def headers_after(data: bytes, offset: int, seed: int) -> Iterator[tuple[int, RecordHeader]]:
    """Yield (offset, header) of every sound record header from `offset` on, whatever stands between them."""
    at = data.find(RECORD_MAGIC, offset)
    while at >= 0:
        header = decode_record_header(data, at, seed) if at % 8 == 0 else None
        if header is not None:
            yield at, header
        at = data.find(RECORD_MAGIC, at + 1)


def encode_start(start: StartOfSegment) -> bytes:
    """Return the payload of a START record."""
    return START.pack(start.previous, start.last_index, start.term) + encode_vote(start.voted_for)


def decode_start(payload: Bytes) -> StartOfSegment:
    """Inverse of `encode_start`."""
    previous, last_index, term = START.unpack_from(payload)
    return StartOfSegment(previous, last_index, term, decode_vote(payload[START.size :]))


def encode_vote(voted_for: str | None) -> bytes:
    """The replica voted for in this term, as bytes; none for nobody."""
    return (voted_for or "").encode()


def decode_vote(payload: Bytes) -> str | None:
    """Inverse of `encode_vote`."""
    return bytes(payload).decode() or None
