"""The runs of both families from the moment they leave the hash tables: waiting in memory, saved, merged.

Used on the apply thread only; the thread that merges sees nothing but immutable runs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import lmdb

from engine.core.records import Words
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.mapped import mapped
from engine.storage.ids.merging import Merge, due
from engine.storage.ids.run_store import Manifest, RunEntry, RunStore
from engine.storage.ids.runs import PART_BYTES, Directory, Run, directory_of, part_entries

PARTS_PER_SAVE: Final = 2
"""Parts that one transaction of the store carries beside its blocks: 1 MiB."""
WAITING_RUNS_MAX: Final = 4
"""New runs that wait in memory; with more, a transaction writes them all."""
UNMERGED_RUNS_MAX: Final = 16
"""Runs of one family; with more, a transaction waits for the thread that merges."""
_ALL: Final = 1 << 30


class NewRun(NamedTuple):
    """The newest entries of both families up to a position, on their way into the store."""

    end_position: int
    entries: dict[Family, Words]
    numbers: dict[Family, int]


class StoredRuns:
    """See the module's docstring."""

    def __init__(
        self, store: RunStore, part_bytes: int = PART_BYTES, unmerged_runs_max: int = UNMERGED_RUNS_MAX
    ) -> None:
        """Map the runs as last saved."""
        self._store, self._part_bytes, self._unmerged_runs_max = store, part_bytes, unmerged_runs_max
        self._manifest = store.manifest()
        self._next_number = 1 + max((entry.number for entry in self._manifest.runs), default=0)
        self._runs: dict[Family, list[Run]] = {family: [] for family in Family}
        self._waiting: list[NewRun] = []
        self._written_parts = 0
        self._merge: Merge | None = None
        self._merged_parts = 0
        self._executor = ThreadPoolExecutor(1, "merge-ids")
        self.written()

    @property
    def seed(self) -> int:
        """Seed of the fingerprints."""
        return self._manifest.seed

    @property
    def covered_position(self) -> int:
        """All rows below are in saved runs."""
        return self._manifest.covered_position

    @property
    def runs(self) -> dict[Family, list[Run]]:
        """The saved runs of each family, oldest first."""
        return self._runs

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written or merged."""
        return not self._waiting and self._merge is None and not any(due(runs) for runs in self._runs.values())

    def directory(self, family: Family) -> Directory:
        """Where all runs of a family are, the waiting ones too."""
        return self._directories[family]

    def close(self) -> None:
        """End the merging thread; what it computed and nobody wrote is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._merge = None

    def queue(self, entries: dict[Family, Words], end_position: int) -> None:
        """Take over entries in order of their keys: all those of the rows from the last call's end to
        `end_position`."""
        entries = {family: words for family, words in entries.items() if len(words)}
        self._waiting.append(NewRun(end_position, entries, {family: self._take_number() for family in entries}))
        self._lay_out()

    def write(self, transaction: lmdb.Transaction, *, merge: bool = True) -> bool:
        """Write what is due, bounded, within the store's transaction; return whether other runs count from it on.
        Then `written` must be called after the commit. Without `merge`, merges rest."""
        before = self._manifest
        budget = PARTS_PER_SAVE if len(self._waiting) <= WAITING_RUNS_MAX else _ALL
        while self._waiting and budget:
            self._write_new_part(transaction)
            budget -= 1
        if merge:
            self._begin_merge()
            while budget and self._write_merged_part(transaction):
                budget -= 1
        # The seed goes before anything made with it.
        if self._manifest is not before or not before.runs:
            self._store.put_manifest(transaction, self._manifest)
        return self._manifest is not before

    def written(self) -> None:
        """After the commit of a `write` that said so: map the runs that count now."""
        for family in Family:
            mapped_already = {run.number: run for run in self._runs[family]}
            entries = [entry for entry in self._manifest.runs if entry.family == family]
            self._runs[family] = [mapped_already.get(entry.number) or self._store.load(entry) for entry in entries]
        self._lay_out()

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _lay_out(self) -> None:
        self._directories: dict[Family, Directory] = {
            family: directory_of([*self._waiting_runs(family), *runs]) for family, runs in self._runs.items()
        }

    def _waiting_runs(self, family: Family) -> list[Run]:
        return [
            Run(new.numbers[family], 0, (mapped(new.entries[family], WIDTH[family]),))
            for new in self._waiting
            if family in new.entries
        ]

    def _write_new_part(self, transaction: lmdb.Transaction) -> None:
        """Write one part of the oldest waiting run; behind the last part, let the run count."""
        new = self._waiting[0]
        parts = [(family, part) for family in new.entries for part in range(self._parts(new, family))]
        if self._written_parts < len(parts):
            self._put_new_part(transaction, new, *parts[self._written_parts])
            self._written_parts += 1
        if self._written_parts >= len(parts):
            self._waiting.pop(0)
            self._written_parts = 0
            added = (RunEntry(family, new.numbers[family], 0, self._parts(new, family)) for family in new.entries)
            runs = (*self._manifest.runs, *added)
            self._manifest = Manifest(self.seed, new.end_position, runs)

    def _put_new_part(self, transaction: lmdb.Transaction, new: NewRun, family: Family, part: int) -> None:
        size = part_entries(family, self._part_bytes)
        entries = new.entries[family][part * size : (part + 1) * size]
        self._store.put_part(transaction, family, new.numbers[family], part, entries)

    def _parts(self, new: NewRun, family: Family) -> int:
        return -(-len(new.entries[family]) // part_entries(family, self._part_bytes))

    def _begin_merge(self) -> None:
        for family, runs in self._runs.items():
            chosen = due(runs) if self._merge is None else []
            if chosen:
                size = part_entries(family, self._part_bytes)
                self._merge = Merge(family, self._take_number(), chosen, size, self._executor)
                self._merged_parts = 0

    def _write_merged_part(self, transaction: lmdb.Transaction) -> bool:
        """Write the merge's next part; False if there is none yet, or none left."""
        merge = self._merge
        if merge is None:
            return False
        part = merge.part(wait=len(self._runs[merge.family]) > self._unmerged_runs_max)
        if part is None:
            return False
        if not len(part):
            self._end_merge(transaction, merge)
            return False
        self._store.put_part(transaction, merge.family, merge.number, self._merged_parts, part)
        self._merged_parts += 1
        return True

    def _end_merge(self, transaction: lmdb.Transaction, merge: Merge) -> None:
        """Let the merged run count instead of its sources."""
        sources = {(merge.family, run.number) for run in merge.runs}
        kept = [entry for entry in self._manifest.runs if (entry.family, entry.number) not in sources]
        for entry in self._manifest.runs:
            if entry not in kept:
                self._store.delete(transaction, entry)
        merged = RunEntry(merge.family, merge.number, merge.level, self._merged_parts)
        self._manifest = Manifest(self.seed, self.covered_position, (*kept, merged))
        self._merge = None
