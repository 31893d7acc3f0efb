"""Frames between replicas: a checked msgpack header, then raw record bytes. No pickle, no compression (DESIGN §11).

A frame on the wire, little-endian::

    length    u32   bytes behind this prefix: header and payload together
    checksum  u32   CRC-32C of the header, seeded with `length`, so that a wrong length is noticed too
    header    u16   bytes of the header
    header          one message below, msgpack array whose first item is its tag
    payload         raw bytes: the records of an `Append`, the piece of a `SnapshotPiece`, else none

Records keep the checksum that their leader gave them; it travels in the header, is checked once on arrival, and is
the one that the receiver's log stores. Whatever does not parse raises `FrameRefused`; nobody unpickles anything.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from crc32c import crc32c

from engine.core.limits import LOG_RECORD_BYTES_MAX
from engine.replication.transport.messages import AnyMessage, Append

Buffer = bytes | bytearray | memoryview
"""What may hold record bytes."""
PREFIX: Final = struct.Struct("<IIH")
APPEND_RECORDS_MAX: Final = 512
APPEND_BYTES_MAX: Final = 1 << 20
"""Records of one `Append` together, unless a single record is larger."""
SNAPSHOT_PIECE_BYTES: Final = 256 << 10
HEADER_BYTES_MAX: Final = 60_000
FRAME_BYTES_MAX: Final = APPEND_BYTES_MAX + LOG_RECORD_BYTES_MAX + HEADER_BYTES_MAX
HELLO_BYTES_MAX: Final = 2048
"""A peer that has not introduced itself may not make us keep more than this."""


class FrameRefused(ValueError):
    """The bytes are no frame of this protocol: one sentence for the log, and the connection is closed."""


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


class Record(NamedTuple):
    """One received record of an `Append`, its checksum verified."""

    data: Buffer
    log_index: int
    term: int
    checksum: int


class Prefix(NamedTuple):
    """A parsed prefix: bytes behind it, checksum of the header, bytes of the header."""

    length: int
    checksum: int
    header_length: int


def encode_frame(message: AnyMessage, payload: Sequence[Buffer] = ()) -> bytes:
    """Return prefix and header; the payload follows as it is, so that no record is copied here."""
    header = _encode(message)
    length = len(header) + sum(map(len, payload))
    return PREFIX.pack(length, crc32c(header, length), len(header)) + header


def parse_prefix(view: Buffer, offset: int, length_max: int) -> Prefix:
    """Read a prefix at `offset`; raise `FrameRefused` where its lengths cannot be."""
    prefix = Prefix(*PREFIX.unpack_from(view, offset))
    if prefix.length > length_max:
        raise FrameRefused(f"a frame of {prefix.length} bytes is over the limit of {length_max}")
    if not 0 < prefix.header_length <= min(prefix.length, HEADER_BYTES_MAX):
        raise FrameRefused(f"a frame of {prefix.length} bytes cannot have a header of {prefix.header_length}")
    return prefix


def decode_header(header: Buffer, prefix: Prefix) -> AnyMessage:
    """Check and read a header; raise `FrameRefused` for anything that is not a message."""
    if crc32c(header, prefix.length) != prefix.checksum:
        raise FrameRefused("a frame's checksum does not fit: not a peer of this engine, or damaged on the way")
    try:
        return _decoder.decode(header)
    except msgspec.DecodeError as error:
        raise FrameRefused(f"a frame's header is no message of this protocol: {error}") from error


def decode_frame(frame: Buffer, length_max: int = FRAME_BYTES_MAX) -> tuple[AnyMessage, memoryview]:
    """Read one whole frame into its message and a view of its payload."""
    view = memoryview(frame)
    if len(view) < PREFIX.size:
        raise FrameRefused(f"a frame of {len(view)} bytes is shorter than its prefix")
    prefix = parse_prefix(view, 0, length_max)
    if PREFIX.size + prefix.length != len(view):
        raise FrameRefused(f"a frame of {len(view)} bytes should have {PREFIX.size + prefix.length}")
    header_end = PREFIX.size + prefix.header_length
    return decode_header(view[PREFIX.size : header_end], prefix), view[header_end:]


def split_records(append: Append, payload: memoryview) -> list[Record]:
    """Cut the payload into its records and check each; raise `FrameRefused` if one does not fit its checksum."""
    if not len(append.lengths) == len(append.terms) == len(append.checksums) <= APPEND_RECORDS_MAX:
        raise FrameRefused("an append does not describe its records")
    if sum(append.lengths) != len(payload):
        raise FrameRefused("an append's records do not fill its payload")
    return list(_checked_records(append, payload))


def _checked_records(append: Append, payload: memoryview) -> Iterator[Record]:
    start, index = 0, append.previous_index
    for term, length, checksum in zip(append.terms, append.lengths, append.checksums, strict=True):
        index += 1
        data = payload[start : start + length]
        if crc32c(data) != checksum:
            raise FrameRefused(f"record {index} was damaged on the way: its checksum does not fit its bytes")
        start += length
        yield Record(data, index, term, checksum)
