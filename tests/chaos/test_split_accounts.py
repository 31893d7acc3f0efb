"""Split accounts on real processes: spent to exactly zero by many callers, read as one, merged, frozen and closed."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest

from bench.bulk import open_stub
from bench.cluster import BenchCluster
from bench.contention.accounts import BANK, PURSE, Cast, cast_of, create, split
from bench.contention.books import Books
from bench.contention.checks import Moved, check
from bench.contention.drain import Drained, drain
from bench.contention.mixes import Mix, Shares
from bench.contention.sending import Sender
from engine.core.outcomes import Outcome
from postingengine.v1 import admin_service_pb2_grpc
from postingengine.v1.account_pb2 import AccountAnswer, AccountUpdate
from postingengine.v1.admin_service_pb2 import MergeAccountRequest, SplitAccountRequest
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, ListEntriesRequest, UpdateAccountsRequest
from tests.chaos.processes import Cluster

CALL_S = 20.0
DRAIN_S_MAX = 120.0
ORDINARY = 100
KILL_AFTER_S = 0.7

T = TypeVar("T")


class Stage:
    """A cluster with accounts, one of them split."""

    def __init__(self, cluster: Cluster, cast: Cast, groups: int) -> None:
        self.cluster, self.cast, self.groups = cluster, cast, groups
        self.purse = cast.ids[PURSE].tobytes()
        self.sender, self.moved = Sender(cluster.router), Moved(cast.ids)
        self.mix = Mix(cast, Shares(0.0, -1.0, 0.0, 1.1), np.random.default_rng(1))
        self.channel, self.stub = open_stub(cluster.router)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def drained(self, money: int) -> Drained:
        work = drain(self.sender, self.cast, self.mix, self.moved, money=money)
        return await asyncio.wait_for(work, DRAIN_S_MAX)

    async def read(self) -> AccountAnswer:
        request = GetAccountsRequest(ids=[self.purse], with_buckets=True)
        return (await self.stub.GetAccounts(request, timeout=CALL_S)).accounts[0]

    async def update(self, *, frozen: bool = False, closed: bool = False) -> str:
        version = (await self.read()).state.version
        update = AccountUpdate(
            id=uuid.uuid4().bytes, account=self.purse, ledger=1, expected_version=version, frozen=frozen, closed=closed
        )
        result = (await self.stub.UpdateAccounts(UpdateAccountsRequest(updates=[update]), timeout=CALL_S)).results[0]
        return result.fault.message if result.HasField("fault") else Outcome(result.outcome).name

    async def pay(self, debit: int, credit: int, amount: int) -> int:
        row = self.mix.between(np.array([[debit, credit]]), np.array([amount]))
        outcomes = await self.sender.post(row.tobytes())
        self.moved.add([row], [outcomes])
        return int(outcomes[0])

    async def check(self) -> None:
        books = Books(self.cluster.router, self.groups)
        verdict = await check(self.cluster.router, books, self.moved)
        await books.close()
        assert verdict.differences == 0 and verdict.balanced

    async def close(self) -> None:
        await self.sender.close()
        await self.channel.close()


def on_stage(folder: Path, act: Callable[[Stage], Awaitable[T]], *, groups: int, replicas: int = 1) -> T:
    """Start a cluster, create accounts, split one, and act."""
    cluster = Cluster(folder, replicas=replicas, groups=groups)

    async def play() -> T:
        cast = cast_of(BenchCluster(folder, cluster.router, (), ()), ordinary=ORDINARY, employees=0, seed=1)
        stage = Stage(cluster, cast, groups)
        await create(stage.stub, cast)
        await split(cluster.router, [stage.purse], groups)
        try:
            return await act(stage)
        finally:
            await stage.close()

    try:
        cluster.start(*cluster.nodes, "router")
        cluster.describe()
        return asyncio.run(play())
    finally:
        cluster.close()


def test_sixteen_buckets_are_spent_to_exactly_zero_by_64_callers(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        drained = await stage.drained(300)
        assert (drained.posted, drained.false_refusals, drained.overdrafts, drained.left) == (300, 0, 0, 0)
        balances = (await stage.read()).state.balances
        assert balances.debits_posted == balances.credits_posted and balances.credits_posted.low == 300
        await stage.check()

    on_stage(tmp_path, act, groups=16)


def test_a_leader_that_is_killed_meanwhile_changes_nothing(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        leaders = [group["leader"] for group in stage.cluster.describe()["groups"]]  # type: ignore[attr-defined]

        async def kill() -> None:
            await asyncio.sleep(KILL_AFTER_S)
            stage.cluster.kill(leaders[0])

        drained, _ = await asyncio.gather(stage.drained(800), kill())
        assert (drained.posted, drained.false_refusals, drained.overdrafts, drained.left) == (800, 0, 0, 0)
        await stage.check()

    on_stage(tmp_path, act, groups=2, replicas=3)


def test_a_split_account_is_read_as_one_merged_frozen_and_closed(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        shops = [next(n for n in stage.cast.ordinary if stage.cast.groups[n] == group) for group in range(2)]
        assert [await stage.pay(shop, PURSE, 50 + shop % 7) for shop in shops * 3] == [Outcome.POSTED] * 6
        assert await stage.pay(PURSE, shops[0], 280) == Outcome.POSTED
        await statement_is_whole(stage)
        money = (await stage.read()).state.balances.balance.low
        merged = await stage.admin.MergeAccount(MergeAccountRequest(account=stage.purse), timeout=CALL_S)
        answer = await stage.read()
        assert answer.state.balances.balance.low == money
        assert [one.balances.available.low for one in answer.buckets if one.group != merged.home] == [0]

        assert await stage.pay(PURSE, shops[1], money) == Outcome.POSTED
        assert "freeze it first" in await stage.update(closed=True)
        assert await stage.update(frozen=True) == "ACCOUNT_UPDATED"
        assert [await stage.pay(shop, PURSE, 1) for shop in shops] == [Outcome.CREDIT_ACCOUNT_FROZEN] * 2
        assert await stage.update(frozen=True, closed=True) == "ACCOUNT_UPDATED"
        assert [await stage.pay(shop, PURSE, 1) for shop in shops] == [Outcome.CREDIT_ACCOUNT_CLOSED] * 2
        await stage.check()

    on_stage(tmp_path, act, groups=2)


async def statement_is_whole(stage: Stage) -> None:
    """Pages of three lines; each line's balance is the sum of all before it."""
    lines, token = [], ""
    while True:
        request = ListEntriesRequest(account=stage.purse, page_size=3, page_token=token)
        page = await stage.stub.ListEntries(request, timeout=CALL_S)
        assert len(page.entries) <= 3
        lines += page.entries
        token = page.next_page_token
        if not token:
            break
    signs = [1 if line.side == 2 else -1 for line in lines]
    sums = np.cumsum([sign * line.amount.low for sign, line in zip(signs, lines, strict=True)]).tolist()
    assert [line.running_balance.low for line in lines] == sums and len(lines) == 7
    assert {line.group for line in lines} == {0, 1}
    assert [line.timestamp for line in lines] == sorted(line.timestamp for line in lines)


@pytest.mark.parametrize("groups", [2])
def test_what_cannot_be_split_is_refused_by_name(tmp_path: Path, groups: int) -> None:
    async def act(stage: Stage) -> None:
        other = stage.cast.ids[BANK].tobytes()
        share = b"\xff" * 8 + b"\x02\x00" + bytes(6)
        refused = [
            (other, 0, "ask for 2, not 0"),
            (other, 1, "ask for 2, not 1"),
            (other, 3, "ask for 2, not 3"),
            (bytes(15) + b"x", 2, "no account of that id"),
            (stage.purse, 2, "split already"),
            (share, 2, "the engine's own accounts"),
            (b"short", 2, "an id has 16"),
        ]
        for account, buckets, words in refused:
            with pytest.raises(grpc.aio.AioRpcError, match=words):
                await stage.admin.SplitAccount(SplitAccountRequest(account=account, buckets=buckets), timeout=CALL_S)
        with pytest.raises(grpc.aio.AioRpcError, match="never split"):
            await stage.admin.MergeAccount(MergeAccountRequest(account=other), timeout=CALL_S)

    on_stage(tmp_path, act, groups=groups)
