"""A journal block: what one log record did, as the journal keeps it. Format version 1, for ever readable.

Layout, little-endian; every section begins at a multiple of 8::

    0    8   magic `pe-block`
    8    2   format version, 1
    10   2   reserved, 0
    12   4   bytes of the preamble
    16   8   log index
    24   8   term
    32   8   applied timestamp, ns UTC: the record's time, clamped to be after everything before it
    40   8   position of the first row
    48   4   rows
    52   4   rows whose requested amount differs from what moved
    56   4   bytes of extra
    60   4   reserved, 0
    64   32  hash of the block before (zeros in the first)
    96   32  hash of this block
    128      preamble: the log record's header, callers and names (`engine.core.log_record`): who asked, when, how often
             rows, 128 bytes each (`engine.core.records`), outcomes set
             requested: indices into the rows, u32 each, padded to a multiple of 8; then the amounts, 16 bytes each
             extra: SETTINGS, the settings as they stand in the log record; STEPS, the payload of the steps that
             changed something (`engine.core.chains.step_record`), for the last rows

The hash is BLAKE3 over bytes 0 to 95 and from 128 to the end. As the hash of the block before stands among them, the
last hash vouches for the whole journal (DESIGN §6). A block holds nothing that differs between replicas.
"""

import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from engine.core.known import Applied, AppliedSteps
from engine.core.records import RECORD_BYTES, RECORD_WORDS, Words

FORMAT_VERSION: Final = 1
MAGIC: Final = b"pe-block"
HEADER: Final = struct.Struct("<8sHHIQQQQIIIi32s32s")
HEADER_BYTES: Final = 128
HASH_AT: Final = 96
HASH_BYTES: Final = 32
GENESIS_HASH: Final = bytes(HASH_BYTES)
"""Stands before the first block."""
_ALIGNMENT: Final = 8

if HEADER.size != HEADER_BYTES:
    raise AssertionError("a block's header is 128 bytes")


class BlockHeader(NamedTuple):
    """The header's fields, without magic and version."""

    preamble_bytes: int
    log_index: int
    term: int
    timestamp_ns: int
    first_position: int
    rows: int
    requested: int
    extra_bytes: int
    previous_hash: bytes
    hash: bytes

    @property
    def end_position(self) -> int:
        """The position after the last row."""
        return self.first_position + self.rows

    @property
    def rows_at(self) -> int:
        """Offset of the rows in the block, bytes."""
        return HEADER_BYTES + self.preamble_bytes

    @property
    def requested_at(self) -> int:
        """Offset of the requested indices, bytes."""
        return self.rows_at + self.rows * RECORD_BYTES

    @property
    def amounts_at(self) -> int:
        """Offset of the requested amounts, bytes."""
        return self.requested_at + self.requested * 4 + _padding(self.requested * 4)

    @property
    def extra_at(self) -> int:
        """Offset of the extra section, bytes."""
        return self.amounts_at + self.requested * 16

    @property
    def block_bytes(self) -> int:
        """Length of the whole block."""
        return self.extra_at + self.extra_bytes


class Block(NamedTuple):
    """A decoded block; its arrays are read-only and may be views of the bytes it was decoded from."""

    header: BlockHeader
    preamble: bytes
    rows: Words
    """Shape (k, 16)."""
    requested_index: npt.NDArray[np.uint32]
    """Shape (r,)."""
    requested_amount: Words
    """Shape (r, 2)."""
    extra: bytes

    def requested(self) -> Words:
        """Return the amount asked for in each row, shape (k, 2), writable."""
        amounts = self.rows[:, 6:8].copy()
        amounts[self.requested_index] = self.requested_amount
        return amounts


class Place(NamedTuple):
    """Where a block's rows are, and nothing else: for look-ups, which touch many blocks for a row or two of each."""

    preamble_bytes: int
    first_position: int
    rows: int
    requested: int

    @property
    def end_position(self) -> int:
        """The position after the last row."""
        return self.first_position + self.rows


def place_of(data: bytes | memoryview) -> Place:
    """Read where a stored block's rows are; the rest of the header is not looked at."""
    return Place._make(_PLACE.unpack_from(data))


_PLACE: Final = struct.Struct("<12xI24xQII")


class BlockDamaged(ValueError):
    """The bytes are not a block of a known version, or were altered; the text says which and how."""


class Room(NamedTuple):
    """Memory for one block with its rows in their place: what is applied there need not be copied."""

    data: npt.NDArray[np.uint8]
    """Header, preamble, rows and extra."""
    rows: Words
    """Shape (n, 16), writable: of `data`."""


def room_for(preamble_bytes: int, rows: int, extra_bytes: int = 0) -> Room:
    """Return room for a block of at most so many rows, and bytes of extra."""
    rows_at = HEADER_BYTES + preamble_bytes
    end = rows_at + rows * RECORD_BYTES
    data = np.empty(end + extra_bytes, np.uint8)
    return Room(data, data[rows_at:end].view(np.uint64).reshape(-1, RECORD_WORDS))


def encode_block(
    applied: Applied | AppliedSteps,
    *,
    preamble: bytes,
    extra: bytes,
    log_index: int,
    term: int,
    first_position: int,
    previous: bytes,
    room: Room | None = None,
) -> tuple[bytes | memoryview, bytes]:
    """Return the bytes of the block, and its hash. They are those of `room` where its first rows are the block's, with
    the amounts that they ask for, and the extra fits."""
    rows, index = applied.rows, applied.requested_index.tobytes()
    preamble_bytes, extra_bytes = len(preamble), len(extra)
    start = HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        preamble_bytes,
        log_index,
        term,
        applied.timestamp_ns,
        first_position,
        len(rows),
        len(applied.requested_index),
        extra_bytes,
        0,
        previous,
        GENESIS_HASH,
    )[:HASH_AT]
    end = HEADER_BYTES + preamble_bytes + rows.nbytes + extra_bytes
    if room is not None and not index and end <= room.data.nbytes and _fills(room, rows):
        return _finished(room.data[:end].data, start, preamble, extra)
    pieces = (
        preamble,
        _bytes_of(rows),
        index,
        bytes(_padding(len(index))),
        _bytes_of(applied.requested_amount),
        extra,
    )
    hasher = blake3(start)
    for piece in pieces:  # piece by piece, because joining them first would copy the rows twice
        hasher.update(piece)
    digest = hasher.digest()
    return b"".join((start, digest, *pieces)), digest


def _fills(room: Room, rows: Words) -> bool:
    """Whether rows are the first of the room, and so many that no memory to speak of would be kept for nothing."""
    return 8 * rows.nbytes >= 7 * room.rows.nbytes and np.may_share_memory(rows[:1], room.rows[:1])


def _finished(data: memoryview, start: bytes, preamble: bytes, extra: bytes) -> tuple[memoryview, bytes]:
    """Put what is around the rows of a block into its place; return it, read-only, and its hash."""
    data[HEADER_BYTES : HEADER_BYTES + len(preamble)] = preamble
    if extra:
        data[-len(extra) :] = extra
    digest = blake3(start).update(data[HEADER_BYTES:]).digest()
    data[:HEADER_BYTES] = start + digest
    return data.toreadonly(), digest


def decode_header(data: bytes | memoryview) -> BlockHeader:
    """Read a block's header and check that the block has the length it says. Raises `BlockDamaged`."""
    if len(data) < HEADER_BYTES:
        raise BlockDamaged(f"a journal block of {len(data)} bytes is shorter than its header of {HEADER_BYTES}")
    magic, version, reserved, *fields = HEADER.unpack_from(data)
    tail = fields.pop(-3)
    if magic != MAGIC or reserved or tail:
        raise BlockDamaged("a journal block does not begin as one")
    if version != FORMAT_VERSION:
        raise BlockDamaged(f"journal block format {version} is unknown to this engine, which reads {FORMAT_VERSION}")
    header = BlockHeader._make(fields)
    if header.block_bytes != len(data):
        raise BlockDamaged(f"a journal block of {len(data)} bytes should have {header.block_bytes}")
    return header


def decode_block(data: bytes | memoryview) -> Block:
    """Decode a block; its hash is not checked here. Arrays are views of `data`. Raises `BlockDamaged`."""
    header = decode_header(data)
    view = memoryview(data)
    return Block(
        header,
        bytes(view[HEADER_BYTES : header.rows_at]),
        rows_of(view, header),
        np.frombuffer(view[header.requested_at : header.requested_at + header.requested * 4], "<u4"),
        np.frombuffer(view[header.amounts_at : header.extra_at], "<u8").reshape(-1, 2),
        bytes(view[header.extra_at :]),
    )


def rows_of(data: memoryview, header: BlockHeader) -> Words:
    """View a block's rows, shape (k, 16), read-only."""
    return np.frombuffer(data[header.rows_at : header.requested_at], "<u8").reshape(-1, RECORD_WORDS)


def hash_of(data: bytes | memoryview) -> bytes:
    """Compute the hash that stands, or should stand, in these bytes of a block."""
    view = memoryview(data)
    return blake3(view[:HASH_AT]).update(view[HEADER_BYTES:]).digest()


def check_block(data: bytes | memoryview, previous: bytes) -> BlockHeader:
    """Check that the block is whole and follows the one whose hash is `previous`. Raises `BlockDamaged`."""
    header = decode_header(data)
    if header.hash != hash_of(data):
        raise BlockDamaged("the block's hash does not fit its bytes")
    if header.previous_hash != previous:
        raise BlockDamaged("the block does not follow the one before it: their hashes differ")
    return header


def _bytes_of(words: Words) -> memoryview:
    """View words as bytes; only what is not contiguous is copied."""
    return words.reshape(-1).view(np.uint8).data


def _padding(length: int) -> int:
    return -length % _ALIGNMENT
