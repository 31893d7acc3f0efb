"""The router drives chains over groups that lose, delay and repeat messages; nothing is lost, doubled or left open."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest

from engine.core.chains.word import State
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AMOUNT_ALL, Flag, Kind, as_words
from engine.rpc.faults import Logged, Reason
from router.chains.answers import BatchAnswers
from router.chains.network import Network
from router.chains.posting import BatchRun
from router.chains.sending import SentAs
from tests.fake_groups import FakeGroups
from tests.fake_network import FakeNetwork, Weather, names_in
from tests.model.ledger import DEBITS_LIMITED, Account
from tests.protocol_rows import linked, row
from tests.simulation.virtual_loop import virtually

T = TypeVar("T")
FINE = Weather()
STORM = Weather(lost=0.1, answer_lost=0.1, twice=0.2, late_s_max=0.05)
FUNDS = 1_000
NAMES = {groups: [names_in(at, groups, 4, "account") for at in range(groups)] for groups in (2, 3)}


def world(groups: int = 2, weather: Weather = FINE, seed: int = 1) -> FakeNetwork:
    """Two limited and two unlimited accounts in each group."""
    accounts = {
        (at, name): Account(credits=FUNDS, flags=DEBITS_LIMITED) if number < 2 else Account(credits=FUNDS)
        for at in range(groups)
        for number, name in enumerate(NAMES[groups][at])
    }
    return FakeNetwork(FakeGroups(groups, accounts), seed, weather)


def run(work: Coroutine[Any, Any, T]) -> T:
    return virtually(work, to_the_end=True)


async def post(router: Network, *rows: bytes, deadline_s: float = 30.0) -> BatchAnswers:
    loop = asyncio.get_running_loop()
    return await BatchRun(as_words(bytearray(b"".join(rows))), router, SentAs((), 1), loop.time() + deadline_s).run()


async def post_and_settle(net: FakeNetwork, router: Network, *rows: bytes) -> list[int]:
    batch = await post(router, *rows)
    await router.behind.drain()
    await net.settle()
    assert not batch.faults and not batch.stale
    return batch.results["outcome"].tolist()  # type: ignore[no-any-return]


def flags(batch: BatchAnswers) -> list[int]:
    return batch.results["flags"].tolist()  # type: ignore[no-any-return]


(A1, A2, A3, A4), (B1, B2, B3, B4) = NAMES[2]


def test_a_transfer_between_two_groups_is_reserved_posted_and_committed() -> None:
    net = world()
    router = net.router()
    assert run(post_and_settle(net, router, row("t1", debit=A1, credit=B1))) == [Outcome.POSTED]
    assert net.requests == [(0, 1), (1, 1), (0, 1)]
    assert net.groups.account(0, A1) == Account(30, FUNDS, flags=DEBITS_LIMITED)
    assert net.groups.account(1, B1) == Account(0, FUNDS + 30, flags=DEBITS_LIMITED)
    assert not net.groups.open_words() and not net.groups.unbalanced()


def test_a_caller_is_told_once_the_money_has_arrived_and_the_commit_follows() -> None:
    async def work() -> None:
        net = world()
        router = net.router()
        batch = await post(router, row("t1", debit=A1, credit=B1))
        assert batch.results["outcome"].tolist() == [Outcome.POSTED] and flags(batch) == [ResultFlag.IN_FLIGHT]
        assert net.groups.account(0, A1).debits_reserved == 30
        await router.behind.drain()
        assert net.groups.account(0, A1).debits_reserved == 0

    run(work())


def test_a_batch_costs_each_group_a_handful_of_requests() -> None:
    net = world()
    rows = [
        row(f"t{number}", debit=debit, credit=credit, amount=1)
        for number, (debit, credit) in enumerate([(A3, B3), (B4, A4)] * 500)
    ]
    assert set(run(post_and_settle(net, net.router(), *rows))) == {Outcome.POSTED}
    assert len(net.requests) <= 6
    assert net.groups.account(0, A3).debits == 500


def test_a_refusal_is_told_by_the_decider_and_the_money_is_given_back() -> None:
    net = world()
    router = net.router()
    poor = row("t1", debit=A1, credit=B1, amount=FUNDS + 1)
    assert run(post_and_settle(net, router, poor)) == [Outcome.INSUFFICIENT_FUNDS]
    assert run(post_and_settle(net, net.router(), poor)) == [Outcome.INSUFFICIENT_FUNDS]
    assert net.groups.account(0, A1) == Account(0, FUNDS, flags=DEBITS_LIMITED)


def test_a_retry_is_replayed_and_another_body_is_a_conflict() -> None:
    async def work() -> None:
        net = world()
        first = await post(net.router(), row("t1", debit=A1, credit=B1))
        again = await post(net.router(), row("t1", debit=A1, credit=B1))
        other = await post(net.router(), row("t1", debit=A1, credit=B1, amount=31))
        assert [flags(one)[0] & ResultFlag.REPLAYED for one in (first, again, other)] == [0, 1, 0]
        assert again.results["position"] == first.results["position"]
        assert other.results["outcome"].tolist() == [Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT]
        local = await post(net.router(), row("t1", debit=A1, credit=A2))
        assert local.results["outcome"].tolist() == [Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT]

    run(work())


def test_a_chain_over_two_groups_is_all_or_nothing() -> None:
    net = world()
    whole = linked(row("c1", debit=A1, credit=B1), row("c2", debit=B1, credit=A2, amount=FUNDS + 30))
    broken = linked(row("d1", debit=A1, credit=B1), row("d2", debit=B2, credit=A2, amount=FUNDS + 1))
    assert run(post_and_settle(net, net.router(), whole)) == [Outcome.POSTED, Outcome.POSTED]
    assert run(post_and_settle(net, net.router(), broken)) == [Outcome.CHAIN_FAILED, Outcome.INSUFFICIENT_FUNDS]
    assert net.groups.account(0, A2).credits == 2 * FUNDS + 30
    assert not net.groups.open_words() and not net.groups.unbalanced()


def test_a_hold_over_groups_is_committed_in_parts_and_released() -> None:
    net = world()
    hold = row("r1", debit=A1, credit=B1, amount=100, kind=Kind.RESERVE)
    part = row("r2", debit=A1, credit=B1, amount=40, followed="r1", kind=Kind.COMMIT, flags=Flag.KEEP_REST)
    rest = row("r3", debit=A1, credit=B1, amount=AMOUNT_ALL, followed="r1", kind=Kind.COMMIT)
    late = row("r4", debit=A1, credit=B1, amount=0, followed="r1", kind=Kind.RELEASE)
    outcomes = [run(post_and_settle(net, net.router(), each)) for each in (hold, part, rest, late)]
    assert outcomes == [[1], [1], [1], [Outcome.RESERVATION_ALREADY_COMMITTED]]
    assert net.groups.account(1, B1).credits == FUNDS + 100
    assert not net.groups.open_words() and not net.groups.unbalanced()


def test_a_reversal_is_told_once_the_money_is_back() -> None:
    async def work() -> None:
        net = world()
        await post_and_settle(net, net.router(), row("t1", debit=A1, credit=B1))
        batch = await post(net.router(), row("t2", debit=A1, credit=B1, followed="t1", kind=Kind.REVERSE))
        assert batch.results["outcome"].tolist() == [Outcome.POSTED] and flags(batch) == [0]
        assert net.groups.account(0, A1).credits == FUNDS + 30

    run(work())


def test_a_follower_is_laid_out_as_its_original_was() -> None:
    """The hold's chain was decided by the other group; by today's map its COMMIT would be a local one."""
    net = world()
    chain = linked(row("c1", debit=A1, credit=A2, kind=Kind.RESERVE), row("c2", debit=A3, credit=B1))
    follower = row("f1", debit=A1, credit=A2, followed="c1", kind=Kind.COMMIT)
    pair = linked(
        row("f2", debit=A1, credit=A2, amount=0, followed="c3", kind=Kind.RELEASE), row("f3", debit=B3, credit=A3)
    )
    another = linked(row("c3", debit=A1, credit=A2, kind=Kind.RESERVE), row("c4", debit=A3, credit=B1))
    for rows in (chain, another):
        assert run(post_and_settle(net, net.router(), rows)) == [1, 1]
    assert run(post_and_settle(net, net.router(), follower)) == [1]
    assert run(post_and_settle(net, net.router(), pair)) == [1, 1]
    assert net.groups.account(0, A2).credits == FUNDS + 30
    assert not net.groups.open_words() and not net.groups.unbalanced()


def test_following_what_nobody_knows_is_refused_by_name() -> None:
    net = world()
    alone = row("f1", debit=A1, credit=B1, followed="x", kind=Kind.COMMIT)
    pair = linked(row("f2", debit=A1, credit=A2, followed="x", kind=Kind.COMMIT), row("f3", debit=B3, credit=A3))
    assert run(post_and_settle(net, net.router(), alone)) == [Outcome.FOLLOWED_MISSING]
    assert run(post_and_settle(net, net.router(), pair)) == [Outcome.FOLLOWED_MISSING, Outcome.CHAIN_FAILED]
    assert run(post_and_settle(net, net.router(), alone, pair)) == [
        Outcome.FOLLOWED_MISSING,
        Outcome.FOLLOWED_MISSING,
        Outcome.CHAIN_FAILED,
    ]


def test_a_balancing_leg_in_a_chain_over_groups_is_a_fault_of_the_whole_chain() -> None:
    async def work() -> None:
        net = world()
        legs = (row("c1", debit=A1, credit=B1, flags=Flag.BALANCING_DEBIT), row("c2", debit=A3, credit=B1))
        batch = await post(net.router(), linked(*legs), row("t1", debit=A3, credit=B3))
        assert [(item, fault.reason) for item, fault in sorted(batch.faults.items())] == [
            (0, "BALANCING_IN_CHAIN"),
            (1, "BALANCING_IN_CHAIN"),
        ]
        assert batch.results["outcome"].tolist() == [0, 0, Outcome.POSTED]
        await post_and_settle(
            net, net.router(), row("t2", debit=A1, credit=B1, flags=Flag.BALANCING_DEBIT, amount=5000)
        )
        assert net.groups.account(1, B1).credits == 2 * FUNDS

    run(work())


def test_a_group_that_is_down_fails_only_what_touches_it_and_in_time() -> None:
    async def work() -> None:
        net = world(3)
        (a, *_), (b, *_), (c, *_) = NAMES[3]
        net.down.add(2)
        loop, router = asyncio.get_running_loop(), net.router()
        pieces = [row("t1", debit=a, credit=b), row("t2", debit=a, credit=c), row("t3", debit=c, credit=a)]
        batches = [await post(router, one, deadline_s=2.0) for one in pieces]
        assert batches[0].results["outcome"].tolist() == [Outcome.POSTED]
        reserved, unreached = batches[1].faults[0], batches[2].faults[0]
        assert (reserved.reason, reserved.logged) == (Reason.FATE_UNKNOWN, Logged.UNKNOWN)
        assert (unreached.reason, unreached.logged) == (Reason.GROUP_UNREACHABLE, Logged.NO)
        assert loop.time() < 5.0
        net.down.clear()
        assert await post_and_settle(net, net.router(), *pieces) == [1, 1, 1]

    run(work())


# ---- histories ----


class Writer:
    """Random transfers, chains and followers; the same id may be asked for again."""

    def __init__(self, seed: int, groups: int) -> None:
        self._random = random.Random(seed)
        self._names = [name for names in NAMES[groups] for name in names]
        self._followable: list[tuple[str, str, str, Kind]] = []
        self._number = 0

    def batch(self) -> list[bytes]:
        return [self._chain() for _ in range(self._random.randrange(1, 12))]

    def _chain(self) -> bytes:
        legs = self._random.choice((1, 1, 1, 1, 2, 3))
        return linked(*(self._leg() for _ in range(legs)))

    def _leg(self) -> bytes:
        self._number += 1
        name, amount = f"t{self._number}", self._random.randrange(1, 300)
        if self._followable and self._random.random() < 0.3:
            followed, debit, credit, kind = self._random.choice(self._followable)
            follows = Kind.REVERSE if kind is Kind.POST else self._random.choice((Kind.COMMIT, Kind.RELEASE))
            amount = 0 if follows is Kind.RELEASE else amount
            return row(name, debit=debit, credit=credit, amount=amount, followed=followed, kind=follows)
        debit, credit = self._random.sample(self._names, 2)
        kind = self._random.choice((Kind.POST, Kind.POST, Kind.RESERVE))
        self._followable.append((name, debit, credit, kind))
        timeout_s = 60 if kind is Kind.RESERVE else 0
        return row(name, debit=debit, credit=credit, amount=amount, kind=kind, timeout_s=timeout_s)


async def history(groups: int, seed: int) -> None:
    """Several routers post, some of it twice and at once; then all is healed, and everything is asked for again."""
    net, writer, chance = world(groups, STORM, seed), Writer(seed, groups), random.Random(-seed)
    routers = [net.router() for _ in range(3)]
    batches = [writer.batch() for _ in range(12)]
    asked = [(batch, router) for batch in batches for router in routers if chance.random() < 0.6]
    told = await asyncio.gather(*(post(router, *batch, deadline_s=20.0) for batch, router in asked))
    for router in routers:
        await router.behind.drain()
    await net.settle()
    net.groups.expire()
    net.heal()
    assert not [word for _, word in net.groups.open_words() if word.state is not State.HELD]
    net.weather = FINE
    final = {id(batch): await post(net.router(), *batch) for batch in batches}
    for (batch, _), one in zip(asked, told, strict=True):
        check_same(one, final[id(batch)])
    check_rest(net, groups)


def check_same(first: BatchAnswers, last: BatchAnswers) -> None:
    """I3: whatever was told at any time, by any router, is told again."""
    assert not last.stale and {fault.reason for fault in last.faults.values()} <= {"CHAIN_OF_SEVERAL_DECIDERS"}
    for at, outcome in enumerate(first.results["outcome"].tolist()):
        if at not in first.faults:
            assert (at, outcome) == (at, int(last.results["outcome"][at]))


def check_rest(net: FakeNetwork, groups: int) -> None:
    """I1, I9: books balance, and transit balances are zero where nothing is on its way."""
    assert not net.groups.unbalanced()
    if net.groups.open_words():
        return
    for one in range(groups):
        for other in range(one):
            ours = net.groups.account(one, f"transit {'ABC'[other]}")
            theirs = net.groups.account(other, f"transit {'ABC'[one]}")
            assert ours.debits - ours.credits == theirs.credits - theirs.debits
            assert not ours.debits_reserved and not ours.credits_reserved


@pytest.mark.parametrize("seed", range(1, 21))
@pytest.mark.parametrize("groups", [2, 3])
def test_whatever_the_network_does_every_id_has_one_outcome(groups: int, seed: int) -> None:
    run(history(groups, seed))


def test_balances_are_the_sums_of_what_was_told() -> None:
    async def work() -> None:
        net, chance = world(3, STORM, 5), random.Random(5)
        names = [name for group in NAMES[3] for name in group]
        moved = dict.fromkeys(names, 0)
        rows, routers = [], [net.router(), net.router()]
        for number in range(400):
            debit, credit = chance.sample(names, 2)
            rows.append((f"t{number}", debit, credit, chance.randrange(1, 200)))
        packed = [row(name, debit=debit, credit=credit, amount=amount) for name, debit, credit, amount in rows]
        halves = [post(router, *packed[at::2], deadline_s=60.0) for at, router in enumerate(routers)]
        told = np.zeros(len(rows), np.uint16)
        for at, batch in enumerate(await asyncio.gather(*halves)):
            assert not batch.faults
            told[at::2] = batch.results["outcome"]
        for router in routers:
            await router.behind.drain()
        await net.settle()
        net.heal()
        for (_, debit, credit, amount), outcome in zip(rows, told.tolist(), strict=True):
            if outcome == Outcome.POSTED:
                moved[debit] -= amount
                moved[credit] += amount
        assert set(told.tolist()) == {Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS}
        for at in range(3):
            for name in NAMES[3][at]:
                account = net.groups.account(at, name)
                assert account.credits - account.debits == FUNDS + moved[name]

    run(work())
