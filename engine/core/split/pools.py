"""What the buckets of one split account hold together, what is to be pulled, and what proves that it is not enough.

Pure functions of collections (DESIGN §8, decision 12). A *collection* is what every group says of its bucket; groups
are asked at the same time, but answer at different ones, while money moves. What a bucket *gave*, and what it *got*,
only ever grows: so a sum over a collection is bounded by the sums at the moments around it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from engine.core.records import AccountFlag

PULLED_ONE_IN: Final = 2
"""A pull brings what is missing, and up to one in so many of what its giver can spare: so the next ones are few."""


class Counters(NamedTuple):
    """Posted and reserved sums of one account row, minor units."""

    debits_posted: int = 0
    credits_posted: int = 0
    debits_reserved: int = 0
    credits_reserved: int = 0


class Bucket(NamedTuple):
    """One bucket of a split account as its group told it."""

    group: int
    flags: int
    """`AccountFlag`s of the head."""
    head: Counters
    """Of external entries only: moves are not among them."""
    share: Counters = Counters()
    """Of moves only."""
    overdraft: int = 0
    given_back: int = 0
    """What reservations on the head ever gave back when they ended, on both sides together."""


Collection = Sequence[Bucket]
"""One account's buckets, each group once."""


class Side(Enum):
    """Which side of an account is drawn on."""

    DEBIT = "debit"
    CREDIT = "credit"


def limited_side(flags: int) -> Side | None:
    """Return the side of an account that has a limit."""
    if flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
        return Side.DEBIT
    return Side.CREDIT if flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS else None


def pool_of(bucket: Bucket, side: Side) -> int:
    """Return what that side may spend there, minor units; of a limited one below 0 only where FORCE took it there."""
    return sum(_got(one, side) - _out(one, side) for one in (bucket.head, bucket.share)) + _overdraft(bucket, side)


def held_of(bucket: Bucket, side: Side) -> int:
    """Return what open reservations, and moves on their way, hold on that side there."""
    return sum(_held(one, side) for one in (bucket.head, bucket.share))


def sum_of(collection: Collection, side: Side) -> int:
    """Return what the buckets can spend together, money on its way between them left out."""
    return sum(pool_of(one, side) for one in collection)


def bound_of(first: Collection, second: Collection, side: Side) -> int:
    """Return at least what the whole account could spend at one moment between two collections.

    `second` was begun after `first` had ended. What was got until the second is at least what was got at any moment
    between them; what was given until the first is at most what was given by then; and heads leave moves out.
    """
    overdraft = max(sum(_overdraft(one, side) for one in collection) for collection in (first, second))
    got = sum(_got(one.head, side) + one.given_back for one in second)
    return got + overdraft - sum(given_of(one, side) for one in first)


def given_of(bucket: Bucket, side: Side) -> int:
    """Return what callers ever spent or held on that side there: it only grows."""
    return _out(bucket.head, side) + bucket.given_back


def proves_short(first: Collection, second: Collection, amount: int, side: Side) -> bool:
    """Whether two collections prove that at one moment between them the account could not spend `amount`."""
    return bound_of(first, second, side) < amount


def agree(first: Collection, second: Collection) -> bool:
    """Whether nothing external happened between two collections: then what they say held at one moment."""
    return _external(first) == _external(second)


class Pull(NamedTuple):
    """One move between two buckets."""

    giver: int
    taker: int
    amount: int
    """Minor units, above 0."""


def next_pulls(pools: Mapping[int, int], wanted: Mapping[int, int]) -> list[Pull]:
    """Return the moves after which each group can spend what is wanted there, as far as the others can spare it.

    pools: by group, what it can spend. wanted: by group, what its callers wait for. First what is missing, from the
    fullest; then half of what these givers still have to spare, so that a group that keeps asking asks seldom.
    """
    spare = {group: pool - wanted.get(group, 0) for group, pool in pools.items()}
    pulls: dict[tuple[int, int], int] = {}
    for taker in sorted(wanted):
        _serve(spare, taker, pulls)
    _round_up(spare, pulls)
    return [Pull(giver, taker, amount) for (giver, taker), amount in sorted(pulls.items()) if amount > 0]


def _serve(spare: dict[int, int], taker: int, pulls: dict[tuple[int, int], int]) -> None:
    """Take what is missing from the fullest, one after another."""
    while spare.get(taker, 0) < 0:
        giver = max(spare, key=lambda group: (spare[group], -group))
        amount = min(spare[giver], -spare[taker])
        if amount <= 0:
            return
        spare[giver] -= amount
        spare[taker] += amount
        pulls[giver, taker] = pulls.get((giver, taker), 0) + amount


def _round_up(spare: dict[int, int], pulls: dict[tuple[int, int], int]) -> None:
    takers_of: dict[int, int] = {}
    for giver, _ in pulls:
        takers_of[giver] = takers_of.get(giver, 0) + 1
    for giver, taker in pulls:
        pulls[giver, taker] += max(0, spare[giver]) // (PULLED_ONE_IN * takers_of[giver])


def drains_to(home: int, collection: Collection) -> list[Pull]:
    """Return the moves that bring home what the other buckets have.

    Of an account without a limit a bucket may owe: then home pays its debt.
    """
    found = []
    for one in collection:
        side = limited_side(one.flags)
        left = _posted(one) if side is None else pool_of(one, side)
        if one.group != home and left > 0:
            found.append(Pull(one.group, home, left))
        elif one.group != home and left < 0 and side is None:
            found.append(Pull(home, one.group, -left))
    return found


def balance_of(bucket: Bucket) -> int:
    """Return credits less debits, moves among them: what a bucket has in its group's book."""
    return _posted(bucket)


def _posted(bucket: Bucket) -> int:
    return sum(one.credits_posted - one.debits_posted for one in (bucket.head, bucket.share))


def _external(collection: Collection) -> list[tuple[int, Counters, int]]:
    return sorted((one.group, one.head, one.given_back) for one in collection)


def _overdraft(bucket: Bucket, side: Side) -> int:
    """An overdraft limit counts on the side that is limited, as the rules have it."""
    return bucket.overdraft if limited_side(bucket.flags) is side else 0


def _got(counters: Counters, side: Side) -> int:
    """What came in opposite to that side."""
    return counters.credits_posted if side is Side.DEBIT else counters.debits_posted


def _out(counters: Counters, side: Side) -> int:
    """What went out, and what is held, on that side."""
    return _held(counters, side) + (counters.debits_posted if side is Side.DEBIT else counters.credits_posted)


def _held(counters: Counters, side: Side) -> int:
    return counters.debits_reserved if side is Side.DEBIT else counters.credits_reserved
