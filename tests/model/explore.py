"""Breadth-first search over a world's states: every invariant in every state, every state healed."""

from collections import deque
from typing import NamedTuple

from tests.model.healing import Healing
from tests.model.invariants import Violation, check
from tests.model.setup import Scenario
from tests.model.world import Event, State, World

STATES_MAX = 200_000
HEALING_SHOWN_MAX = 12


class Found(NamedTuple):
    """What a search found."""

    states: int
    steps: int
    answers: dict[str, tuple[str, ...]]
    """By request, every outcome that some caller may be told: shows that nothing holds for want of happening."""
    violation: str
    """Empty: all invariants hold in all states."""
    trace: tuple[str, ...]
    """The shortest course to the violation."""


def explore(scenario: Scenario) -> Found:
    """Visit every reachable state, or stop at the first (so the nearest) violation."""
    world = World(scenario)
    healing = Healing(world)
    came: dict[State, tuple[State, Event] | None] = {world.start: None}
    waiting, steps = deque([world.start]), 0
    answers: dict[str, set[str]] = {}
    while waiting:
        state = waiting.popleft()
        try:
            check(world, state)
            healing.check(state)
        except Violation as violation:
            return Found(len(came), steps, _sorted(answers), str(violation), _trace(world, came, state, healing))
        _collect(world, state, answers)
        for event, following in world.successors(state):
            steps += 1
            if following not in came:
                came[following] = (state, event)
                waiting.append(following)
        if len(came) > STATES_MAX:
            return Found(len(came), steps, _sorted(answers), f"more than {STATES_MAX} states", ())
    return Found(len(came), steps, _sorted(answers), "", ())


def _collect(world: World, state: State, answers: dict[str, set[str]]) -> None:
    for request, one in enumerate(world.setup.requests):
        names = ("+".join(outcome.name for outcome in outcomes) for _, outcomes in world.answers(state, request))
        answers.setdefault(one.name, set()).update(names)


def _sorted(answers: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(outcomes)) for name, outcomes in answers.items()}


def _trace(
    world: World, came: dict[State, tuple[State, Event] | None], state: State, healing: Healing
) -> tuple[str, ...]:
    steps, at = [], came[state]
    while at is not None:
        before, event = at
        steps.append(world.say(event))
        at = came[before]
    healed = [f"then {world.say(event)}" for event in healing.events[:HEALING_SHOWN_MAX]]
    return (*reversed(steps), *healed)
