"""What every seed draws alike."""

import random
from collections.abc import Mapping

FOCUS_WEIGHT = 60.0
"""Added to the weight of the one action on which a run may focus."""


def obsessions(dice: random.Random, actions: Mapping[str, int], focus: str | None = None) -> tuple[float, ...]:
    """Return how likely each action is, from how likely it is in general: every seed has its own obsessions."""
    return tuple(
        weight * dice.choice((0.0, 0.3, 1.0, 1.0, 4.0)) + (FOCUS_WEIGHT if action == focus else 0.0)
        for action, weight in actions.items()
    )
