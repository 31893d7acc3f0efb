"""Changing what a store has on disk, as damage or somebody with a purpose would: for tests of `verify`."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from engine.storage.block import HASH_AT, HASH_BYTES, decode_header, hash_of


@contextmanager
def database(folder: Path, name: bytes, environment: str = "store") -> Iterator[lmdb.Cursor]:
    """A cursor that may change one database."""
    with (
        lmdb.open(str(folder / environment), max_dbs=16, map_size=1 << 30) as opened_environment,
        opened_environment.begin(write=True) as transaction,
    ):
        yield transaction.cursor(db=opened_environment.open_db(name, txn=transaction))


def rewrite(folder: Path, change: Callable[[bytearray], None], blocks_from_end: int = 3) -> int:
    """Alter one block and seal it and all behind it anew, as somebody would who wants it to go unnoticed."""
    with database(folder, b"journal") as cursor:
        cursor.last()
        for _ in range(blocks_from_end):
            cursor.prev()
        position = decode_header(bytes(cursor.value())).first_position
        data = bytearray(cursor.value())
        change(data)
        while True:
            digest = hash_of(bytes(data))
            data[HASH_AT : HASH_AT + HASH_BYTES] = digest
            cursor.put(cursor.key(), bytes(data))
            if not cursor.next():
                break
            data = bytearray(cursor.value())
            data[HASH_AT - HASH_BYTES : HASH_AT] = digest
    with database(folder, b"state") as cursor:
        assert cursor.set_key(b"head")
        raw = bytearray(cursor.value())
        raw[-HASH_BYTES:] = digest
        cursor.put(b"head", bytes(raw))
    shutil.rmtree(folder / "views", ignore_errors=True)
    return position
