"""Split accounts on real nodes behind a real router: moves are few and explained, hot accounts split by themselves."""

import asyncio
import json
import logging
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bench.contention.journals import JournalRows, Journals
from engine.config import HotAccountsConfig, HotAccountsPolicy
from engine.core.chains.plan import Chain, lay_out
from engine.core.chains.step_record import steps_of
from engine.core.chains.word import Order, Step
from engine.core.outcomes import Outcome
from engine.core.split.buckets import Presence
from engine.core.split.pools import Pull, Side, pool_of
from postingengine.v1.account_pb2 import AccountFlag
from postingengine.v1.transfer_pb2 import TransferFlag
from router.chains.sending import SentAs
from router.split import rebalancing
from router.split.buckets import CALLER, move_row, row_of
from router.split.rebalancing import MINUTE_NS, ROUND_S
from tests.running_cluster import CALL_S, Running, running, two_groups, until
from tests.unit.test_node_metrics import figures

LIMITED = AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS
NEVER_MS = 10**9
MONEY = 1_000_000
POSTED, INSUFFICIENT = int(Outcome.POSTED), int(Outcome.INSUFFICIENT_FUNDS)


async def funded(cluster: Running, home: int = 0) -> tuple[bytes, list[bytes]]:
    """A limited account with money, not split, and a customer in each group."""
    account, bank = cluster.accounts(home, 2)
    customers = [cluster.accounts(group, 3)[2] for group in range(2)]
    await cluster.node.make_accounts(bank, *customers)
    await cluster.node.make_accounts(account, flags=[LIMITED])
    assert await cluster.post(cluster.pay(bank, account, MONEY)) == [POSTED]
    return account, customers


# ---- the rebalancer ----

ROUNDS = 13
POSTS_A_ROUND = (60, 180)
"""Of each group, about one log record each: ten records a second of the rebalancer's clock, in both groups."""
INCOMES = [MONEY * 3**number for number in range(ROUNDS)]
"""What comes in at home in each round: so much that the other bucket is short again at once."""


async def test_under_a_steady_load_moves_are_few_and_one_way_and_hardly_seen_in_the_logs(tmp_path: Path) -> None:
    """Three minutes of rounds on real nodes, whose clock is told to the rebalancer."""
    async with running(two_groups(tmp_path, log_record_bytes_target=128)) as cluster:
        account, customers = await funded(cluster)
        bank = cluster.accounts(0, 2)[1]
        await cluster.split(account)
        moves: Counter[tuple[int, int, int]] = Counter()
        of_rebalancer = of_all = 0
        for number in range(ROUNDS):
            started = await cluster.log_records()
            spent = [
                cluster.pay(account, one) for one, n in zip(customers, POSTS_A_ROUND, strict=True) for _ in range(n)
            ]
            assert set(await cluster.post(*spent, cluster.pay(bank, account, INCOMES[number]))) == {POSTED}
            loaded, now_ns = await cluster.log_records(), 10**18 + int(number * ROUND_S * 1e9)
            before = await cluster.collect(account)
            await cluster.rebalancing.balance(before, now_ns, time.monotonic() + CALL_S)
            await cluster.buckets.behind.drain()
            done = await cluster.log_records()
            of_rebalancer, of_all = of_rebalancer + done - loaded, of_all + done - started
            for one, two in zip(before.buckets, (await cluster.collect(account)).buckets, strict=True):
                given = two.share.debits_posted > one.share.debits_posted
                moves[one.group, given, now_ns // MINUTE_NS] += two.share != one.share
        by_bucket_and_minute = Counter({key: count for key, count in moves.items() if count})
        assert by_bucket_and_minute and max(by_bucket_and_minute.values()) == 1
        assert {(group, given) for group, given, _ in by_bucket_and_minute} == {(0, True), (1, False)}, "one way only"
        assert cluster.rebalancing.moves == sum(given for _, given, _ in by_bucket_and_minute)
        assert of_rebalancer <= 0.02 * of_all
        pools = [pool_of(one, Side.DEBIT) for one in (await cluster.collect(account)).buckets]
        assert sum(pools) == MONEY + sum(INCOMES) - ROUNDS * sum(POSTS_A_ROUND)


# ---- the policy ----


async def test_a_hot_account_is_split_by_itself_and_no_more_than_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rebalancing, "ROUND_S", 0.2)
    policy = HotAccountsConfig(
        policy=HotAccountsPolicy.AUTOMATIC, window_s=1, transfers_per_s_min=5, windows_min=1, accounts_max=1
    )
    config = msgspec.structs.replace(two_groups(tmp_path), hot_accounts=policy)
    with caplog.at_level(logging.INFO, "router.split.rebalancing"):
        async with running(config) as cluster:
            hot, warm = cluster.accounts(0, 2)
            customers = cluster.accounts(1, 300)
            await cluster.node.make_accounts(hot, warm, *customers)
            loading = asyncio.create_task(pay_fees(cluster, {hot: 200, warm: 100}, customers))
            await until(lambda: bool(len(cluster.buckets.map)), "an account is split")
            await until(lambda: "the most that hot_accounts allows" in caplog.text, "the bound is told")
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            assert [one.account for one in cluster.buckets.map.splits] == [hot]
            assert (await figures(str(config.routers[0].metrics)))["posting_engine_router_splits_total",] == 1
    (told,) = [one.getMessage() for one in caplog.records if "is split by policy" in one.getMessage()]
    assert hot.hex() in told and "split it: " in told and "% of this group's transfers" in told


async def pay_fees(cluster: Running, counts: dict[bytes, int], customers: list[bytes]) -> None:
    while True:
        # In turn, so that any part of a batch, such as a window sees, has more for who gets more.
        turns = sorted((n / count, fees, n) for fees, count in counts.items() for n in range(count))
        batch = [cluster.pay(customers[n], fees) for _, fees, n in turns]
        assert set(await cluster.post(*batch)) == {POSTED}
        await asyncio.sleep(0.05)


# ---- moves on their way ----


async def test_moves_on_their_way_are_explained_at_every_step(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path, courier_grace_ms=NEVER_MS)) as cluster:
        account, _ = await funded(cluster)
        await cluster.split(account)
        state = await cluster.collect(account)
        row, groups = move_row(state, Side.DEBIT, Pull(0, 1, 500), b"nonce")
        chain = lay_out(row, [groups])
        assert isinstance(chain, Chain)
        found = []
        for order in (
            Order(Step.RESERVE, 0, chain),
            Order(Step.DECIDE, 1, chain, (500,)),
            Order(Step.COMMIT, 0, chain, (500,)),
        ):
            record = steps_of([order], [time.time_ns() + 10**12 if order.step is Step.RESERVE else 0])
            lane = cluster.buckets.lanes.lane(order.group)
            epoch = cluster.router._directory.placement.epoch
            await lane.ask(record, SentAs(CALLER, epoch), time.monotonic() + CALL_S)
            assert all(group["balanced"] for group in json.loads(await cluster.command("audit", "--json")))
            (pair,) = json.loads(await cluster.command("reconcile", "--json"))["pairs"]
            found.append((pair["difference"], pair["on_its_way"], pair["undecided"], pair["moves"]))
            assert pair["unexplained"] == 0
            assert await cluster.balance(account) == MONEY
        assert found == [(0, 0, 1, 1), (-500, 500, 0, 1), (0, 0, 0, 0)]


# ---- splits that nobody finished ----


async def test_a_split_that_died_behind_its_home_is_finished_by_any_router(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path)) as cluster:
        account, customers = await funded(cluster, home=1)
        deadline_s = time.monotonic() + CALL_S
        (held,), _ = await cluster.buckets.held(1, [account], deadline_s)
        await cluster.buckets.send_rows(1, [row_of(account, held)], deadline_s)
        await cluster.rebalancing.finish_splits()
        (found,), _ = await cluster.buckets.held(0, [account], deadline_s)
        assert found.presence is Presence.BUCKET and account in cluster.buckets.map
        all_of_it = cluster.pay(account, customers[0], 2 * MONEY, flags=[TransferFlag.TRANSFER_FLAG_BALANCING_DEBIT])
        assert await cluster.post(all_of_it) == [POSTED]
        assert await cluster.balance(account) == 0
        before = await cluster.log_records()
        await cluster.rebalancing.finish_splits()
        assert await cluster.log_records() - before <= 1, "nothing is left to do but to look"


# ---- the last stretch ----


async def test_a_batch_beyond_what_there_is_is_paid_to_the_last_cent_and_refused_together(tmp_path: Path) -> None:
    async with running(two_groups(tmp_path)) as cluster:
        account, customers = await funded(cluster)
        await cluster.split(account)
        some = [cluster.pay(account, customers[number % 2], MONEY // 300) for number in range(450)]
        told = await cluster.post(*some)
        assert Counter(told) == {POSTED: 300, INSUFFICIENT: 150}
        assert await cluster.post(*some) == told, "every retry gets the same"
        left = MONEY - 300 * (MONEY // 300)
        assert await cluster.balance(account) == left
        assert await cluster.post(cluster.pay(account, customers[1], left)) == [POSTED]


# ---- what the journals say of it ----


async def test_metrics_tell_rows_of_one_group_from_rows_over_groups(tmp_path: Path) -> None:
    config = two_groups(tmp_path)
    journals = Journals([str(group.replicas[0].metrics) for group in config.groups])
    async with running(config) as cluster:
        account, other = cluster.accounts(0, 2)
        customers = cluster.accounts(1, 20)
        await cluster.node.make_accounts(account, other, *customers)
        assert set(await cluster.post(*(cluster.pay(one, account) for one in customers))) == {POSTED}
        assert set(await cluster.post(*(cluster.pay(other, account) for _ in range(5)))) == {POSTED}
        before = await journals.rows()
        assert before == JournalRows(local=5, crossing=20)
        await cluster.split(account)
        assert set(await cluster.post(*(cluster.pay(one, account) for one in customers))) == {POSTED}
        assert await journals.rows() - before == JournalRows(local=20, crossing=0)
