"""Small values with a digest before them, and large ones with a checksum behind: damage is found when they are read."""

from pathlib import Path
from typing import Final, TypeVar

import msgspec
import xxhash
from blake3 import blake3

from engine.exit_codes import EngineStopped, ExitCode

Manifest = TypeVar("Manifest", bound=msgspec.Struct)

DIGEST_BYTES: Final = 16
CHECKSUM_BYTES: Final = 8


def seal(manifest: msgspec.Struct) -> bytes:
    """Return the first 16 bytes of the BLAKE3 digest of the msgpack, then the msgpack."""
    data = msgspec.msgpack.encode(manifest)
    return _digest(data) + data


def unseal(sealed: bytes, kind: type[Manifest], folder: Path) -> Manifest:
    """Inverse of `seal`; raises `EngineStopped(DATA_DAMAGED)` on anything else."""
    data = sealed[DIGEST_BYTES:]
    try:
        if sealed[:DIGEST_BYTES] != _digest(data):
            raise ValueError("its digest does not fit")
        return msgspec.msgpack.decode(data, type=kind)
    except ValueError as error:  # msgspec's errors are ValueErrors
        raise EngineStopped(
            ExitCode.DATA_DAMAGED,
            f"a manifest of {folder} is damaged ({error}): restore or replace this replica",
        ) from error


def with_checksum(data: bytes) -> bytes:
    """Return the data with their xxh3-64 behind them."""
    return data + xxhash.xxh3_64_digest(data)


def has_checksum(value: bytes | memoryview) -> bool:
    """Whether the value ends in the checksum of what is before."""
    view = memoryview(value)
    return xxhash.xxh3_64_digest(view[:-CHECKSUM_BYTES]) == view[-CHECKSUM_BYTES:]


def _digest(data: bytes) -> bytes:
    return blake3(data).digest(DIGEST_BYTES)
