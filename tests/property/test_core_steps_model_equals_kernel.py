"""The compiled loop over steps does what the plain model says, on random histories of EVENTS and STEPS (DESIGN §7)."""

import os
from collections import Counter
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.outcomes import Outcome
from engine.core.records import CALLER_TRANSFER_KINDS, Kind
from tests.core_step_histories import HistoryOfLives, run_step_history

HISTORIES = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 250
RECORDS = 24
LIVES = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 60
RECORDS_OF_LIVES = 8
WORDS = (
    *("RESERVE {} RESERVED", "RESERVE {} REFUSED", "DECIDE {} POSTED", "DECIDE {} HELD", "DECIDE {} REFUSED"),
    *("ABORT {} TOMBSTONE", "COMMIT {} COMMITTED", "HOLD {} HELD", "RELEASE {} RELEASED", "EXPIRE {} HELD"),
)
STEPS = ("RESERVE", "DECIDE", "COMMIT", "RELEASE", "ABORT", "HOLD", "EXPIRE", "ASK")
REFUSALS = (
    *(Outcome.LEDGER_UNKNOWN, Outcome.ACCOUNT_IN_ANOTHER_GROUP, Outcome.ACCOUNT_ID_RESERVED),
    *(Outcome.DEBIT_ACCOUNT_UNKNOWN, Outcome.CREDIT_ACCOUNT_UNKNOWN, Outcome.DEBIT_ACCOUNT_FROZEN),
    *(Outcome.DEBIT_ACCOUNT_OVERFLOW, Outcome.INSUFFICIENT_FUNDS, Outcome.CREDIT_LIMIT_EXCEEDED),
    *(Outcome.FOLLOWED_MISSING, Outcome.FOLLOWED_OF_WRONG_KIND, Outcome.FOLLOWED_DEBIT_ACCOUNT_DIFFERS),
    *(Outcome.RESERVATION_EXPIRED, Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN),
)
DECIDED = (
    *(Outcome.AMOUNT_EXCEEDS_RESERVATION, Outcome.AMOUNT_EXCEEDS_ORIGINAL),
    *(Outcome.RESERVATION_ALREADY_COMMITTED, Outcome.RESERVATION_ALREADY_RELEASED),
)
HAPPENINGS = (
    *(word.format(size) for word in WORDS for size in ("plain", "chain")),
    *(f"{step} ignored" for step in STEPS),
    *(f"{step} said {reason.name}" for step in ("RESERVE", "DECIDE") for reason in REFUSALS),
    *(f"DECIDE said {reason.name}" for reason in DECIDED),
    *(f"{Kind(kind).name} by {step}" for kind in CALLER_TRANSFER_KINDS for step in ("RESERVE", "DECIDE")),
    *("POST by COMMIT", "REVERSE by COMMIT", "COMMIT by COMMIT", "RELEASE by COMMIT"),
    *("RESERVE short", "DECIDE short"),
    *("POST by HOLD", "RESERVE by HOLD", "EXPIRE by EXPIRE", "decided elsewhere"),
)


@pytest.fixture(scope="module")
def events() -> Counter[str]:
    """Run the histories of the seeds 0, 1, 2...; a failure names its seed."""
    events: Counter[str] = Counter()
    for seed in range(HISTORIES):
        try:
            events.update(run_step_history(Random(seed), RECORDS).events)
        except AssertionError as difference:
            difference.add_note(f"run_step_history(Random({seed}), {RECORDS}) replays it")
            raise
    return events


def test_every_word_and_refusal_is_reached_and_the_same_in_both(events: Counter[str]) -> None:
    assert [event for event in HAPPENINGS if not events[event]] == []


# A chain that no router lays out: a leg moves between share accounts, the next one spends from the head.
@example(115612154, 9)
@given(st.integers(0, (1 << 32) - 1), st.integers(1, 9))
def test_short_histories_are_the_same_in_both(seed: int, records: int) -> None:
    run_step_history(Random(seed), records)


def test_chains_that_live_within_one_record_are_the_same_in_both() -> None:
    """What a step makes (transit accounts, holds, words) is there for the next one, though all was looked up before."""
    events: Counter[str] = Counter()
    for seed in range(LIVES):
        try:
            events.update(run_step_history(Random(seed), RECORDS_OF_LIVES, HistoryOfLives).events)
        except AssertionError as difference:
            difference.add_note(f"run_step_history(Random({seed}), {RECORDS_OF_LIVES}, HistoryOfLives) replays it")
            raise
    assert [word for word in WORDS for size in ("plain", "chain") if not events[word.format(size)]] == []
