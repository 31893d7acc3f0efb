"""What one seed of the groups' simulation is: how hard it is treated, drawn from the seed, and what it has to tell."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.dice import obsessions
from tests.simulation.groups.wire import Weather

OTHER_BODIES = 0.08
OTHER_BODIES_FOCUS = 0.4
"""How often an id is asked for with another body."""
TOO_MUCH_FOCUS = 0.4
"""How often more is asked for than there is."""
RACES = 0.06
RACES_FOCUS = 0.6
"""How often two bodies of one id are asked for at once."""
ACTIONS = {
    "crash_leader": 8,
    "crash_replica": 4,
    "crash_group": 2,
    "crash_router": 5,
    "failpoint": 14,
    "isolate_leader": 5,
    "hand_over": 3,
    "cut": 8,
    "mend": 16,
    "restart": 40,
    "slow": 4,
    "skew": 2,
    "settings": 2,
}
"""What may happen, and how likely it is beside the others."""


@dataclass(frozen=True)
class Plan:
    """How hard one seed is treated, drawn from the seed."""

    weather: Weather
    act_every_s: float
    client_every_s: float
    clients: int
    raft: bool
    weights: tuple[float, ...]

    @staticmethod
    def drawn(dice: random.Random, raft: bool) -> "Plan":
        rough = dice.choice((0.0, 0.3, 1.0))
        weather = Weather(
            lost=rough * dice.choice((0.0, 0.02, 0.08)),
            reset=rough * dice.choice((0.0, 0.02, 0.08)),
            twice=rough * dice.choice((0.0, 0.1, 0.3)),
            late=rough * dice.choice((0.0, 0.02, 0.1)),
            delay_s=dice.choice((0.002, 0.01, 0.04)),
        )
        return Plan(
            weather,
            act_every_s=dice.choice((0.05, 0.15, 0.4)),
            client_every_s=dice.choice((0.05, 0.1, 0.2)),
            clients=dice.choice((2, 3)),
            raft=raft,
            weights=obsessions(dice, ACTIONS),
        )


class Shape(NamedTuple):
    """What is simulated."""

    groups: int = 3
    raft: bool = False
    focus: str | None = None
    """"bodies": many ids are asked for with another body; "refusals": many transfers ask for too much."""


@dataclass
class Story:
    """What a seed has to tell."""

    events: list[str] = field(default_factory=list)
    told: int = 0
    unknown: int = 0
    indexes: int = 0
    steps: int = 0
    crashes: int = 0
    raft: bool = False
