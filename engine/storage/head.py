"""Where the store stands: the end of the journal, written in the same transaction as its blocks."""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import lmdb

from engine.storage.block import GENESIS_HASH

if TYPE_CHECKING:
    from lmdb import _Database

KEY: Final = b"head"
_LAYOUT: Final = struct.Struct("<QQQ32s")


class Head(NamedTuple):
    """The last applied log record, and what follows from it."""

    log_index: int = 0
    term: int = 0
    next_position: int = 0
    """The journal position of the next row."""
    hash: bytes = GENESIS_HASH
    """The running hash: of the last block (DESIGN §6)."""


def read_head(transaction: lmdb.Transaction, state: "_Database") -> Head:
    """Return the head as last saved; that of an empty journal for a new store."""
    found = transaction.get(KEY, db=state)
    return Head() if found is None else Head._make(_LAYOUT.unpack(found))


def write_head(transaction: lmdb.Transaction, state: "_Database", head: Head) -> None:
    """Write the head."""
    transaction.put(KEY, _LAYOUT.pack(*head), db=state)
