"""Requests and answers as bytes, where the generated messages would cost the hot path a copy."""

from typing import Final

SERVICE: Final = "/postingengine.v1.PostingService/"
POST_TRANSFERS: Final = SERVICE + "PostTransfers"
STREAM_TRANSFERS: Final = SERVICE + "StreamTransfers"
CREATE_ACCOUNTS: Final = SERVICE + "CreateAccounts"
UPDATE_ACCOUNTS: Final = SERVICE + "UpdateAccounts"
GET_ACCOUNTS: Final = SERVICE + "GetAccounts"
GET_TRANSFERS: Final = SERVICE + "GetTransfers"
LIST_ENTRIES: Final = SERVICE + "ListEntries"
GET_BALANCE_AT: Final = SERVICE + "GetBalanceAt"
LIST_LEDGERS: Final = SERVICE + "ListLedgers"

_BYTES: Final = tuple(bytes((byte,)) for byte in range(256))
_PACKED_TAG: Final = b"\x12"
"""PostTransfersRequest.packed: field 2, length-delimited."""
_ATTEMPT_TAG: Final = b"\x18"
"""PostTransfersRequest.attempt: field 3, varint."""
_BATCH_NUMBER_TAG: Final = b"\x08"
"""StreamTransfersRequest.batch_number: field 1, varint."""
_BATCH_TAG: Final = b"\x12"
"""StreamTransfersRequest.batch: field 2, length-delimited."""
_TIMEOUT_MS_TAG: Final = b"\x18"
"""StreamTransfersRequest.timeout_ms: field 3, varint."""


def packed_request(packed: bytes | bytearray, attempt: int) -> bytes:
    """Return the serialised PostTransfersRequest of packed records: one copy, where a message would take two."""
    return b"".join((_PACKED_TAG, varint(len(packed)), packed, _ATTEMPT_TAG, varint(attempt)))


def numbered_request(number: int, request: bytes, timeout_ms: int) -> bytes:
    """Return the serialised StreamTransfersRequest of a serialised PostTransfersRequest."""
    head, tail = _BATCH_NUMBER_TAG + varint(number), _TIMEOUT_MS_TAG + varint(timeout_ms)
    return b"".join((head, _BATCH_TAG, varint(len(request)), request, tail))


def varint(number: int) -> bytes:
    """Return a number from 0 on as protobuf writes it."""
    encoded = b""
    while number > 0x7F:
        encoded += _BYTES[number & 0x7F | 0x80]
        number >>= 7
    return encoded + _BYTES[number]
