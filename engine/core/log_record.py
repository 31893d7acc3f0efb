"""A log record: what Raft replicates, one batch with its header (DESIGN §5). Format version 1.

Layout, little-endian::

    header   64 bytes   see `HEADER`
    callers  24 bytes each: who asked, for which run of rows, when first seen, which attempt
    names    the callers' identities, UTF-8, concatenated in caller order
    padding  zeros up to a multiple of 8, so that the rows are aligned
    rows     count x 128 bytes (`engine.core.records`)
    extra    SETTINGS: msgpack of `engine.core.settings.Settings`; STEPS: what to do with the rows (`step_record`)

The caller table holds what the repair path will need and nothing later could invent: who asked, when the request was
first seen by the leader, how often it was retried. The checksum covers everything behind it.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import xxhash

from engine.core.records import RECORD_BYTES, Words, as_words

FORMAT_VERSION: Final = 1

HEADER: Final = struct.Struct("<QHHIQIIIIQ16x")
"""checksum (xxh3-64 of all that follows it), format version, kind, rows, leader's timestamp ns, callers, names bytes,
padding bytes, extra bytes, term (0 until consensus knows it), 16 reserved bytes: 64 in all."""
HEADER_BYTES: Final = 64
CALLER: Final = struct.Struct("<IIHHIQ")
"""first row, rows, attempt, bytes of identity, reserved, first seen (ns UTC)."""

if HEADER.size != HEADER_BYTES:
    raise AssertionError("the header is 64 bytes")


class RecordKind(IntEnum):
    """Replicated format: append members, never renumber."""

    EVENTS = 1
    """Rows of transfers and account commands, in order. With no rows: a tick, so that due reservations expire."""
    SETTINGS = 2
    """Replaces the replicated settings; the first record of a group is one (genesis)."""
    STEPS = 3
    """Steps of cross-group chains; the payload of `engine.core.chains.step_record` is the extra."""


_KINDS: Final = {int(kind): kind for kind in RecordKind}


class Caller(NamedTuple):
    """Who asked for one run of rows of a record."""

    first_row: int
    rows: int
    identity: str
    first_seen_ns: int
    attempt: int = 1


class LogRecord(NamedTuple):
    """A decoded record; `rows` is a read-only view of the bytes."""

    kind: RecordKind
    timestamp_ns: int
    rows: Words
    extra: bytes
    preamble: bytes
    """Header, callers and names as they stand in the bytes: the journal keeps them."""

    @property
    def callers(self) -> tuple[Caller, ...]:
        """Who asked for which rows: read when somebody wants to know, not for each record that is applied."""
        return callers_of(self.preamble)


class LogRecordDamaged(ValueError):
    """The bytes are not a log record of a known version, or were altered."""


def encode_log_record(
    kind: RecordKind, rows: bytes | memoryview, *, timestamp_ns: int, callers: list[Caller], extra: bytes = b""
) -> bytes:
    """Build the bytes of one record from packed rows (n x 128 bytes)."""
    table, names = bytearray(), bytearray()
    for first_row, count, identity, first_seen_ns, attempt in callers:
        name = identity.encode()
        names += name
        table += CALLER.pack(first_row, count, min(attempt, 0xFFFF), len(name), 0, first_seen_ns)
    padding = -(len(table) + len(names)) % 8
    header = HEADER.pack(
        0,
        FORMAT_VERSION,
        kind,
        len(rows) // RECORD_BYTES,
        timestamp_ns,
        len(callers),
        len(names),
        padding,
        len(extra),
        0,
    )
    preamble = header[8:] + table + names + bytes(padding)
    checksum = xxhash.xxh3_64(preamble)
    checksum.update(rows)  # piece by piece, because joining them first would copy the rows twice
    checksum.update(extra)
    return b"".join((checksum.intdigest().to_bytes(8, "little"), preamble, rows, extra))


def decode_log_record(data: bytes | bytearray | memoryview) -> LogRecord:
    """Read and check one record; raise `LogRecordDamaged` with one sentence if it cannot be one."""
    view = memoryview(data)
    if len(view) < HEADER_BYTES:
        raise LogRecordDamaged(f"a log record of {len(view)} bytes is shorter than its header of {HEADER_BYTES}")
    checksum, version, kind, count, timestamp_ns, callers, names_bytes, padding, extra_bytes, _ = HEADER.unpack_from(
        view
    )
    if version != FORMAT_VERSION:
        raise LogRecordDamaged(f"log record format {version} is unknown to this engine, which reads {FORMAT_VERSION}")
    names_at = HEADER_BYTES + callers * CALLER.size
    rows_at = names_at + names_bytes + padding
    extra_at = rows_at + count * RECORD_BYTES
    if extra_at + extra_bytes != len(view):
        raise LogRecordDamaged(f"a log record of {len(view)} bytes should have {extra_at + extra_bytes}")
    if xxhash.xxh3_64_intdigest(view[8:]) != checksum:
        raise LogRecordDamaged("a log record's checksum does not fit its bytes")
    found = _KINDS.get(kind)  # quicker than to call the enum
    if found is None:
        raise LogRecordDamaged(f"log records of kind {kind} are unknown to this engine: upgrade it")
    return LogRecord(
        found,
        timestamp_ns,
        as_words(view[rows_at:extra_at]) if count else np.empty((0, 16), np.uint64),
        bytes(view[extra_at:]),
        bytes(view[:rows_at]),
    )


def kind_of(preamble: bytes | memoryview) -> RecordKind:
    """Return the kind of the record that a preamble was taken from."""
    return _KINDS[HEADER.unpack_from(preamble)[2]]


def callers_of(preamble: bytes | memoryview) -> tuple[Caller, ...]:
    """Return the callers of the record that a preamble was taken from, in the order of their rows."""
    view, (_, _, _, _, _, count, *_) = memoryview(preamble), HEADER.unpack_from(preamble)
    callers, at = [], HEADER_BYTES + count * CALLER.size
    for number in range(count):
        first, rows, attempt, length, _, seen = CALLER.unpack_from(view, HEADER_BYTES + number * CALLER.size)
        callers.append(Caller(first, rows, bytes(view[at : at + length]).decode(), seen, attempt))
        at += length
    return tuple(callers)
