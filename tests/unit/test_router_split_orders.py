"""Whatever is split or merged between a first try and its retry, on real nodes, the retry meets it; and bad input."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import permutations
from pathlib import Path

import grpc
import msgspec
import pytest

from engine.config import RouterConfig
from engine.core.outcomes import Outcome
from engine.core.records import AMOUNT_ALL
from engine.core.split.pools import Side, pool_of
from postingengine.v1.account_pb2 import AccountFlag, AccountUpdate
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, UpdateAccountsRequest
from postingengine.v1.transfer_pb2 import Transfer, TransferFlag, TransferKind
from postingengine.v1.types_pb2 import Uint128
from tests.ports import free_address
from tests.running_cluster import CALL_S, Running, routing, running, two_groups
from tests.running_node import identity

LIMITED = AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS
RESERVE, COMMIT = TransferKind.TRANSFER_KIND_RESERVE, TransferKind.TRANSFER_KIND_COMMIT
FUNDS = 1_000
POSTED, INSUFFICIENT = int(Outcome.POSTED), int(Outcome.INSUFFICIENT_FUNDS)
EVENTS = ("split one", "split other", "merge one", "merge other")
ORDERS = [
    order
    for order in permutations(EVENTS)
    if all(order.index(f"split {name}") < order.index(f"merge {name}") for name in ("one", "other"))
]
"""A merge comes behind its split."""


async def answers(cluster: Running, *transfers: Transfer) -> list[tuple[int, bool]]:
    """Of each: the outcome, and whether it was a replay."""
    results = await cluster.node.post(*transfers, timeout=CALL_S)
    assert not any(result.HasField("fault") for result in results), results
    return [(result.outcome, result.replayed) for result in results]


class Tries:
    """Transfers between two accounts, tried first at various moments and again at all later ones."""

    def __init__(self, routers: tuple[Running, Running], one: bytes, other: bytes) -> None:
        self.routers, self.one, self.other = routers, one, other
        self.told: list[tuple[Transfer, int]] = []
        self.holds: list[Transfer] = []
        self.moved = 0

    async def first(self) -> None:
        """A post each way, one that nobody can pay, and a hold."""
        router, pay = self.routers[0], self.routers[0].pay
        hold = pay(self.one, self.other, 20, kind=RESERVE)
        batch = [pay(self.one, self.other, 7), pay(self.other, self.one, 3), pay(self.one, self.other, 5 * FUNDS), hold]
        found = await answers(router, *batch)
        assert found == [(POSTED, False), (POSTED, False), (INSUFFICIENT, False), (POSTED, False)]
        self.told += [(one, outcome) for one, (outcome, _) in zip(batch, found, strict=True)]
        self.holds.append(hold)
        self.moved += 7 - 3

    async def again(self) -> None:
        """By a router with the newest map, and by one with an old one."""
        for router in self.routers:
            found = await answers(router, *(transfer for transfer, _ in self.told))
            assert found == [(outcome, True) for _, outcome in self.told]

    async def commit_holds(self) -> None:
        for number, hold in enumerate(self.holds):
            router = self.routers[number % 2]
            everything = Uint128(low=AMOUNT_ALL & (1 << 64) - 1, high=AMOUNT_ALL >> 64)
            commit = self.routers[0].pay(self.one, self.other, kind=COMMIT, followed=hold.id)
            commit.amount.CopyFrom(everything)
            assert await answers(router, commit) == [(POSTED, False)]
            assert await answers(self.routers[1 - number % 2], commit) == [(POSTED, True)]
            self.moved += 20


@pytest.mark.parametrize("homes", [(0, 1), (1, 0)])
async def test_a_retry_meets_its_first_try_whatever_was_split_or_merged_between(
    tmp_path: Path, homes: tuple[int, int]
) -> None:
    config = two_groups(tmp_path)
    old = msgspec.structs.replace(config, routers=(RouterConfig(grpc=free_address()),))
    async with running(config) as cluster, routing(old) as behind:
        pairs = list(zip(*(cluster.accounts(home, len(ORDERS)) for home in homes), strict=True))
        bank = identity(0xBA27)
        await cluster.node.make_accounts(bank)
        await cluster.node.make_accounts(*(account for pair in pairs for account in pair), flags=[LIMITED])
        assert set(await cluster.post(*(cluster.pay(bank, one, FUNDS) for pair in pairs for one in pair))) == {POSTED}
        await asyncio.gather(
            *(tried((cluster, behind), order, *pair) for order, pair in zip(ORDERS, pairs, strict=True))
        )


async def tried(routers: tuple[Running, Running], order: tuple[str, ...], one: bytes, other: bytes) -> None:
    """Let things happen in one order, with first tries and retries before, between and after."""
    cluster, behind = routers
    tries = Tries(routers, one, other)
    await tries.first()
    for event in order:
        verb, name = event.split()
        account = one if name == "one" else other
        await (cluster.split(account) if verb == "split" else merged(cluster, account, tries))
        await tries.again()
        await tries.first()
    await tries.again()
    await tries.commit_holds()
    assert await cluster.balance(one) == FUNDS - tries.moved
    assert await behind.balance(other) == FUNDS + tries.moved


async def merged(cluster: Running, account: bytes, tries: Tries) -> None:
    """What is reserved is committed first: a merge would wait for it."""
    await tries.commit_holds()
    tries.holds.clear()
    await cluster.merge(account)


# ---- bad input ----


async def refused(call: object, *words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call  # type: ignore[misc]
    assert all(word in (raised.value.details() or "") for word in words), raised.value.details()


async def test_a_closed_account_and_one_that_is_split_are_not_split_though_it_was_merged(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path)) as cluster:
        account, closed = cluster.accounts(1, 2)
        await cluster.node.make_accounts(account, closed)
        update = AccountUpdate(id=b"u" * 16, account=closed, ledger=1, expected_version=1, closed=True)
        done = await cluster.node.posting.UpdateAccounts(UpdateAccountsRequest(updates=[update]), timeout=CALL_S)
        assert done.results[0].outcome == Outcome.ACCOUNT_UPDATED
        await refused(cluster.split(closed), "closed")
        await cluster.split(account)
        await refused(cluster.split(account), "split already")
        await cluster.merge(account)
        await refused(cluster.split(account), "split already", "nothing to split again")


async def told_in_time(call: Callable[[float], Awaitable[object]], words: str) -> str:
    """What a router says when it gives up, just before its caller would: on a busy machine, which gets no further than
    to ask a group before that, with a longer deadline."""
    for deadline_s in (0.6, 1.2, 2.4, 4.8, 9.6, 19.2):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(deadline_s)
        if words in (raised.value.details() or ""):
            break
    return raised.value.details() or ""


async def test_a_merge_waits_for_what_is_reserved_and_not_for_ever(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path)) as cluster:
        (account,), (customer,) = cluster.accounts(0), cluster.accounts(1)
        await cluster.node.make_accounts(customer)
        await cluster.node.make_accounts(account, flags=[LIMITED])
        await cluster.split(account)
        hold = cluster.pay(account, customer, 30, kind=RESERVE)
        assert await cluster.post(cluster.pay(customer, account, 100), hold) == [POSTED] * 2
        words = "reservations are open in group 1"
        assert words in await told_in_time(lambda s: cluster.merge(account, s), words)
        waiting = asyncio.create_task(cluster.merge(account))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        release = cluster.pay(account, customer, 0, kind=TransferKind.TRANSFER_KIND_RELEASE, followed=hold.id)
        assert await cluster.post(release) == [POSTED]
        await waiting
        away = next(one for one in (await cluster.collect(account)).buckets if one.group == 1)
        assert pool_of(away, Side.DEBIT) == 0, "all of it came home"


async def test_a_bucket_cannot_be_named_by_callers(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path)) as cluster:
        (account,), (customer,) = cluster.accounts(0), cluster.accounts(1)
        await cluster.node.make_accounts(account, customer)
        await cluster.split(account)
        for share in (await cluster.collect(account)).shares.values():
            for pair in ((share, customer), (customer, share), (share, account)):
                assert await cluster.post(cluster.pay(*pair)) == [Outcome.ACCOUNT_ID_RESERVED]
            first = cluster.pay(customer, share, flags=[TransferFlag.TRANSFER_FLAG_LINKED])
            told = await cluster.post(first, cluster.pay(customer, account))
            assert told == [Outcome.ACCOUNT_ID_RESERVED, Outcome.CHAIN_FAILED]
        both = list((await cluster.collect(account)).shares.values())
        request = PostTransfersRequest(transfers=[cluster.pay(*both)])
        (result,) = (await cluster.node.posting.PostTransfers(request, timeout=CALL_S)).results
        assert result.outcome == Outcome.ACCOUNT_ID_RESERVED
        assert await cluster.balance(account) == 0
