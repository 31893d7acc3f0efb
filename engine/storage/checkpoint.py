"""Checkpoints: the account table, the open reservations and chains, as they were at one position of the journal.

A checkpoint begins with a copy in memory of what changed since the last one (chunks of 512 KiB, all that is open),
which is the only part that apply waits for. The copies go to LMDB a few at a time, beside the journal's blocks, under a
new generation; the transaction that writes the last of them lets the new checkpoint count and deletes what it replaces.
A start loads it and rolls the journal forward from its position.
"""

import struct
from typing import Final, NamedTuple

import lmdb
import msgspec
import numpy as np

from engine.core.book import CHUNK_ROWS, Book, BookScalars
from engine.core.records import RECORD_BYTES, RECORD_WORDS, Words
from engine.core.settings import Settings
from engine.exit_codes import ExitCode, require
from engine.storage.block import GENESIS_HASH
from engine.storage.environment import writing
from engine.storage.head import Head
from engine.storage.sealed import has_checksum, seal, unseal, with_checksum
from engine.storage.store import Store

DATABASE: Final = b"checkpoint"
MANIFEST_KEY: Final = b"checkpoint"
MANIFEST_VERSION: Final = 1
KEY: Final = struct.Struct(">cIQ")
ACCOUNTS: Final = b"a"
RESERVATIONS: Final = b"r"
CHAINS: Final = b"c"
CHUNKS_PER_SAVE: Final = 4
"""Chunks that one transaction of the store carries beside its blocks: 2 MiB."""
JOURNAL_BYTES: Final = 64 << 20
"""A checkpoint begins after so much journal, or twice the account table if that is more: a start replays no more than
that, and a checkpoint writes no more than half as much again as the journal."""


class Manifest(msgspec.Struct, frozen=True):
    """The checkpoint that counts."""

    generation: int = 0
    log_index: int = 0
    hash: bytes = GENESIS_HASH
    """The running hash there: the block behind must follow it."""
    next_position: int = 0
    last_timestamp_ns: int = 0
    account_count: int = 0
    account_chunks: tuple[int, ...] = ()
    """The generation that each chunk of the account table was last written in."""
    reservation_chunks: int = 0
    settings: Settings | None = None
    chain_chunks: int = 0
    version: int = MANIFEST_VERSION


class _Chunk(NamedTuple):
    section: bytes
    number: int
    rows: Words


class Checkpoints:
    """Reads and writes checkpoints. Used on the apply thread only."""

    def __init__(self, store: Store, *, journal_bytes: int = JOURNAL_BYTES) -> None:
        """`journal_bytes`: begin a checkpoint after so much journal."""
        self._store = store
        self._journal_bytes_max = journal_bytes
        self._journal_bytes = 0
        readonly = store.environment.flags()["readonly"]
        self._database = store.environment.open_db(DATABASE, create=not readonly)
        self.manifest = self._read_manifest()
        self._pending: list[_Chunk] = []
        self._next: Manifest | None = None

    def load(self, group: int) -> Book:
        """Build the book as it was at `manifest.next_position`. Raises DATA_DAMAGED if chunks lack."""
        saved = self.manifest
        chunks = [self._chunk(ACCOUNTS, number, made) for number, made in enumerate(saved.account_chunks)]
        reserved = [self._chunk(RESERVATIONS, number, saved.generation) for number in range(saved.reservation_chunks)]
        opened = [self._chunk(CHAINS, number, saved.generation) for number in range(saved.chain_chunks)]
        scalars = BookScalars(saved.account_count, saved.last_timestamp_ns, saved.next_position)
        return Book.restore(group, saved.settings, scalars, chunks, _joined(reserved), _joined(opened))

    def sweep(self) -> None:
        """Delete chunks of a checkpoint that never counted."""
        named = set(self._keys(self.manifest))
        with writing(self._store.environment, self._store.folder) as transaction:
            cursor = transaction.cursor(db=self._database)
            for key in [key for key in cursor.iternext(values=False) if key not in named]:
                transaction.delete(key, db=self._database)

    @property
    def in_progress(self) -> bool:
        """Whether one has begun and does not count yet."""
        return self._next is not None

    def note(self, journal_bytes: int) -> None:
        """So many bytes of journal were appended."""
        self._journal_bytes += journal_bytes

    def due(self, book: Book) -> bool:
        """Whether it is time to begin one."""
        least = max(self._journal_bytes_max, 2 * book.account_count * RECORD_BYTES)
        return self._next is None and self._journal_bytes >= least

    def begin(self, book: Book, head: Head) -> None:
        """Copy what changed since the last one. The book must stand exactly at `head`."""
        generation = self.manifest.generation + 1
        dirty = book.dirty_account_chunks()
        made = list(self.manifest.account_chunks)
        made += [generation] * (-(-book.account_count // CHUNK_ROWS) - len(made))
        for chunk in dirty:
            made[chunk] = generation
        reservations, chains = _split(book.open_reservations()), _split(book.open_chains())
        self._pending = [_Chunk(ACCOUNTS, chunk, book.account_chunk(chunk).copy()) for chunk in dirty]
        self._pending += [_Chunk(RESERVATIONS, number, rows) for number, rows in enumerate(reservations)]
        self._pending += [_Chunk(CHAINS, number, rows) for number, rows in enumerate(chains)]
        self._next = Manifest(
            generation,
            head.log_index,
            head.hash,
            head.next_position,
            book.last_timestamp_ns,
            book.account_count,
            tuple(made),
            len(reservations),
            book.settings,
            len(chains),
        )
        book.clear_dirty()
        self._journal_bytes = 0

    def write(self, transaction: lmdb.Transaction, chunks: int = CHUNKS_PER_SAVE) -> None:
        """Write some chunks of the checkpoint in progress; behind the last one, let it count."""
        if self._next is None:
            return
        for _ in range(min(chunks, len(self._pending))):
            chunk = self._pending.pop()
            key = KEY.pack(chunk.section, chunk.number, self._next.generation)
            transaction.put(key, with_checksum(chunk.rows.tobytes()), db=self._database)
        if not self._pending:
            self._replace(transaction, self._next)

    def _replace(self, transaction: lmdb.Transaction, following: Manifest) -> None:
        kept = set(self._keys(following))
        for key in self._keys(self.manifest):
            if key not in kept:
                transaction.delete(key, db=self._database)
        transaction.put(MANIFEST_KEY, seal(following), db=self._store.state)
        self.manifest, self._next = following, None

    def _keys(self, manifest: Manifest) -> list[bytes]:
        accounts = [KEY.pack(ACCOUNTS, number, made) for number, made in enumerate(manifest.account_chunks)]
        made = manifest.generation
        sections = ((RESERVATIONS, manifest.reservation_chunks), (CHAINS, manifest.chain_chunks))
        return accounts + [KEY.pack(section, number, made) for section, count in sections for number in range(count)]

    def _read_manifest(self) -> Manifest:
        with self._store.environment.begin() as transaction:
            found = transaction.get(MANIFEST_KEY, db=self._store.state)
        return Manifest() if found is None else unseal(found, Manifest, self._store.folder)

    def _chunk(self, section: bytes, number: int, generation: int) -> Words:
        with self._store.environment.begin(db=self._database) as transaction:
            found = transaction.get(KEY.pack(section, number, generation))
        require(
            found is not None and has_checksum(found),
            ExitCode.DATA_DAMAGED,
            f"chunk {number} of checkpoint {generation} in {self._store.folder} is damaged: replace this replica",
        )
        return np.frombuffer(found or b"", np.uint64)[:-1].reshape(-1, RECORD_WORDS)


def _joined(chunks: list[Words]) -> Words:
    return np.concatenate(chunks) if chunks else np.empty((0, RECORD_WORDS), np.uint64)


def _split(rows: Words) -> list[Words]:
    return [rows[first : first + CHUNK_ROWS] for first in range(0, len(rows), CHUNK_ROWS)]
