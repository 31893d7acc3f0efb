"""Split accounts on real processes: spent to exactly zero by many callers, read as one, merged, frozen and closed."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from bench.contention.accounts import BANK, PURSE
from engine.core.outcomes import Outcome
from postingengine.v1.admin_service_pb2 import MergeAccountRequest, SplitAccountRequest
from postingengine.v1.posting_service_pb2 import ListEntriesRequest
from tests.chaos.split_stage import CALL_S, Stage, on_stage

KILL_AFTER_S = 0.7


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
        leader = await stage.leader(0)

        async def kill() -> None:
            await asyncio.sleep(KILL_AFTER_S)
            stage.cluster.kill(leader)

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
