"""Moves between the buckets of a split account: few, never undone, and enough."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.split.rebalancer import (
    AMOUNT_ONE_IN_MAX,
    MOVE_EVERY_NS,
    SHORT_ONE_IN,
    Bucket,
    Move,
    next_moves,
    smoothed,
)

ROUND_NS = 5 * 10**9
AMOUNTS = st.integers(0, 10**9)
buckets = st.lists(st.tuples(AMOUNTS, AMOUNTS, st.none() | st.integers(0, 2 * MOVE_EVERY_NS)), min_size=1, max_size=20)
Rates = list[int]


def listed(rows: list[tuple[int, int, int | None]]) -> list[Bucket]:
    return [Bucket(group, *row) for group, row in enumerate(rows)]


def after(found: tuple[Move, ...], before: list[Bucket]) -> dict[int, int]:
    funds = {one.group: one.funds for one in before}
    for move in found:
        for share in move.shares:
            funds[move.source] -= share.amount
            funds[share.group] += share.amount
    return funds


@given(buckets)
def test_a_move_ends_at_the_part_of_either_side_and_never_past_it(rows: list[tuple[int, int, int | None]]) -> None:
    before = listed(rows)
    found = next_moves(before, 2 * MOVE_EVERY_NS)
    funds, demand = sum(one.funds for one in before), sum(one.demand for one in before)
    then = after(found, before)
    for one in before:
        part = funds * one.demand // demand if demand else 0
        assert min(one.funds, part) <= then[one.group] <= max(one.funds, part)
    assert sum(then.values()) == funds
    assert all(share.amount > 0 for move in found for share in move.shares)


@given(buckets)
def test_each_bucket_takes_part_in_one_move_and_only_after_its_minute(rows: list[tuple[int, int, int | None]]) -> None:
    before, now_ns = listed(rows), 2 * MOVE_EVERY_NS
    found = next_moves(before, now_ns)
    named = [group for move in found for group in (move.source, *(share.group for share in move.shares))]
    assert len(named) == len(set(named))
    for group in named:
        moved_at_ns = before[group].moved_at_ns
        assert moved_at_ns is None or now_ns - moved_at_ns >= MOVE_EVERY_NS


@given(buckets, st.randoms(use_true_random=False))
def test_the_order_in_which_buckets_are_listed_does_not_matter(
    rows: list[tuple[int, int, int | None]], random: Random
) -> None:
    before = listed(rows)
    mixed = random.sample(before, len(before))
    assert next_moves(before, MOVE_EVERY_NS) == next_moves(mixed, MOVE_EVERY_NS)


@dataclass
class Load:
    """Buckets that are paid into and spent from, round after round, with the rebalancer at work."""

    funds: list[int]
    now_ns: int = 0
    demand: list[int] = field(default_factory=list)
    moved_at_ns: dict[int, int] = field(default_factory=dict)
    moves: list[tuple[int, int, int]] = field(default_factory=list)
    """Time, source, receiver."""

    def run(self, rounds: int, credits: Rates, debits: Rates, jitter: Callable[[int], int] = lambda rate: rate) -> None:
        for _ in range(rounds):
            asked = [jitter(rate) for rate in debits]
            self.demand = (
                [smoothed(old, new) for old, new in zip(self.demand, asked, strict=True)] if self.demand else asked
            )
            for group, rate in enumerate(credits):
                self.funds[group] += jitter(rate)
                self.funds[group] -= min(self.funds[group], asked[group])
            self.move()
            self.now_ns += ROUND_NS

    def move(self) -> None:
        known = [
            Bucket(group, funds, self.demand[group], self.moved_at_ns.get(group))
            for group, funds in enumerate(self.funds)
        ]
        found = next_moves(known, self.now_ns)
        self.funds = [funds for _, funds in sorted(after(found, known).items())]
        for move in found:
            for share in move.shares:
                self.moves.append((self.now_ns, move.source, share.group))
                self.moved_at_ns[move.source] = self.moved_at_ns[share.group] = self.now_ns

    def require_one_a_minute(self) -> None:
        took_part = defaultdict(set)
        for now_ns, source, receiver in self.moves:
            took_part[source].add(now_ns)
            took_part[receiver].add(now_ns)
        for times in took_part.values():
            ordered = sorted(times)
            assert all(later - earlier >= MOVE_EVERY_NS for earlier, later in itertools.pairwise(ordered))


rates = st.integers(0, 10**6)
loads = st.lists(st.tuples(rates, rates, st.integers(0, 10**8)), min_size=2, max_size=16)
ROUNDS_OF_TEN_MINUTES = 120


@given(loads)
def test_a_bucket_moves_once_a_minute_whoever_is_paid_and_spends(groups: list[tuple[int, int, int]]) -> None:
    credits, debits, spare = map(list, zip(*groups, strict=True))
    load = Load([extra + ROUNDS_OF_TEN_MINUTES * debit for extra, debit in zip(spare, debits, strict=True)])
    load.run(ROUNDS_OF_TEN_MINUTES, credits, debits)
    load.require_one_a_minute()


@given(loads)
def test_where_each_group_spends_what_it_is_paid_no_money_comes_back(groups: list[tuple[int, int, int]]) -> None:
    """Where it is not so, money gathers in other groups than it began in, and coming back is what is wanted."""
    _, debits, spare = map(list, zip(*groups, strict=True))
    # Ample: no bucket runs dry between two moves, whatever part of the demand it bears.
    load = Load([extra + ROUNDS_OF_TEN_MINUTES * debit for extra, debit in zip(spare, debits, strict=True)])
    load.run(ROUNDS_OF_TEN_MINUTES, debits, debits)
    ways = {(source, receiver) for _, source, receiver in load.moves}
    assert not {(receiver, source) for source, receiver in ways} & ways
    for group in range(len(groups)):
        gave = [source == group for _, source, receiver in load.moves if group in (source, receiver)]
        assert sum(earlier != later for earlier, later in itertools.pairwise(gave)) <= 1


@given(
    st.lists(st.integers(1000, 10**6), min_size=2, max_size=16),
    st.integers(30, 100),
    st.integers(0, 1 << 32),
)
def test_once_parts_are_even_a_load_that_trembles_moves_nothing(
    debits: list[int], rounds_of_funds: int, seed: int
) -> None:
    random = Random(seed)  # a load trembles by chance, not by ill will: that would drain any bucket

    def trembling(rate: int) -> int:
        return rate * random.randint(80, 120) // 100

    load = Load([rounds_of_funds * debit for debit in debits])
    load.run(ROUNDS_OF_TEN_MINUTES, debits, debits, trembling)
    assert not load.moves


@given(st.lists(st.integers(1000, 10**6), min_size=2, max_size=16), st.integers(0, 15))
def test_all_money_in_one_bucket_reaches_the_demand_of_every_group_in_one_round(debits: list[int], home: int) -> None:
    load = Load([0] * len(debits))
    load.funds[home % len(debits)] = 1000 * sum(debits)
    load.run(1, [0] * len(debits), debits)
    funds, demand = sum(load.funds), sum(debits)
    assert all(2 * held >= funds * asked // demand for held, asked in zip(load.funds, debits, strict=True))


# Of the two that swap, one ends with a half of its part.
@example([65535, 1000, 1000, 131071], Random(9))
# One ends a little below: what the others have too much is spread among them, and no one move would bring an eighth.
@example([926154, 1369, 81400, 1031, 251561, 1002, 1001, 17545, 1000, 1013, 291975, 114626, 219596, 1000], Random(732))
@given(st.lists(st.integers(1000, 10**6), min_size=2, max_size=16), st.randoms(use_true_random=False))
def test_when_the_load_moves_to_other_groups_the_money_follows(debits: list[int], random: Random) -> None:
    load = Load([100 * debit for debit in debits])
    load.run(10, debits, debits)
    later = random.sample(debits, len(debits))
    load.run(ROUNDS_OF_TEN_MINUTES, later, later)
    load.require_one_a_minute()
    # Smoothed in whole units, so it stays as much behind what it has grown to.
    assert all(0 <= asked - known < 4 for asked, known in zip(later, load.demand, strict=True))
    funds, demand = sum(load.funds), sum(load.demand)
    parts = [funds * known // demand for known in load.demand]
    most_to_spare = max(held - part for held, part in zip(load.funds, parts, strict=True))
    for held, part in zip(load.funds, parts, strict=True):
        assert SHORT_ONE_IN * held + 1 >= part or AMOUNT_ONE_IN_MAX * most_to_spare < part
