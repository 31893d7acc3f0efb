"""What a replica has applied since it started, counted by kind, step and outcome. On the apply thread.

Nothing is counted row by row: what records leave is put aside as it is, and added up as arrays, many records at a time.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import ANSWER, ON_RECORD
from engine.core.chains.word import Step
from engine.core.outcomes import Outcome, ResultFlag, is_conflict
from engine.core.records import Kind, Words
from engine.service.flight import Results
from engine.service.metrics.histogram import Histogram
from engine.service.submission import words_of_results

ASIDE_ROWS_MAX: Final = 1 << 14
ASIDE_RECORDS_MAX: Final = 512
_KIND_AND_OUTCOME: Final = np.uint64(0xE000_FFFF_00FF_0000)
"""Of word 15 of a journal row: step (3 bits), outcome, kind."""
_OUTCOME_WORD: Final = 2
_OUTCOME_AND_FLAGS: Final = np.uint64(0xFFFF_FFFF)
"""Of that word of a `RESULT`."""
_FREQUENT_MAX: Final = 8
"""So many different words are looked for one by one: mostly there is one."""


class Sort(NamedTuple):
    """Journal rows that are counted together."""

    kind: str
    step: str
    """`local`: decided within one group; else the step of a chain over groups."""
    outcome: str


class Tally:
    """Counts since the process started."""

    def __init__(self) -> None:
        self.apply_times = Histogram()
        """Of records of the log."""
        self.replays = 0
        """Items and steps that were answered from the record."""
        self.conflicts = 0
        """Items whose id is taken by another body."""
        self._rows: dict[int, int] = {}
        self._aside_meta: list[npt.NDArray[np.uint64]] = []
        self._aside_results: list[npt.NDArray[np.uint64]] = []
        self._aside_answers: list[npt.NDArray[np.void]] = []
        self._aside_rows = self._aside_records = 0

    def note(self, rows: Words) -> None:
        """Put the journal rows of one record aside."""
        self._aside_meta.append(rows[:, 15].copy())
        self._aside_rows += len(rows)

    def applied(self, seconds: float, results: Results) -> None:
        """Put what one record's callers are told aside, and note how long it took."""
        self.apply_times.observe(seconds)
        if isinstance(results, np.ndarray):
            self._aside_results.append(words_of_results(results)[:, _OUTCOME_WORD])
        else:
            self._aside_answers.append(results.answers)
        self._aside_records += 1
        if self._aside_rows >= ASIDE_ROWS_MAX or self._aside_records >= ASIDE_RECORDS_MAX:
            self._add_up()

    def rows(self) -> dict[Sort, int]:
        """Return how many journal rows there were of each sort."""
        self._add_up()
        return {_sort(meta): count for meta, count in sorted(self._rows.items())}

    def _add_up(self) -> None:
        if self._aside_meta:
            for meta, count in _counted(np.concatenate(self._aside_meta) & _KIND_AND_OUTCOME):
                self._rows[meta] = self._rows.get(meta, 0) + count
        if self._aside_results:
            for word, count in _counted(np.concatenate(self._aside_results) & _OUTCOME_AND_FLAGS):
                self.replays += count if word >> 16 & ResultFlag.REPLAYED else 0
                self.conflicts += count if is_conflict(word & 0xFFFF) else 0
        if self._aside_answers:
            answers = np.frombuffer(b"".join([one.tobytes() for one in self._aside_answers]), ANSWER)
            self.replays += int(np.count_nonzero(answers["flags"] & ON_RECORD))
        self._aside_meta, self._aside_results, self._aside_answers = [], [], []
        self._aside_rows = self._aside_records = 0


def _counted(words: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Return each of the words once, and how often it is there: the frequent ones without sorting."""
    found: list[tuple[int, int]] = []
    for _ in range(_FREQUENT_MAX):
        if not len(words):
            return found
        others = words[words != words[0]]
        found.append((int(words[0]), len(words) - len(others)))
        words = others
    values, counts = np.unique(words, return_counts=True)
    return found + list(zip(values.tolist(), counts.tolist(), strict=True))


def _sort(meta: int) -> Sort:
    kind, step, outcome = meta >> 16 & 0xFF, meta >> 61, meta >> 32 & 0xFFFF
    return Sort(Kind(kind).name.lower(), Step(step).name.lower() if step else "local", Outcome(outcome).name.lower())
