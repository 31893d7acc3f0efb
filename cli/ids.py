"""Ids as people write them: a UUID, 32 hexadecimal digits, a decimal number, or `name:Some:Account`."""

import hashlib
import re
import uuid
from typing import Final

ID_BYTES: Final = 16
ID_MAX: Final = (1 << 128) - 1
NAME_PREFIX: Final = "name:"
UUID_VERSION_CUSTOM: Final = 8
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{32}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DECIMAL: Final = re.compile(r"[0-9]{1,39}")
_NAME_DIGEST_PERSON: Final = b"posting-engine"


def parse_id(text: str) -> bytes:
    """Return the 16 bytes that `text` means; raises ValueError with one sentence.

    32 digits are hexadecimal; a shorter or longer run of digits is a decimal number, big-endian in the id. The id of
    `name:TEXT` is derived from the text alone, the same everywhere and for ever.
    """
    if text.startswith(NAME_PREFIX):
        return id_of_name(text.removeprefix(NAME_PREFIX))
    if _UUID.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return _checked(bytes.fromhex(text.replace("-", "")))
    if _DECIMAL.fullmatch(text) and int(text) <= ID_MAX:
        return _checked(int(text).to_bytes(ID_BYTES, "big"))
    raise ValueError(f"{text!r} is not an id: write a UUID, 32 hexadecimal digits, a decimal number, or name:TEXT")


def id_of_name(name: str) -> bytes:
    """Derive an id from a name: BLAKE2b-128, marked as a UUID of version 8 (RFC 9562); ValueError if empty."""
    if not name:
        raise ValueError("a name: id needs a name after the colon")
    digest = bytearray(hashlib.blake2b(name.encode(), digest_size=ID_BYTES, person=_NAME_DIGEST_PERSON).digest())
    digest[6] = (digest[6] & 0x0F) | (UUID_VERSION_CUSTOM << 4)
    digest[8] = (digest[8] & 0x3F) | 0x80
    return bytes(digest)


def id_text(value: bytes) -> str:
    """Write an id as people read it: a UUID."""
    return str(uuid.UUID(bytes=value))


def _checked(value: bytes) -> bytes:
    if not any(value):
        raise ValueError("the id of all zeros means none: choose another one")
    return value
