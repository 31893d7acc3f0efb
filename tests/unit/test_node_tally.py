"""What a replica counts of what it applies."""

import numpy as np

from engine.core.known import RESULT
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Kind
from engine.service.metrics.tally import Sort, Tally


def test_rows_results_and_replays_are_counted_however_many_sorts_there_are() -> None:
    rng = np.random.default_rng(3)
    kinds = rng.choice([Kind.POST, Kind.RESERVE, Kind.COMMIT, Kind.RELEASE], 5000)
    outcomes = rng.choice([Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS, Outcome.DEBIT_ACCOUNT_FROZEN], 5000)
    rows, results = np.zeros((5000, 16), np.uint64), np.zeros(5000, RESULT)
    rows[:, 15] = (outcomes.astype(np.uint64) << np.uint64(32)) | (kinds.astype(np.uint64) << np.uint64(16))
    results["outcome"], results["group"] = outcomes, 3
    results["outcome"][:7] = Outcome.ID_REUSED_WITH_DIFFERENT_KIND
    results["flags"][5:20] = ResultFlag.REPLAYED
    tally = Tally()
    for _ in range(4):
        tally.note(rows)
        tally.applied(0.001, results)
    expected: dict[Sort, int] = {}
    for kind, outcome in zip(kinds.tolist(), outcomes.tolist(), strict=True):
        sort = Sort(Kind(kind).name.lower(), "local", Outcome(outcome).name.lower())
        expected[sort] = expected.get(sort, 0) + 4
    assert tally.rows() == expected
    assert (tally.conflicts, tally.replays) == (28, 60)
