"""Where a transfer with split accounts runs."""

from itertools import permutations

from engine.core.chains.plan import Side
from engine.core.split.buckets import Placed, side_of

A, B = 0, 1


def test_without_splits_each_side_runs_at_its_home() -> None:
    assert side_of(Placed(A), Placed(B)) == Side(A, B)


def test_a_split_account_comes_to_the_home_of_the_other() -> None:
    assert side_of(Placed(A, 1), Placed(B)) == Side(B, B)
    assert side_of(Placed(A), Placed(B, 1)) == Side(A, A)


def test_of_two_split_accounts_the_home_of_the_later_one_runs_it() -> None:
    assert side_of(Placed(A, 1), Placed(B, 2)) == Side(B, B)
    assert side_of(Placed(A, 2), Placed(B, 1)) == Side(A, A)


def test_after_the_first_split_a_route_never_changes_and_meets_the_first_one() -> None:
    for order in permutations((A, B)):
        epochs = {home: epoch for epoch, home in enumerate(order, 1)}
        routes = [
            side_of(*(Placed(home, epochs[home] if epochs[home] <= now else None) for home in (A, B)))
            for now in range(3)
        ]
        assert routes[1] == routes[2]
        assert set(routes[1]) <= set(routes[0])
