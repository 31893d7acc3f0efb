"""Run the model: `python -m tests.model [part of a title]`. Exit status 1 if any verdict is not as it should be."""

import sys
import time

from tests.model import splits
from tests.model.cost import costs
from tests.model.explore import Found, explore
from tests.model.faults import planted
from tests.model.scenarios import holding, long_storm
from tests.model.sums import FAULTY_READINGS, READINGS, explore_sum


def main(part: str) -> int:
    """Explore what must hold, then find what is planted; print what was seen."""
    began, wrong, states, steps = time.monotonic(), 0, 0, 0
    for scenario in (*holding(), *splits.holding(), long_storm()):
        if part in scenario.title:
            found = explore(scenario)
            print(_line("VIOLATED" if found.violation else "holds", scenario.title, found))
            print(_violation(found) if found.violation else _answers(found))
            wrong, states, steps = wrong + bool(found.violation), states + found.states, steps + found.steps
    for fault in planted():
        if part in fault.title:
            found = explore(fault.scenario)
            caught = found.violation.startswith(fault.invariant)
            print(_line("caught" if caught else "MISSED", fault.title, found))
            print(_violation(found))
            wrong, states, steps = wrong + (not caught), states + found.states, steps + found.steps
    for reading in (*READINGS, *FAULTY_READINGS):
        if part in reading.__name__:
            one = explore_sum(reading)
            right = bool(one.violation) == (reading in FAULTY_READINGS)
            verdict = ("caught" if one.violation else "holds") if right else "WRONG"
            print(f"{verdict:8} a split account's sum, {reading.__name__:51} {one.states:6} states")
            print(
                f"         {one.violation}\n         trace     {'; '.join(one.trace)}" if one.violation else "",
                end="\n",
            )
            wrong, states = wrong + (not right), states + one.states
    for cost in costs():
        print(cost)
    seconds = time.monotonic() - began
    print(f"{states} states, {steps} steps, {seconds:.1f} s; {wrong} verdicts not as they should be")
    return 1 if wrong else 0


def _line(verdict: str, title: str, found: Found) -> str:
    return f"{verdict:8} {title:78} {found.states:6} states {found.steps:6} steps"


def _answers(found: Found) -> str:
    told = "; ".join(f"{name}: {' | '.join(outcomes)}" for name, outcomes in found.answers.items())
    return f"         answered  {told}"


def _violation(found: Found) -> str:
    return f"         {found.violation or 'nothing'}\n         trace     {'; '.join(found.trace)}"


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
