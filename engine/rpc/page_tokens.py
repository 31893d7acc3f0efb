"""Page tokens: opaque, bound to the arguments they were made for, and checked before they are believed."""

import base64
import binascii
from typing import Final

import msgspec
import xxhash

from engine.rpc.faults import CallFailed, Fault, Reason, invalid

TOKEN_CHARACTERS_MAX: Final = 1 << 16
"""One of a split account holds a token of every group."""
PAGE_SIZE_DEFAULT: Final = 1000
PAGE_SIZE_MAX: Final = 8190


def make_token(arguments: tuple[object, ...], state: tuple[object, ...]) -> str:
    """Return the token that goes on from `state` under the same arguments. Both of msgpack's types."""
    body = msgspec.msgpack.encode(state)
    return base64.urlsafe_b64encode(_checksum(arguments, body) + body).decode()


def read_token(token: str, arguments: tuple[object, ...]) -> list[object]:
    """Return the state of a token; raises `CallFailed` (PAGE_TOKEN_INVALID) if it is not of these arguments."""
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise CallFailed(_not_ours())
    try:
        data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        state = msgspec.msgpack.decode(data[8:], type=list[object])
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise CallFailed(_not_ours()) from error
    if data[:8] != _checksum(arguments, data[8:]):
        raise CallFailed(_not_ours())
    return state


def page_size_of(asked: int) -> int:
    """Return how many items a page has at most; raises `CallFailed` (INVALID_ARGUMENT) below 0."""
    if asked < 0:
        raise CallFailed(
            invalid(Reason.VALUE_OUT_OF_RANGE, f"page_size is {asked}; ask for 1 or more", field="page_size")
        )
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _checksum(arguments: tuple[object, ...], body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(msgspec.msgpack.encode(arguments) + body)


def _not_ours() -> Fault:
    message = "page_token belongs to other arguments, or to no page; begin again without one"
    return invalid(Reason.PAGE_TOKEN_INVALID, message, field="page_token")
