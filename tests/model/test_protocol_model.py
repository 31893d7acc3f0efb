"""The cross-group protocol holds in every reachable state of its scenarios, and every planted fault is found."""

from collections.abc import Callable

import pytest

from tests.model import splits
from tests.model.cost import costs
from tests.model.explore import explore
from tests.model.faults import Fault, planted
from tests.model.rules import Rules
from tests.model.scenarios import holding
from tests.model.setup import Scenario
from tests.model.sums import FAULTY_READINGS, READINGS, Sum, explore_sum

ALWAYS_REFUSED = {"three legs over three groups, 7 where 8 are needed"}


def title_of(one: Scenario | Fault) -> str:
    return one.title


@pytest.mark.parametrize("scenario", [*holding(), *splits.holding()], ids=title_of)
def test_the_protocol_holds(scenario: Scenario) -> None:
    found = explore(scenario)
    assert not found.violation, "\n".join((found.violation, *found.trace))
    # Nothing holds for want of happening: every request is answered somewhere, and some of each scenario are posted.
    assert all(found.answers[one.name] for one in scenario.requests)
    posted = any("POSTED" in outcome for outcomes in found.answers.values() for outcome in outcomes)
    assert posted or scenario.title in ALWAYS_REFUSED or scenario.title.endswith("refuses")


@pytest.mark.parametrize("fault", planted(), ids=title_of)
def test_a_planted_fault_is_found(fault: Fault) -> None:
    found = explore(fault.scenario)
    assert found.violation.startswith(fault.invariant), f"found: {found.violation or 'nothing'}"
    assert found.trace


def test_every_rule_has_a_planted_fault() -> None:
    assert {fault.rule for fault in planted()} - {""} == set(Rules._fields)


def test_a_search_finds_the_same_trace_again() -> None:
    fault = planted()[0]
    assert explore(fault.scenario) == explore(fault.scenario)


def test_a_cross_group_transfer_costs_two_records_where_it_is_debited_and_one_where_it_is_credited() -> None:
    assert {cost.title: cost.records for cost in costs()} == {
        "plain transfer, posted": (2, 1),
        "plain transfer, refused by its debtor": (1, 1),
        "hold": (2, 1),
        "COMMIT of a hold": (2, 1),
        "REVERSE of a plain transfer": (2, 1),
        "three legs over three groups, posted": (2, 1, 2),
        "three legs over three groups, refused": (1, 1, 2),
    }


@pytest.mark.parametrize("reading", READINGS)
def test_two_collections_of_a_split_account_tell_the_truth(reading: Callable[[Sum], str]) -> None:
    assert not explore_sum(reading).violation


@pytest.mark.parametrize("reading", FAULTY_READINGS)
def test_other_ways_to_sum_a_split_account_do_not(reading: Callable[[Sum], str]) -> None:
    found = explore_sum(reading)
    assert found.violation
    assert found.trace
