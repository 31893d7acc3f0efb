"""Which moves keep the buckets of a split account near the demand of their groups (DESIGN §8). Pure.

Each bucket should hold the part of the money that its group asks for of the demand. Moves are few and never undo one
another: a bucket takes part in at most one a minute; only a bucket with less than half of its part is given anything,
and only by those with more than theirs; and a move ends at the part of either side, never past it. So under a steady
load every bucket drifts one way only, and a second group's money never comes back to the first. What a minute cannot
wait for is the router's to pull.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.core.limits import CHAIN_GROUPS_MAX

MOVE_EVERY_NS: Final = 60 * 10**9
"""A bucket that took part in a move rests for so long."""
SHORT_ONE_IN: Final = 2
"""A bucket is short with less than one in so many of its part."""
AMOUNT_ONE_IN_MAX: Final = 8
"""A move brings at least one in so many of the receiver's part: less is not worth its minute."""
SHARES_MAX: Final = CHAIN_GROUPS_MAX - 1
"""Receivers of one move, which is one chain."""
DEMAND_KEPT_OF_4: Final = 3
"""How much of the old demand stays in the smoothed one with each round."""
RUNWAY_BITS: Final = 64


class Bucket(NamedTuple):
    """One slice of a split account, as its group's leader tells it."""

    group: int
    funds: int
    """What a limit check may spend there, minor units, at least 0."""
    demand: int
    """What its limited side was asked for, granted or not, minor units a round, smoothed; at least 0."""
    moved_at_ns: int | None = None
    """When it last took part in a move; None: never."""


class Share(NamedTuple):
    """What one bucket receives."""

    group: int
    amount: int
    """Minor units, above 0."""


class Move(NamedTuple):
    """One chain of engine-made transfers out of one bucket: all of it, or nothing."""

    source: int
    """The group whose bucket gives."""
    shares: tuple[Share, ...]


class _Giver(NamedTuple):
    """A bucket with more than its part."""

    group: int
    surplus: int
    shares: tuple[Share, ...] = ()


def smoothed(before: int, latest: int) -> int:
    """Return the demand to go by after a round: three parts what it was, one part what was asked for in that round."""
    return (DEMAND_KEPT_OF_4 * before + (4 - DEMAND_KEPT_OF_4) * latest) // 4


def next_moves(buckets: Sequence[Bucket], now_ns: int) -> tuple[Move, ...]:
    """Return the moves to begin now, by ascending source; buckets are one account's, each group once.

    Equal buckets give equal moves, in whatever order they are listed. Nothing is asked for, or nothing is there: none.
    """
    funds, demand = sum(one.funds for one in buckets), sum(one.demand for one in buckets)
    if not funds or not demand:
        return ()
    parts = {one.group: funds * one.demand // demand for one in buckets}
    rested = [one for one in buckets if one.moved_at_ns is None or now_ns - one.moved_at_ns >= MOVE_EVERY_NS]
    givers = [_Giver(one.group, one.funds - parts[one.group]) for one in rested if one.funds > parts[one.group]]
    short = [one for one in rested if one.funds * SHORT_ONE_IN < parts[one.group]]
    for taker in sorted(short, key=_runway):
        givers = _served(givers, taker, parts[taker.group])
    return tuple(Move(one.group, one.shares) for one in sorted(givers) if one.shares)


def _runway(bucket: Bucket) -> tuple[int, int]:
    """Order short buckets by how long their money lasts; a short bucket has a part, so its demand is above 0."""
    return (bucket.funds << RUNWAY_BITS) // bucket.demand, bucket.group


def _served(givers: list[_Giver], taker: Bucket, part: int) -> list[_Giver]:
    """Let the giver with the most to spare give what the taker lacks, as far as it has it."""
    able = [one for one in givers if len(one.shares) < SHARES_MAX]
    if not able:
        return givers
    giver = max(able, key=lambda one: (one.surplus, -one.group))
    amount = min(part - taker.funds, giver.surplus)
    if amount * AMOUNT_ONE_IN_MAX < part:
        return givers
    gave = _Giver(giver.group, giver.surplus - amount, (*giver.shares, Share(taker.group, amount)))
    return [gave if one is giver else one for one in givers]
