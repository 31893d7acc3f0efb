"""Merging sorted runs in the background: a thread computes one part at a time, the store's next transaction writes it.

Only one finished part waits at any moment, so a merge of any size takes bounded memory, and a transaction as few bytes
more as its caller allows.
"""

from concurrent.futures import Executor, Future
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.compiled import entry, outlined
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.mapped import word_at
from engine.storage.ids.newest import combine, same_followed
from engine.storage.ids.runs import Run, directory_of

RUNS_PER_MERGE: Final = 4
"""Runs of one level that make one of the next."""

_U64: Final = "u8[::1]"
_I64: Final = "i8[::1]"


@outlined
def _same_id(out: Words, count: int, entry: npt.NDArray[np.uint64]) -> int:
    """Return which of the last entries, all of one fingerprint, is of the same id; -1 if none."""
    at = count - 1
    while at >= 0 and out[at, 0] == entry[0]:
        if same_followed(out[at], entry):
            return at
        at -= 1
    return -1


@entry(f"i8({_I64}, {_U64}, {_I64}, {_I64}, {_I64}, {_U64}, u8[:, ::1])")
def _merge(
    run_starts: npt.NDArray[np.int64],
    addresses: npt.NDArray[np.uint64],
    entries: npt.NDArray[np.int64],
    part_at: npt.NDArray[np.int64],
    entry_at: npt.NDArray[np.int64],
    least_entry: npt.NDArray[np.uint64],
    out: Words,
) -> int:
    """Move entries in order from the runs, from where `part_at` and `entry_at` stand in each, until `out` is full."""
    width, count = out.shape[1], 0
    while True:
        least = -1
        key = np.uint64(0xFFFFFFFFFFFFFFFF)
        for run in range(len(part_at)):
            if part_at[run] < run_starts[run + 1]:
                head = word_at(addresses[part_at[run]], entry_at[run] * width)
                if least < 0 or head < key:
                    least, key = run, head
        if least < 0:
            return count
        part, at = part_at[least], entry_at[least]
        for word in range(width):
            least_entry[word] = word_at(addresses[part], at * width + word)
        same = _same_id(out, count, least_entry) if width > 2 else -1
        if same >= 0:
            combine(out[same], least_entry)
        elif count == len(out):
            return count
        else:
            for word in range(width):
                out[count, word] = least_entry[word]
            count += 1
        entry_at[least] += 1
        if entry_at[least] == entries[part]:
            part_at[least] += 1
            entry_at[least] = 0


class Merge:
    """One merge in progress: `part` gives its parts one by one."""

    def __init__(self, family: Family, number: int, runs: list[Run], part_entries: int, executor: Executor) -> None:
        """Begin to merge `runs` of one level into run `number` of the next."""
        self.family, self.number, self.runs = family, number, runs
        self.level = runs[0].level + 1
        self._directory = directory_of(runs)
        self._part_at = self._directory.run_starts[:-1].copy()
        self._entry_at = np.zeros(len(runs), np.int64)
        self._part_entries = part_entries
        self._executor = executor
        self._next: Future[Words] = executor.submit(self._compute)

    def part(self, *, wait: bool) -> Words | None:
        """Return the next part, empty at the end; None if it is not ready and `wait` is false."""
        if not wait and not self._next.done():
            return None
        part = self._next.result()
        if len(part):
            self._next = self._executor.submit(self._compute)
        return part

    def _compute(self) -> Words:
        width = WIDTH[self.family]
        out, least_entry = np.empty((self._part_entries, width), np.uint64), np.empty(width, np.uint64)
        starts, _, addresses, entries = self._directory
        return out[: _merge(starts, addresses, entries, self._part_at, self._entry_at, least_entry, out)]


def due(runs: list[Run]) -> list[Run]:
    """Return the runs of the lowest level that has enough of them to be merged; none if no level has."""
    for level in sorted({run.level for run in runs}):
        same = [run for run in runs if run.level == level]
        if len(same) >= RUNS_PER_MERGE:
            return same
    return []
