"""What a replica has applied since it started, counted by kind, step and outcome. On the apply thread.

Nothing is counted row by row: what records leave is put aside as it is, and added up as arrays, many records at a time.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import ANSWER, ON_RECORD
from engine.core.chains.word import Step
from engine.core.known import RESULT
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Kind, Words
from engine.service.flight import Results
from engine.service.metrics.histogram import Histogram

ASIDE_ROWS_MAX: Final = 1 << 14
ASIDE_RECORDS_MAX: Final = 512
_CONFLICT_FIRST: Final = int(Outcome.ID_REUSED_WITH_DIFFERENT_KIND)
_CONFLICT_LAST: Final = 39
_KIND_AND_OUTCOME: Final = np.uint64(0xE000_FFFF_00FF_0000)
"""Of word 15 of a journal row: step (3 bits), outcome, kind."""


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
        self._aside_results: list[npt.NDArray[np.void]] = []
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
            self._aside_results.append(results)
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
            found, counts = np.unique(np.concatenate(self._aside_meta) & _KIND_AND_OUTCOME, return_counts=True)
            for meta, count in zip(found.tolist(), counts.tolist(), strict=True):
                self._rows[meta] = self._rows.get(meta, 0) + count
        if self._aside_results:
            # Joined as bytes: NumPy joins structured arrays field by field.
            results = np.frombuffer(b"".join([one.tobytes() for one in self._aside_results]), RESULT)
            outcomes = results["outcome"]
            self.replays += int(np.count_nonzero(results["flags"] & np.uint16(ResultFlag.REPLAYED)))
            self.conflicts += int(np.count_nonzero((outcomes >= _CONFLICT_FIRST) & (outcomes <= _CONFLICT_LAST)))
        if self._aside_answers:
            answers = np.frombuffer(b"".join([one.tobytes() for one in self._aside_answers]), ANSWER)
            self.replays += int(np.count_nonzero(answers["flags"] & ON_RECORD))
        self._aside_meta, self._aside_results, self._aside_answers = [], [], []
        self._aside_rows = self._aside_records = 0


def _sort(meta: int) -> Sort:
    kind, step, outcome = meta >> 16 & 0xFF, meta >> 61, meta >> 32 & 0xFFFF
    return Sort(Kind(kind).name.lower(), Step(step).name.lower() if step else "local", Outcome(outcome).name.lower())
