"""The groups' simulation finds nothing in the code as it is, and finds each fault that is planted."""

import logging

import pytest

from tests.simulation.groups.faults import GROUP_FAULTS
from tests.simulation.groups.scenario import Shape, run_seed
from tests.simulation.history import Violation

SEEDS_CLEAN = 4
SEEDS_MAX = 20
"""Within so many seeds each planted fault must be found; most are found in the first."""
FOCUS = {"plan-not-checked": "bodies", "tombstone-skipped": "refusals"}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(1, SEEDS_CLEAN + 1))
def test_no_invariant_is_broken_at_any_index(seed):
    story = run_seed(seed, 1.0)
    assert story.told and story.steps


def test_no_invariant_is_broken_where_the_groups_stand_on_real_replicated_logs():
    story = run_seed(1, 1.0, Shape(raft=True))
    assert story.told and story.steps and story.raft


def test_a_seed_tells_the_same_story_again():
    first, second = run_seed(5, 1.0), run_seed(5, 1.0)
    assert first == second


@pytest.mark.parametrize("fault", sorted(GROUP_FAULTS))
def test_the_planted_fault_is_found(fault):
    with GROUP_FAULTS[fault]():
        for seed in range(1, SEEDS_MAX + 1):
            try:
                run_seed(seed, 1.0, Shape(focus=FOCUS.get(fault)))
            except Violation:
                return
    pytest.fail(f"{fault} was not found in {SEEDS_MAX} seeds")
