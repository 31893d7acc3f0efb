"""Reading a batch of transfers off the wire: the bulk of a packed batch is never parsed, only found.

The outer message is walked by hand (three fields): the generated class would copy a megabyte to hand out the one
`bytes` field that matters. Anything unusual is left to the generated class, which also says what is malformed.
"""

from collections.abc import Set
from typing import Final

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from engine.core.limits import BATCH_TRANSFERS_MAX
from engine.core.records import RECORD_BYTES, RECORD_WORDS, Words
from engine.rpc.faults import CallFailed, Fault, Reason, invalid
from engine.rpc.typed import words_of_transfers
from postingengine.v1.posting_service_pb2 import PostTransfersRequest

_PACKED_TAG: Final = 0x12
_ATTEMPT_TAG: Final = 0x18
_BATCH_TAGS: Final = frozenset({_PACKED_TAG, _ATTEMPT_TAG})
_LENGTH_DELIMITED: Final = 2
_VARINT_BITS_MAX: Final = 70
_BYTES: Final = tuple(bytes((byte,)) for byte in range(256))
_WORD: Final = np.dtype("<u8")
ATTEMPT_MAX: Final = 65535


class Batch(msgspec.Struct, frozen=True):
    """A batch as it was asked for."""

    words: Words
    """Shape (n, 16), C-contiguous, aligned, writable: a copy of its own."""
    is_packed: bool
    """Whether it came packed, and is to be answered so."""
    attempt: int
    faults: list[Fault]
    """Items that cannot be a record (typed batches only), by ascending index; their rows are zeros but for LINKED."""


def read_batch(data: bytes) -> Batch:
    """Read a serialised `PostTransfersRequest`; raises `CallFailed` (INVALID_ARGUMENT)."""
    fields = read_fields(data, _BATCH_TAGS)
    if fields is None or _PACKED_TAG not in fields[1]:
        return _read_generated(data)
    numbers, pieces = fields
    attempt = numbers.get(_ATTEMPT_TAG, 0) & 0xFFFFFFFF
    return Batch(words_of_packed(pieces[_PACKED_TAG]), True, attempt_of(attempt), [])


def batch_of(request: PostTransfersRequest) -> Batch:
    """Read a parsed request; raises `CallFailed` (INVALID_ARGUMENT)."""
    if request.packed and request.transfers:
        raise CallFailed(
            invalid(Reason.BATCH_BOTH_FORMS, "a batch is either typed or packed, not both", field="transfers")
        )
    if request.packed:
        return Batch(words_of_packed(request.packed), True, attempt_of(request.attempt), [])
    require_count(len(request.transfers), "transfers")
    words, faults = words_of_transfers(request.transfers)
    return Batch(words, False, attempt_of(request.attempt), faults)


def words_of_packed(packed: bytes | memoryview) -> Words:
    """View packed records as words, shape (n, 16), writable, or copy them; raises `CallFailed` if there are none, too
    many, or a part of one."""
    size = len(packed)
    records = size // RECORD_BYTES
    if size % RECORD_BYTES:
        message = f"packed has {size} bytes, which is not a multiple of {RECORD_BYTES}"
        raise CallFailed(invalid(Reason.BATCH_LENGTH_ODD, message, field="packed"))
    require_count(records, "packed")
    words = np.frombuffer(packed, _WORD).reshape(records, RECORD_WORDS)
    # The compiled loops want them aligned; a field of a message lies at any address, but where a link has placed it.
    return words if words.flags.aligned and words.flags.writeable else words.copy()


def require_count(items: int, field: str) -> None:
    """Raise `CallFailed` unless a request has from 1 to `BATCH_TRANSFERS_MAX` items."""
    if items == 0:
        raise CallFailed(invalid(Reason.BATCH_EMPTY, f"{field} is empty; send at least one", field=field))
    if items > BATCH_TRANSFERS_MAX:
        message = f"{field} has {items} items, more than {BATCH_TRANSFERS_MAX}; split it"
        raise CallFailed(invalid(Reason.BATCH_TOO_LARGE, message, field=field))


def attempt_of(attempt: int) -> int:
    """Return the attempt's number: absent is the first."""
    if 1 <= attempt <= ATTEMPT_MAX:
        return attempt
    return ATTEMPT_MAX if attempt else 1


def encode_varint(number: int) -> bytes:
    """Return a non-negative number as protobuf's varint."""
    encoded = b""
    while number > 0x7F:
        encoded += _BYTES[number & 0x7F | 0x80]
        number >>= 7
    return encoded + _BYTES[number]


def _read_generated(data: bytes) -> Batch:
    try:
        request = PostTransfersRequest.FromString(data)
    except DecodeError as error:
        raise CallFailed(invalid(Reason.BATCH_UNREADABLE, "the request is not a PostTransfersRequest")) from error
    return batch_of(request)


def read_fields(data: bytes, known: Set[int]) -> tuple[dict[int, int], dict[int, memoryview]] | None:
    """Return the numbers and the bytes of a message by tag, if it has none but the `known` ones, of wire types 0 and 2,
    each once.

    None for any other message: the generated class reads it, or says what is malformed. One loop without a call in it:
    each lone post passes through here twice.
    """
    numbers: dict[int, int] = {}
    pieces: dict[int, memoryview] = {}
    view = memoryview(data)
    at, end = 0, len(view)
    try:
        while at < end:
            tag, at = view[at], at + 1
            if tag not in known or tag in numbers or tag in pieces:
                return None
            value, bits, byte = 0, 0, 0x80
            while byte & 0x80 and bits < _VARINT_BITS_MAX:
                byte, at = view[at], at + 1
                value |= (byte & 0x7F) << bits
                bits += 7
            if byte & 0x80:
                return None
            if tag & 7 != _LENGTH_DELIMITED:
                numbers[tag] = value
                continue
            if at + value > end:
                return None
            pieces[tag] = view[at : at + value]
            at += value
    except IndexError:  # cut off within a number
        return None
    return numbers, pieces
