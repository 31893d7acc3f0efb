"""The sketch of heavy hitters: bounded, right about what is frequent, and the same for the same rows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.chains.word import Step
from engine.core.limits import SLOTS
from engine.core.placement import slot_of
from engine.core.records import Kind, Words
from engine.service.heat.sketch import COUNTERS_MAX, ROWS_COUNTED_MAX, Sketch

SEED = 77
ALL_OURS = np.ones(SLOTS, np.bool_)


def account(number: int) -> bytes:
    return number.to_bytes(16, "little")


def rows_of(pairs: list[tuple[int, int]], kind: Kind = Kind.POST, step: Step = Step.NONE) -> Words:
    rows = np.zeros((len(pairs), 16), np.uint64)
    if pairs:
        rows[:, 2], rows[:, 4] = np.array(pairs, np.uint64).T
    rows[:, 15] = np.uint64(1 | kind << 16 | step << 61)
    return rows


def noted(*batches: Words, counters_max: int = COUNTERS_MAX) -> Sketch:
    sketch = Sketch(counters_max)
    for rows in batches:
        sketch.note(rows, ALL_OURS, SEED)
    return sketch


pairs = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=ROWS_COUNTED_MAX)


@given(st.lists(pairs, max_size=20), st.integers(4, 64))
def test_no_count_is_too_high_and_none_lacks_more_than_it_says(
    batches: list[list[tuple[int, int]]], counters_max: int
) -> None:
    sketch = noted(*map(rows_of, batches), counters_max=counters_max)
    truth = Counter(account(one) for batch in batches for pair in batch for one in pair)
    entries = sum(truth.values())
    for one in sketch.top(counters_max):
        assert one.entries <= truth[one.account] <= one.entries + one.missed_max
    told = {one.account for one in sketch.top(counters_max)}
    assert all(one in told for one, count in truth.items() if count > 2 * entries / counters_max)
    assert sketch.transfers == entries // 2


def test_memory_and_counters_stay_as_they_are_however_many_accounts_come() -> None:
    rng = np.random.default_rng(1)
    sketch = Sketch()
    before = sketch.nbytes
    for _ in range(200):
        sketch.note(rows_of(list(map(tuple, rng.integers(1, 1 << 40, (100, 2)).tolist()))), ALL_OURS, SEED)
    assert sketch.nbytes == before < 150_000
    assert len(sketch.top(1 << 20)) <= COUNTERS_MAX


def test_the_hot_accounts_of_long_records_are_found_with_their_sides_about_right() -> None:
    rng = np.random.default_rng(2)
    sketch = Sketch()
    for _ in range(100):
        cold = rng.integers(1000, 100_000, (1024, 2))
        cold[::2, 1] = 1  # half of all transfers credit account 1: every other row, a rhythm
        cold[rng.random(1024) < 0.1, 0] = 2
        sketch.note(rows_of(list(map(tuple, cold.tolist()))), ALL_OURS, SEED)
    first, second = sketch.top(2)
    assert (first.account, second.account) == (account(1), account(2))
    assert sketch.transfers == pytest.approx(100 * 1024, rel=0.01)
    assert first.credits == pytest.approx(51_200, rel=0.1)
    assert second.debits == pytest.approx(10_240, rel=0.2)
    assert first.debits == second.credits == 0


def test_equal_rows_give_equal_sketches() -> None:
    rng = np.random.default_rng(3)
    batches = [rows_of(list(map(tuple, rng.zipf(1.3, (1000, 2)).clip(1, 1 << 40).tolist()))) for _ in range(20)]
    assert noted(*batches).top(50) == noted(*batches).top(50)


def test_only_accounts_of_this_group_are_counted_and_what_crosses_is_told() -> None:
    ours = ALL_OURS.copy()
    ours[slot_of(account(2), SEED)] = False
    sketch = Sketch()
    sketch.note(rows_of([(1, 2), (1, 3), (2, 1)]), ours, SEED)
    first, second = sketch.top(5)
    assert (first.account, first.debits, first.credits, first.crossing) == (account(1), 2, 1, 2)
    assert (second.account, second.credits, second.crossing) == (account(3), 1, 0)
    assert (sketch.transfers, sketch.crossing) == (3, 2)


@pytest.mark.parametrize(
    ("step", "counted"),
    [(Step.NONE, 1), (Step.RESERVE, 1), (Step.DECIDE, 1), (Step.COMMIT, 0), (Step.HOLD, 0), (Step.RELEASE, 0)],
)
def test_a_transfer_over_groups_is_counted_with_the_step_that_stores_it_first(step: Step, counted: int) -> None:
    assert noted(rows_of([(1, 2)], step=step)).transfers == counted


@pytest.mark.parametrize("kind", [Kind.CREATE_ACCOUNT, Kind.UPDATE_ACCOUNT, Kind.EXPIRE, Kind.SETTINGS])
def test_what_is_no_transfer_is_not_counted(kind: Kind) -> None:
    assert noted(rows_of([(1, 2)], kind)).transfers == 0


def test_a_cleared_sketch_knows_nothing() -> None:
    sketch = noted(rows_of([(1, 2)]))
    sketch.clear()
    assert (sketch.top(5), sketch.transfers) == ((), 0)
    sketch.note(rows_of([(3, 4)]), ALL_OURS, SEED)
    assert [one.entries for one in sketch.top(5)] == [1, 1]
