"""The compiled kernel does what the plain model says, on random histories dense in collisions (DESIGN §6, I11)."""

import os
from collections import Counter
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.outcomes import Outcome
from engine.core.records import CALLER_TRANSFER_KINDS, Kind
from engine.core.validation import Fault
from tests.core_twins import run_history

HISTORIES = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 200
RECORDS = 14
NOT_YET = {Outcome.UNSPECIFIED, Outcome.DAY_CLOSED, Outcome.CHAIN_ABORTED, Outcome.SECURED}
EFFECTIVE = (*CALLER_TRANSFER_KINDS, Kind.CREATE_ACCOUNT, Kind.UPDATE_ACCOUNT, Kind.BUCKET, Kind.EXPIRE)
HAPPENINGS = (
    *(f"{Kind(kind).name} took effect" for kind in EFFECTIVE),
    *(f"{Kind(kind).name} taken back" for kind in CALLER_TRANSFER_KINDS),
    *("chain took effect", "chain burned", "balancing moved nothing", "balancing moved something"),
    *(f"{name} replayed" for name in ("POSTED", "ACCOUNT_CREATED", "ACCOUNT_UPDATED", "CHAIN_FAILED", "BUCKET_MADE")),
    *("short of INSUFFICIENT_FUNDS", "short of CREDIT_LIMIT_EXCEEDED"),
)


class Reached:
    """What many histories came upon."""

    def __init__(self) -> None:
        self.outcomes: Counter[int] = Counter()
        self.faults: Counter[int] = Counter()
        self.events: Counter[str] = Counter()


@pytest.fixture(scope="module")
def reached() -> Reached:
    """Run the histories of the seeds 0, 1, 2...; a failure names its seed."""
    reached = Reached()
    for seed in range(HISTORIES):
        try:
            twins = run_history(Random(seed), RECORDS)
        except AssertionError as difference:
            difference.add_note(f"run_history(Random({seed}), {RECORDS}) replays it")
            raise
        reached.outcomes.update(twins.outcomes)
        reached.faults.update(twins.faults)
        reached.events.update(twins.events)
    return reached


def test_every_outcome_is_reached_and_the_same_in_both(reached: Reached) -> None:
    assert [outcome.name for outcome in Outcome if outcome not in NOT_YET and not reached.outcomes[outcome]] == []


def test_everything_that_can_happen_has_happened(reached: Reached) -> None:
    assert [event for event in HAPPENINGS if not reached.events[event]] == []


def test_every_fault_is_reached(reached: Reached) -> None:
    assert [fault.name for fault in Fault if not reached.faults[fault]] == []


# What a unit that was short had held is forgotten; another hold takes its position, and the same deadline.
@example(22650, 4)
@given(st.integers(0, (1 << 32) - 1), st.integers(1, 6))
def test_short_histories_are_the_same_in_both(seed: int, records: int) -> None:
    run_history(Random(seed), records)
