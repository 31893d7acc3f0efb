"""Ids: 16 opaque bytes, given as such, as `uuid.UUID`, or as an int; new ones are time-ordered (DESIGN §4)."""

import os
import struct
import threading
import time
import uuid
from typing import Final, TypeAlias

Id: TypeAlias = bytes | uuid.UUID | int
"""16 bytes; a `uuid.UUID` stands for its `bytes`; an int, 0 to 2^128-1, for its 16 bytes in big-endian order."""

ID_BYTES: Final = 16
NO_ID: Final = bytes(ID_BYTES)

_NS_PER_MS: Final = 1_000_000
_PAIR: Final = struct.Struct(">QQ")
_VERSION_7: Final = 7 << 12
_VARIANT: Final = 2 << 62
_LOW_RANDOM_MASK: Final = (1 << 61) - 1
"""The lower half starts at a random number with its top bit clear: there is room to count up from it."""
_HIGH_RANDOM_MASK: Final = (1 << 12) - 1


def as_id(value: Id, field: str = "id") -> bytes:
    """Return the 16 bytes of an id; raises ValueError or TypeError naming the field."""
    if isinstance(value, bytes):
        if len(value) == ID_BYTES:
            return value
        raise ValueError(f"{field} has {len(value)} bytes; an id has {ID_BYTES}")
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 1 << 128:
            return value.to_bytes(ID_BYTES, "big")
        raise ValueError(f"{field} is {value}; as an int it may be 0 to 2^128-1")
    raise TypeError(f"{field} is a {type(value).__name__}; it may be 16 bytes, a uuid.UUID or an int")


class IdSource:
    """Makes UUIDs of version 7: the time in milliseconds, then a random number that counts up within a millisecond.

    Bytewise ascending within a process, also when the clock is set back, from any number of threads; and unlike any
    other process's by 73 random bits a millisecond.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time_ms = 0
        self._high = self._low = 0

    def new(self) -> bytes:
        """Return the next id, 16 bytes."""
        now_ms = time.time_ns() // _NS_PER_MS
        with self._lock:
            if now_ms > self._time_ms:
                self._time_ms = now_ms
                bits = random_bits(10)
                self._high = now_ms << 16 | _VERSION_7 | bits >> 64 & _HIGH_RANDOM_MASK
                self._low = _VARIANT | bits & _LOW_RANDOM_MASK
            else:
                self._low += 1
            return _PAIR.pack(self._high, self._low)

    def forget(self) -> None:
        """Begin anew: a forked child must not count on where its parent does."""
        self.__init__()  # type: ignore[misc]


def random_bits(octets: int) -> int:
    """Return a random number of that many bytes, from the operating system."""
    return int.from_bytes(os.urandom(octets), "big")


_source: Final = IdSource()
os.register_at_fork(after_in_child=_source.forget)

new_id_bytes = _source.new
"""Return a new time-ordered id as 16 bytes."""


def new_id() -> uuid.UUID:
    """Return a new time-ordered id: later ones are greater, bytewise, within a process."""
    return uuid.UUID(bytes=_source.new())
