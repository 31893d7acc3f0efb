"""Sorted runs in LMDB: their parts, and the manifest that says which of them count.

A run counts from the transaction that names it in the manifest; parts that no manifest names were left by a process
that ended in between, and are swept at the next start.
"""

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from engine.core.records import Words
from engine.exit_codes import ExitCode, require
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.mapped import MappedWords, mapped
from engine.storage.ids.runs import Run
from engine.storage.sealed import CHECKSUM_BYTES, has_checksum, seal, unseal, with_checksum

if TYPE_CHECKING:
    from lmdb import _Database

DATABASE: Final = b"runs"
KEY: Final = struct.Struct(">BQI")
MANIFEST_KEY: Final = b"id runs"
MANIFEST_VERSION: Final = 1


class RunEntry(msgspec.Struct, frozen=True):
    """A run as the manifest names it."""

    family: int
    number: int
    level: int
    parts: int


class Manifest(msgspec.Struct, frozen=True):
    """Which runs count, and how far in the journal they reach."""

    seed: int
    """Of the fingerprints: this store's own, drawn when it was made, so that no caller can know it."""
    covered_position: int = 0
    """All rows below have their entries in the runs."""
    runs: tuple[RunEntry, ...] = ()
    version: int = MANIFEST_VERSION


class RunStore:
    """The stored runs of both families."""

    def __init__(self, environment: lmdb.Environment, state: "_Database", folder: Path) -> None:
        """Open the database of parts; `state` is the handle of the store's small values, where the manifest is."""
        self._environment, self._folder = environment, folder
        self._state = state
        self._database = environment.open_db(DATABASE, create=not environment.flags()["readonly"])

    def manifest(self) -> Manifest:
        """Return the manifest as last committed; a new one for a new store."""
        with self._environment.begin() as transaction:
            found = transaction.get(MANIFEST_KEY, db=self._state)
        if found is None:
            return Manifest(int.from_bytes(os.urandom(8), "little"))
        return unseal(found, Manifest, self._folder)

    def put_manifest(self, transaction: lmdb.Transaction, manifest: Manifest) -> None:
        """Write the manifest: from this transaction on its runs count, and no others."""
        transaction.put(MANIFEST_KEY, seal(manifest), db=self._state)

    def put_part(self, transaction: lmdb.Transaction, family: Family, number: int, part: int, entries: Words) -> None:
        """Write one part of a run that does not count yet."""
        transaction.put(KEY.pack(family, number, part), with_checksum(entries.tobytes()), db=self._database)

    def delete(self, transaction: lmdb.Transaction, entry: RunEntry) -> None:
        """Delete a run's parts. Its addresses must not be used after the commit."""
        for part in range(entry.parts):
            transaction.delete(KEY.pack(entry.family, entry.number, part), db=self._database)

    def load(self, entry: RunEntry) -> Run:
        """Map a committed run. Raises `EngineStopped(DATA_DAMAGED)`."""
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            parts = tuple(self._map(transaction, entry, part) for part in range(entry.parts))
        return Run(entry.number, entry.level, parts)

    def _map(self, transaction: lmdb.Transaction, entry: RunEntry, part: int) -> MappedWords:
        found = transaction.get(KEY.pack(entry.family, entry.number, part))
        require(
            found is not None and has_checksum(found),
            ExitCode.DATA_DAMAGED,
            f"part {part} of id run {entry.number} in {self._folder} is damaged: restore or replace this replica",
        )
        return mapped(memoryview(found or b"")[:-CHECKSUM_BYTES], WIDTH[Family(entry.family)])

    def sweep(self, transaction: lmdb.Transaction, manifest: Manifest) -> None:
        """Delete the parts of runs that the manifest does not name."""
        named = {(entry.family, entry.number) for entry in manifest.runs}
        cursor = transaction.cursor(db=self._database)
        stale = [key for key in cursor.iternext(values=False) if KEY.unpack(key)[:2] not in named]
        for key in stale:
            transaction.delete(key, db=self._database)
