"""Where a transfer runs whose accounts were ever split into buckets (DESIGN §8). Pure; the directory is the caller's.

A split is for ever as far as routes go: the directory keeps, in log order, the accounts ever split, and merging changes
no route. So a pair of accounts has at most two routes in its life: over the two homes until one of the two is split,
and then, for ever, in one group that the first route touches too. Any later attempt under one id meets the first there.
"""

from typing import NamedTuple

from engine.core.plan import Side


class Placed(NamedTuple):
    """One account as a router's map has it."""

    home: int
    """The group of its slot."""
    split_epoch: int | None = None
    """When it was first split, in the directory's log order; None: never."""


def side_of(debit: Placed, credit: Placed) -> Side:
    """Return the groups that run a transfer's two sides.

    With an account that was ever split, all of it runs in the home of whichever of the two was split later (never split
    counts as latest), on the other's bucket there.
    """
    if debit.split_epoch is None and credit.split_epoch is None:
        return Side(debit.home, credit.home)
    group = debit.home if _later(debit, credit) else credit.home
    return Side(group, group)


def _later(one: Placed, other: Placed) -> bool:
    if one.split_epoch is None or other.split_epoch is None:
        return one.split_epoch is None
    return one.split_epoch > other.split_epoch
