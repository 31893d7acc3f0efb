"""What the buckets of a split account hold together, which pulls follow, and what proves that it is not enough."""

from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import AccountFlag
from engine.core.split.pools import (
    Bucket,
    Counters,
    Pull,
    Side,
    agree,
    bound_of,
    drains_to,
    held_of,
    next_pulls,
    pool_of,
    proves_short,
    sum_of,
)

DEBITS, CREDITS = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS, AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS


def bucket(group: int, credits: int = 0, debits: int = 0, reserved: int = 0, **more: int) -> Bucket:
    return Bucket(group, DEBITS, Counters(debits, credits, reserved, 0), **more)  # type: ignore[arg-type]


def test_a_pool_is_head_and_share_account_together_and_the_overdraft() -> None:
    one = Bucket(0, DEBITS, Counters(30, 100, 20, 5), Counters(10, 4, 3, 0), overdraft=50)
    assert pool_of(one, Side.DEBIT) == 100 - 30 - 20 + 4 - 10 - 3 + 50
    assert held_of(one, Side.DEBIT) == 23
    mirrored = Bucket(0, CREDITS, Counters(100, 30, 5, 20), Counters(4, 10, 0, 3), overdraft=50)
    assert pool_of(mirrored, Side.CREDIT) == pool_of(one, Side.DEBIT)


def test_an_overdraft_counts_on_the_limited_side_only() -> None:
    for flags, with_overdraft in ((DEBITS, Side.DEBIT), (CREDITS, Side.CREDIT), (0, None)):
        one = Bucket(0, int(flags), Counters(30, 30, 0, 0), overdraft=50)
        for side in Side:
            expected = 50 if side is with_overdraft else 0
            assert pool_of(one, side) == expected and bound_of([one], [one], side) == expected


def test_money_between_buckets_is_in_the_bound_and_not_in_the_sum() -> None:
    sent = Bucket(0, DEBITS, Counters(0, 100, 0, 0), Counters(0, 0, 40, 0))
    empty = bucket(1)
    assert sum_of([sent, empty], Side.DEBIT) == 60
    assert bound_of([sent, empty], [sent, empty], Side.DEBIT) == 100


def test_what_came_in_between_two_collections_counts_and_what_went_out_does_not() -> None:
    first = [bucket(0, credits=100, debits=90), bucket(1)]
    second = [bucket(0, credits=100, debits=100), bucket(1, credits=5)]
    assert bound_of(first, second, Side.DEBIT) == 15
    assert proves_short(first, second, 16, Side.DEBIT) and not proves_short(first, second, 15, Side.DEBIT)


def test_a_release_between_two_collections_counts_as_money_that_came_in() -> None:
    first = [bucket(0, credits=100, reserved=100)]
    second = [bucket(0, credits=100, given_back=100)]
    assert bound_of(first, second, Side.DEBIT) == 100


def test_a_debit_seen_in_one_bucket_and_the_credit_before_it_missed_in_another_proves_nothing_false() -> None:
    """The groups answer at different moments: 10 came to group 1 and 10 were spent in group 0, never both at once."""
    first = [bucket(0, credits=10, debits=10), bucket(1)]
    second = [bucket(0, credits=10, debits=10), bucket(1, credits=10)]
    assert not proves_short(first, second, 10, Side.DEBIT)


def test_collections_agree_if_nothing_external_happened_whatever_was_moved() -> None:
    before, after = bucket(0, credits=5), bucket(0, credits=5)._replace(share=Counters(5, 0, 0, 0))
    assert agree([before, bucket(1)], [bucket(1), after])
    assert not agree([before], [bucket(0, credits=6)]) and not agree([before], [bucket(0, credits=5, given_back=1)])


def test_a_pull_brings_what_is_missing_and_half_of_what_its_giver_can_spare() -> None:
    assert next_pulls({0: 1000, 1: 0}, {1: 100}) == [Pull(0, 1, 100 + 450)]
    assert next_pulls({0: 100, 1: 0}, {1: 100}) == [Pull(0, 1, 100)]
    assert next_pulls({0: 60, 1: 0, 2: 50}, {1: 100}) == [Pull(0, 1, 60), Pull(2, 1, 40 + 5)]


def test_a_bucket_gives_nothing_that_its_own_callers_wait_for() -> None:
    assert next_pulls({0: 100, 1: 0}, {0: 100, 1: 50}) == []
    assert next_pulls({0: 100, 1: 0}, {0: 60, 1: 50}) == [Pull(0, 1, 40)]
    assert next_pulls({0: 100, 1: 200}, {0: 100, 1: 150}) == []


@given(st.lists(st.integers(-5, 200), min_size=1, max_size=6), st.data())
def test_pulls_leave_no_giver_short_and_serve_all_that_can_be_served(funds: list[int], data: st.DataObject) -> None:
    pools = dict(enumerate(funds))
    wanted = {group: data.draw(st.integers(0, 150)) for group in data.draw(st.sets(st.sampled_from(sorted(pools))))}
    pulls, after = next_pulls(pools, wanted), dict(pools)
    for pull in pulls:
        assert pull.amount > 0 and pull.giver != pull.taker
        after[pull.giver] -= pull.amount
        after[pull.taker] += pull.amount
    assert sum(after.values()) == sum(pools.values())
    givers = {pull.giver for pull in pulls}
    assert all(after[giver] >= wanted.get(giver, 0) for giver in givers)
    if sum(max(0, pool) for pool in pools.values()) >= sum(wanted.values()) and min(pools.values()) >= 0:
        assert all(after[group] >= amount for group, amount in wanted.items())


def test_a_merge_brings_home_what_can_be_spent_and_pays_what_an_unlimited_bucket_owes() -> None:
    limited = [bucket(0, credits=5), bucket(1, credits=30, reserved=10), bucket(2, credits=7, debits=7)]
    assert drains_to(0, limited) == [Pull(1, 0, 20)]
    free = [Bucket(0, 0, Counters(0, 5, 0, 0)), Bucket(1, 0, Counters(30, 0, 0, 0)), Bucket(2, 0, Counters(0, 9, 1, 1))]
    assert drains_to(0, free) == [Pull(0, 1, 30), Pull(2, 0, 9)]
