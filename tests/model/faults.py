"""Planted faults: each switches one rule off in a scenario where that must do harm (negative controls)."""

from typing import NamedTuple

from tests.model import scenarios, splits
from tests.model.rules import RULES
from tests.model.scenarios import A, B
from tests.model.setup import Scenario


class Fault(NamedTuple):
    """A rule that is off ("": a layout that breaks one), and the invariant by which the model is to notice."""

    title: str
    rule: str
    scenario: Scenario
    invariant: str


def layout_fault(title: str, scenario: Scenario, invariant: str) -> Fault:
    """Every rule is on, but somebody laid a chain out as nobody may."""
    return Fault(f"{title}: {scenario.title}", "", scenario, invariant)


def fault(rule: str, scenario: Scenario, invariant: str) -> Fault:
    return Fault(
        f"{rule} off: {scenario.title}", rule, scenario._replace(rules=RULES._replace(**{rule: False})), invariant
    )


def planted() -> tuple[Fault, ...]:
    """Every fault; together they switch off every rule."""
    return (
        fault("refusal_told_by_decider", scenarios.three_legs(7), "I3"),
        fault("posted_told_after_credits", scenarios.spend_what_was_announced(), "I6/I10"),
        fault("holds_marked", scenarios.hold_rest_is_spendable(), "I6/I10"),
        fault("decided_after_all", scenarios.three_legs(7), "I9"),
        fault("secured_amount_decided", scenarios.balancing(), "I5"),
        fault("plans_compared", scenarios.same_decider_other_body(), "I9"),
        fault("standoffs_refused", scenarios.crossing_deciders(), "I3"),
        fault("standoffs_refused", scenarios.crossing_deciders(A, B), "I3"),
        fault("followers_start_at_home", scenarios.hold_of_a_middle_leg(), "I3"),
        fault("refusals_carried", scenarios.three_legs(7), "I3"),
        fault("conflicts_carried", scenarios.other_decider_other_body(), "I3"),
        fault("aborts_by_holders_only", scenarios.served_by_one_group(scenarios.A), "I3"),
        fault("deadline_aborts", scenarios.two_plans(), "I8"),
        fault("couriers_ask", scenarios.three_legs(7), "I9"),
        fault("expiry_by_decider", scenarios.hold_ends(), "I9"),
        fault("reservations_end_by_decider", scenarios.three_legs(), "I3"),
        fault("decision_logged", scenarios.two_groups(), "I2"),
        fault("tombstone_logged", scenarios.three_legs(), "I3"),
        fault("first_word_final", scenarios.two_groups(), "I9"),
        fault("committed_once", scenarios.two_groups(), "I5"),
        fault("late_reserve_ignored", scenarios.wide_body_meets_plain_one(), "I4"),
        fault("plan_checked", scenarios.wide_body_meets_plain_one(), "I3"),
        fault("legs_in_order", scenarios.passing_through(), "I6"),
        fault("reservations_counted", scenarios.two_groups(), "I5"),
        fault("reversals_summed", scenarios.reversals(), "I2"),
        fault("ids_of_legs_registered", scenarios.leg_tried_alone(), "I4"),
        fault("rest_by_decider", scenarios.hold_in_parts(), "I7"),
        fault("originals_plan_asked", scenarios.hold_of_a_middle_leg(), "I7"),
        fault("home_splits_first", splits.home_first(), "I6/I10"),
        fault("bucket_must_exist", splits.home_first(), "I6/I10"),
        fault("old_maps_finish", splits.pair((A,)), "I8"),
        fault("short_bucket_waits", splits.pulls(), "I6/I10"),
        layout_fault("routes change with a merge", splits.merged_route(), "I2"),
        layout_fault("the decider moves with a split", splits.fees(decider=A), "I3"),
        fault("originals_plan_asked", splits.reversed_after_split(alone=A), "I6/I10"),
        fault("frozen_checked", scenarios.frozen_before_commit(), "I6/I10"),
    )
