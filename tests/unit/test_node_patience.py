"""How long a courier leaves chains to the routers that drive them."""

import numpy as np

from engine.core.records import Words
from engine.service.courier.patience import GRACES_MAX, POSITION, REMEMBERED_NS, TIMESTAMP, Patience

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
    for at, reserved in ((1.9, 0.0), (5.0, 1.5), (12.0, 4.5), (30.0, 23.0), (30.1, 29.0)):
        found = look(patience, at, reserved)
    assert found == GRACES_MAX * 2.0


def test_one_slow_chain_is_forgotten() -> None:
    patience = Patience(GRACE)
    look(patience, 1.9, 0.0)
    assert look(patience, 2.0) == 4.0
    assert look(patience, 2.1 + REMEMBERED_NS / SECOND) == 2.0
