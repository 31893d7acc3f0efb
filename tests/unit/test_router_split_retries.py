"""A retry of an id meets its first try, whatever was split in between and whatever map each router has."""

import asyncio
from itertools import product

import pytest

from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AMOUNT_ALL, Flag, Kind
from router.chains.answers import BatchAnswers
from router.chains.network import Network
from tests.fake_groups import FakeGroups
from tests.fake_network import FakeNetwork, Weather, names_in
from tests.model.ledger import Account
from tests.protocol_rows import linked, row
from tests.unit.test_router_cross_groups import FINE, STORM, run
from tests.unit.test_router_cross_groups import post as post_once

(A,), (B,), (C,) = (names_in(at, 3, 1, "account") for at in range(3))
FUNDS = 1_000
ORDERS = ([A, B], [B, A])
"""Which of the two accounts is split first."""
MAPS = [(order, old, new) for order in ORDERS for old, new in product(range(3), repeat=2)]
"""How many of the splits each router knows."""


def world(weather: Weather = FINE, seed: int = 1) -> FakeNetwork:
    """Every account has its head in every group, money only at home."""
    homes = {A: 0, B: 1, C: 2}
    accounts = {
        (at, name): Account(credits=FUNDS if at == home else 0) for at in range(3) for name, home in homes.items()
    }
    return FakeNetwork(FakeGroups(3, accounts), seed, weather)


def external(net: FakeNetwork, name: str) -> tuple[int, int, int]:
    """The account's debits, credits beyond its funds, and what is reserved, over all its heads."""
    heads = [net.groups.account(at, name) for at in range(3)]
    return (
        sum(one.debits for one in heads),
        sum(one.credits for one in heads) - FUNDS,
        sum(one.debits_reserved for one in heads),
    )


async def post(net: FakeNetwork, router: Network, *rows: bytes, deadline_s: float = 30.0) -> BatchAnswers:
    """Post, and what was laid out by an old map again by the newest one."""
    batch = await post_once(router, *rows, deadline_s=deadline_s)
    return await post_once(net.router(net.split), *rows, deadline_s=deadline_s) if batch.stale else batch


async def settled(net: FakeNetwork, *routers: Network) -> None:
    for router in routers:
        await router.behind.drain()
    await net.settle()
    net.heal()


@pytest.mark.parametrize(("order", "old", "new"), MAPS)
def test_a_retry_is_a_replay_under_any_pair_of_maps(order: list[str], old: int, new: int) -> None:
    async def work() -> None:
        net = world()
        net.split = order[: max(old, new)]
        first, second = net.router(order[:old]), net.router(order[:new])
        told = await post(net, first, row("t1", debit=A, credit=B))
        again = await post(net, second, row("t1", debit=A, credit=B))
        other = await post(net, second, row("t1", debit=A, credit=B, amount=31))
        assert told.results["outcome"].tolist() == again.results["outcome"].tolist() == [Outcome.POSTED]
        assert again.results["flags"][0] & ResultFlag.REPLAYED and not told.results["flags"][0] & ResultFlag.REPLAYED
        assert other.results["outcome"].tolist() == [Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT]
        await settled(net, first, second)
        assert external(net, A) == (30, 0, 0) and external(net, B) == (0, 30, 0)
        assert not net.groups.open_words() and not net.groups.unbalanced()

    run(work())


@pytest.mark.parametrize(("order", "old", "new"), MAPS)
def test_two_routers_with_any_maps_post_one_id_at_the_same_time_once(order: list[str], old: int, new: int) -> None:
    async def work(seed: int) -> None:
        net = world(STORM, seed)
        net.split = order[: max(old, new)]
        routers = [net.router(order[:known]) for known in (old, new)]
        both = await asyncio.gather(*(post(net, one, row("t1", debit=A, credit=B), deadline_s=60) for one in routers))
        assert [one.results["outcome"].tolist() for one in both] == [[Outcome.POSTED]] * 2
        await settled(net, *routers)
        assert external(net, A) == (30, 0, 0) and external(net, B) == (0, 30, 0)
        assert not net.groups.open_words() and not net.groups.unbalanced()

    for seed in range(3):
        run(work(seed))


@pytest.mark.parametrize(("order", "old", "new"), MAPS)
def test_a_hold_is_committed_where_it_was_reserved_whatever_was_split_since(
    order: list[str], old: int, new: int
) -> None:
    async def work() -> None:
        net = world()
        net.split = order[: max(old, new)]
        first, second = net.router(order[:old]), net.router(order[:new])
        await post(net, first, row("r1", debit=A, credit=B, amount=100, kind=Kind.RESERVE))
        part = row("f1", debit=A, credit=B, amount=40, followed="r1", kind=Kind.COMMIT, flags=Flag.KEEP_REST)
        rest = row("f2", debit=A, credit=B, amount=AMOUNT_ALL, followed="r1", kind=Kind.COMMIT)
        late = row("f3", debit=A, credit=B, amount=0, followed="r1", kind=Kind.RELEASE)
        told = [
            (await post(net, router, each)).results["outcome"].tolist()
            for router, each in ((second, part), (first, part), (first, rest), (second, rest), (second, late))
        ]
        assert told == [[1], [1], [1], [1], [Outcome.RESERVATION_ALREADY_COMMITTED]]
        await settled(net, first, second)
        assert external(net, A) == (100, 0, 0) and external(net, B) == (0, 100, 0)
        assert not net.groups.open_words() and not net.groups.unbalanced()

    run(work())


@pytest.mark.parametrize(("order", "old", "new"), MAPS)
def test_a_transfer_is_reversed_where_it_was_posted(order: list[str], old: int, new: int) -> None:
    async def work() -> None:
        net = world()
        net.split = order[: max(old, new)]
        first, second = net.router(order[:old]), net.router(order[:new])
        await post(net, first, row("t1", debit=A, credit=B))
        reverse = row("v1", debit=A, credit=B, followed="t1", kind=Kind.REVERSE)
        again = [(await post(net, router, reverse)).results["outcome"].tolist() for router in (second, first)]
        assert again == [[1], [1]]
        await settled(net, first, second)
        assert external(net, A) == (30, 30, 0) and external(net, B) == (30, 30, 0)
        assert not net.groups.unbalanced()

    run(work())


@pytest.mark.parametrize(("order", "old", "new"), MAPS)
def test_a_chain_of_several_legs_runs_at_the_homes_and_meets_itself(order: list[str], old: int, new: int) -> None:
    async def work() -> None:
        net = world()
        net.split = order[: max(old, new)]
        first, second = net.router(order[:old]), net.router(order[:new])
        chain = linked(row("c1", debit=A, credit=B), row("c2", debit=B, credit=C))
        told = [(await post(net, router, chain)).results["outcome"].tolist() for router in (first, second)]
        alone = await post(net, second, row("c1", debit=A, credit=B))
        assert told == [[1, 1], [1, 1]]
        assert alone.results["outcome"].tolist() == [Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN]
        await settled(net, first, second)
        assert external(net, A) == (30, 0, 0) and external(net, C) == (0, 30, 0)
        assert not net.groups.open_words() and not net.groups.unbalanced()

    run(work())
