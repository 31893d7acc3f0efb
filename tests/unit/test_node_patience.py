"""How long a courier leaves chains to the routers that drive them."""

import numpy as np

from engine.config import LimitsConfig
from engine.core.records import Words
from engine.service.courier.patience import GRACES_MAX, POSITION, REMEMBERED_NS, STANDSTILL_NS, TIMESTAMP, Patience

SECOND = 1_000_000_000
GRACE = 2 * SECOND
NOW = 1000 * SECOND


def opened(*reserved_s: float) -> Words:
    """Chains that were reserved so many seconds behind `NOW`, at positions in that order."""
    rows = np.zeros((len(reserved_s), 16), np.uint64)
    rows[:, POSITION] = [int(1000 * second) for second in reserved_s]
    rows[:, TIMESTAMP] = [NOW + int(second * SECOND) for second in reserved_s]
    return rows


def look(patience: Patience, at_s: float, *reserved_s: float) -> float:
    patience.look(opened(*reserved_s), NOW + int(at_s * SECOND))
    return patience.grace_ns / SECOND


def test_at_rest_a_chain_has_its_grace_and_no_more() -> None:
    patience = Patience(GRACE)
    assert [look(patience, at, 0.0) for at in (0.1, 1.0, 3.0)] == [2.0, 2.0, 2.0]


def test_where_chains_take_long_all_of_them_may_take_twice_as_long() -> None:
    patience = Patience(GRACE)
    look(patience, 1.4, 0.0, 0.5)
    assert look(patience, 1.5, 0.5) == 3.0


def test_a_chain_that_the_courier_drives_itself_says_nothing_of_routers() -> None:
    patience = Patience(GRACE)
    look(patience, 2.5, 0.0)
    assert look(patience, 2.6) == 2.0


def test_patience_is_bounded() -> None:
    patience = Patience(GRACE)
    reserved = [one / 4 for one in range(40)]
    ended = [one + (1.8 if one < 3 else 3.4) for one in reserved]
    found = [
        look(patience, now / 10, *(one for one, end in zip(reserved, ended, strict=True) if one <= now / 10 < end))
        for now in range(120)
    ]
    assert max(found) == GRACES_MAX * 2.0


def test_one_slow_chain_is_forgotten() -> None:
    patience = Patience(GRACE)
    look(patience, 1.9, 0.0)
    assert look(patience, 2.0) == 4.0
    assert look(patience, 2.1 + REMEMBERED_NS / SECOND) == 2.0


def looks(patience: Patience, first_s: float, last_s: float, *reserved_s: float) -> list[float]:
    """What each look, ten a second, finds; nothing ends meanwhile."""
    return [
        look(patience, at / 10, *(one for one in reserved_s if one <= at / 10))
        for at in range(int(first_s * 10), int(last_s * 10) + 1)
    ]


def test_where_nothing_ends_any_more_chains_have_their_least_grace() -> None:
    patience = Patience(GRACE)
    look(patience, 1.9, 0.0)
    assert look(patience, 2.0, 1.9) == 4.0
    found = looks(patience, 2.1, 5.0, 1.9, 2.0)  # the router died at 2.0
    waited_s = [2.1 + number / 10 for number, grace in enumerate(found) if 2.1 + number / 10 - 1.9 >= grace]
    assert waited_s[0] <= 1.9 + 2.0 + STANDSTILL_NS / SECOND + 0.11


def test_a_dead_router_among_living_ones_is_no_reason_to_wait_longer_than_the_bound() -> None:
    patience = Patience(GRACE)
    left_open, ended = 0.5, []
    for tenth in range(5, 60):
        now_s = tenth / 10
        young = [one / 10 for one in range(0, tenth) if 0 < now_s - one / 10 <= 1.8]  # routers take 1.8 s
        if now_s - left_open >= look(patience, now_s, left_open, *young):
            ended.append(now_s)
    assert ended
    assert ended[0] - left_open <= GRACES_MAX * 2.0


def test_the_bound_leaves_time_to_end_within_five_seconds() -> None:
    assert GRACES_MAX * LimitsConfig().courier_grace_ms / 1000 + 0.5 < 5.0


def test_time_in_which_nobody_looked_does_not_count() -> None:
    patience = Patience(GRACE)
    look(patience, 1.0, 0.9)  # ended a moment later, and nothing was open for a minute; or another replica led
    assert look(patience, 60.0, 59.9) == 2.0
