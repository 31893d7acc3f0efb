"""The rebalancer's rounds: few moves, never back and forth, once however many routers look."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from engine.config import HotAccountsConfig, HotAccountsPolicy
from engine.core.records import AccountFlag
from engine.core.split.pools import Bucket, Counters, Pull, Side, pool_of
from postingengine.v1.admin_service_pb2 import GroupHeat, HotAccount, ReportHeatResponse
from router.split.funds import SplitState
from router.split.map import Split, SplitMap
from router.split.rebalancing import MINUTE_NS, ROUND_S, Rebalancing

DEBITS = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
ROUND_NS = int(ROUND_S * 10**9)
START_NS = 1_000 * MINUTE_NS


class Groups:
    """The buckets of one account in memory; equal ids move once."""

    def __init__(self, *credits: int) -> None:
        self.buckets = [Bucket(at, DEBITS, Counters(0, money, 0, 0)) for at, money in enumerate(credits)]
        self.ids: set[tuple[int, int, bytes]] = set()
        self.moves: list[Pull] = []

    def state(self) -> SplitState:
        return SplitState(b"a" * 16, 1, 0, 0, tuple(self.buckets), {}, {}, {})

    def spend(self, group: int, amount: int) -> None:
        one = self.buckets[group]
        self.buckets[group] = one._replace(head=one.head._replace(debits_posted=one.head.debits_posted + amount))

    async def moved(self, _: SplitState, __: Side, pull: Pull, nonce: bytes, ___: float) -> bool:
        name = (pull.giver, pull.taker, nonce)
        if name in self.ids:
            return False
        self.ids.add(name)
        self.moves.append(pull)
        giver, taker = self.buckets[pull.giver], self.buckets[pull.taker]
        given, got = giver.share.debits_posted + pull.amount, taker.share.credits_posted + pull.amount
        self.buckets[pull.giver] = giver._replace(share=giver.share._replace(debits_posted=given))
        self.buckets[pull.taker] = taker._replace(share=taker.share._replace(credits_posted=got))
        return True


def rebalancing(groups: Groups) -> Rebalancing:
    return Rebalancing(SimpleNamespace(), groups, SimpleNamespace())  # type: ignore[arg-type]


async def test_under_a_steady_load_a_bucket_moves_at_most_once_a_minute_and_ends_near_its_demand() -> None:
    groups = Groups(1_000_000, 0, 0)
    routers = [rebalancing(groups), rebalancing(groups)]
    by_minute: dict[tuple[int, int], int] = {}
    for number in range(80):
        now_ns = START_NS + number * ROUND_NS
        for group, amount in ((0, 100), (1, 300), (2, 100)):
            groups.spend(group, amount)
        for router in routers:
            before = len(groups.moves)
            await router.balance(groups.state(), now_ns, 0.0)
            for pull in groups.moves[before:]:
                key = (pull.taker, now_ns // MINUTE_NS)
                by_minute[key] = by_minute.get(key, 0) + 1
    assert groups.moves and max(by_minute.values()) == 1
    assert {pull.giver for pull in groups.moves} == {0}
    pools = [pool_of(one, Side.DEBIT) for one in groups.buckets]
    assert pools[1] > 2 * pools[2] > 0


async def test_an_account_without_a_limit_is_left_alone() -> None:
    groups = Groups(10, 0)
    groups.buckets = [one._replace(flags=0) for one in groups.buckets]
    router = rebalancing(groups)
    for number in range(5):
        groups.spend(1, 10)
        await router.balance(groups.state(), START_NS + number * ROUND_NS, 0.0)
    assert not groups.moves


class Advising:
    """A group's leader that advises to split some accounts."""

    def __init__(self, *accounts: bytes) -> None:
        self.heat = GroupHeat(accounts=[HotAccount(account=one, split_advised=True) for one in accounts])

    async def call(self, *_: Any) -> bytes:
        return ReportHeatResponse(groups=[self.heat]).SerializeToString()


async def split_by(policy: HotAccountsPolicy, advised: Sequence[bytes], accounts_max: int = 16) -> list[bytes]:
    split = list[bytes]()
    buckets = SimpleNamespace(map=SplitMap())

    async def one(account: bytes, _: float) -> None:
        split.append(account)
        buckets.map = SplitMap(Split(name, number + 1) for number, name in enumerate(split))

    config = SimpleNamespace(hot_accounts=HotAccountsConfig(policy=policy, accounts_max=accounts_max))
    directory = SimpleNamespace(config=config, clients={0: Advising(*advised), 1: Advising(*advised)})
    router = Rebalancing(directory, buckets, SimpleNamespace(split=one))  # type: ignore[arg-type]
    await router._split_hot_ones()
    return split


async def test_only_the_automatic_policy_splits_and_only_so_many_accounts() -> None:
    hot = [bytes([number]) * 16 for number in (1, 2, 3)]
    assert await split_by(HotAccountsPolicy.ADVISE, hot) == []
    assert await split_by(HotAccountsPolicy.AUTOMATIC, hot) == hot
    assert await split_by(HotAccountsPolicy.AUTOMATIC, hot, accounts_max=2) == hot[:2]
