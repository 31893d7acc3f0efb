"""Runs of entries in LMDB, and how far they reach."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec
import numpy as np
import numpy.typing as npt

from engine.storage.block import GENESIS_HASH
from engine.storage.environment import explained, open_environment, writing
from engine.storage.journal import Journal
from engine.storage.sealed import seal, unseal
from engine.storage.views.run import Section, Sections

DATABASE: Final = b"entries"
STATE: Final = b"state"
MANIFEST_KEY: Final = b"manifest"
MANIFEST_VERSION: Final = 1
_WIDE: Final = frozenset({Section.SUMS, Section.VALUE_SUMS, Section.VALUE_TIMES})
"""Sections of u64; the others are of u32."""


class RunInfo(msgspec.Struct, frozen=True):
    """One run, as the manifest names it."""

    first_position: int
    end_position: int
    first_value_ns: int
    """The earliest and the latest value time of its movements; both 0 if it has none."""
    last_value_ns: int
    last_ns: int
    """Timestamp of its last row."""


class Manifest(msgspec.Struct, frozen=True):
    """The runs, in order, without gaps from position 0 on."""

    runs: tuple[RunInfo, ...] = ()
    log_index: int = 0
    """Of the last block in them."""
    hash: bytes = GENESIS_HASH
    """Of that block: runs that were made of another journal are dropped."""
    version: int = MANIFEST_VERSION

    @property
    def end_position(self) -> int:
        """The first position that is in no run."""
        return self.runs[-1].end_position if self.runs else 0


class ViewStore:
    """The views' environment. Written by one thread, read by any."""

    def __init__(self, folder: Path, *, map_bytes_max: int, readonly: bool = False) -> None:
        """Open or create it; an offline tool opens it read-only. Raises `EngineStopped`."""
        self._folder = folder
        self._environment = open_environment(folder, map_bytes_max=map_bytes_max, readonly=readonly)
        with explained(folder):
            self._runs = self._environment.open_db(DATABASE, create=not readonly)
            self._state = self._environment.open_db(STATE, create=not readonly)

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def manifest(self) -> Manifest:
        """Return the manifest as last committed."""
        with self._environment.begin(db=self._state) as transaction:
            found = transaction.get(MANIFEST_KEY)
        return Manifest() if found is None else unseal(found, Manifest, self._folder)

    def manifest_for(self, journal: Journal) -> Manifest:
        """Return the manifest if its runs were made of this journal; else drop them all."""
        manifest = self.manifest()
        if not manifest.runs:
            return manifest
        block = journal.block_of(manifest.log_index)
        if block is not None and (block.header.hash, block.header.end_position) == (
            manifest.hash,
            manifest.end_position,
        ):
            return manifest
        with writing(self._environment, self._folder) as transaction:
            transaction.drop(self._runs, delete=False)
            transaction.delete(MANIFEST_KEY, db=self._state)
        return Manifest()

    def add(self, manifest: Manifest, sections: Sections) -> None:
        """Write the last run of `manifest`, and let it count."""
        first = manifest.runs[-1].first_position
        with writing(self._environment, self._folder) as transaction:
            for section, words in sections.items():
                transaction.put(_key(first, section), words.tobytes(), db=self._runs)
            transaction.put(MANIFEST_KEY, seal(manifest), db=self._state)

    @contextmanager
    def reading(self) -> Iterator["RunReader"]:
        """Read runs within one block; what it gave is void behind it."""
        with self._environment.begin(db=self._runs, buffers=True) as transaction:
            yield RunReader(transaction)


class RunReader:
    """Maps sections within one read transaction."""

    def __init__(self, transaction: lmdb.Transaction) -> None:
        """Read in `transaction`, of the database of runs."""
        self._transaction = transaction

    def sections(self, run: RunInfo) -> Sections:
        """Map a run's sections, read-only, each when it is first asked for."""
        return _Mapped(self._transaction, run.first_position)


class _Mapped(dict[Section, npt.NDArray[Any]]):
    def __init__(self, transaction: lmdb.Transaction, first_position: int) -> None:
        super().__init__()
        self._transaction, self._first_position = transaction, first_position

    def __missing__(self, section: Section) -> npt.NDArray[Any]:
        found = self._transaction.get(_key(self._first_position, section), b"")
        # A small value may lie at any even address.
        words = bytes(found) if len(found) < _UNALIGNED_BYTES_MAX else found
        self[section] = np.frombuffer(words, np.uint64 if section in _WIDE else np.uint32)
        return self[section]


_UNALIGNED_BYTES_MAX: Final = 64 << 10


def _key(first_position: int, section: Section) -> bytes:
    return first_position.to_bytes(8, "big") + section.to_bytes(1, "big")
