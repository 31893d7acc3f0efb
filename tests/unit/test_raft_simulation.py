"""The simulation finds nothing in the code as it is, and finds each fault that is planted."""

import logging
import subprocess
import sys

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.history import Violation
from tests.simulation.scenario import run_seed

SEEDS_CLEAN = 20
SEEDS_MAX = 60
"""Within so many seeds each planted fault must be found; most are found in the first few."""
FOCUS = {
    "early-compaction": "crash",
    "early-own-copy": "ambush",
    "lost-callbacks": "isolate_leader",
    "no-flush": "ambush",
    "no-index-check": "crash",
    "no-term-in-acks": "split",
    "no-vote-sync": "betray",
    "stale-reads": "isolate_leader",
    "unchecked-snapshot": "isolate_leader",
    "wiped-may-vote": "wipe",
}
"""What brings a fault to light soonest. Without it they are found, too, the rarest in a few hundred seeds."""
FIRST_SEED = {"early-own-copy": 14, "no-flush": 7, "no-term-in-acks": 17}
"""Where the search begins for the rare ones, shortly before a seed that finds them today: from 1 it takes 25 s more."""


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_promise_is_broken_in_any_seed():
    for seed in range(1, SEEDS_CLEAN + 1):
        history = run_seed(seed)
        assert len(history.acknowledged) > 0


def test_a_seed_tells_the_same_story_again():
    first, second = run_seed(7), run_seed(7)
    assert first.events == second.events
    assert first.acknowledged == second.acknowledged


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_planted_fault_is_found(fault):
    with FAULTS[fault]():
        first = FIRST_SEED.get(fault, 1)
        for seed in range(first, first + SEEDS_MAX):
            try:
                run_seed(seed, focus=FOCUS.get(fault))
            except Violation:
                return
    pytest.fail(f"{fault} was not found in {SEEDS_MAX} seeds")


def test_a_failing_seed_prints_the_command_that_replays_it():
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "3", "--seed", "1", "--fault", "no-guard"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    replay = next(line for line in told.stdout.splitlines() if line.startswith("replay: "))
    assert replay.startswith("replay: python -m tests.simulation --seeds 1 --seed ")
    assert told.stdout.splitlines()[-1].endswith(" violations")
    again = subprocess.run(
        [sys.executable, *replay.removeprefix("replay: python ").split()], capture_output=True, text=True, check=False
    )
    assert again.stdout.splitlines()[-1] == "1 seeds, 1 violations"
