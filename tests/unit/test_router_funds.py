"""Callers whom a bucket was short for share collections and pulls; a refusal needs a proof."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from engine.core.records import AccountFlag
from engine.core.split.pools import Bucket, Counters, Pull, Side
from engine.rpc.faults import CallFailed, Reason, unavailable
from router.split.funds import Funds, Need, SplitState, Verdict, Want
from tests.simulation.virtual_loop import virtually

T = TypeVar("T")
DEBITS = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
ACCOUNT = b"a" * 16


def run(work: Coroutine[Any, Any, T]) -> T:
    return virtually(work, to_the_end=True)


class Bank:
    """Buckets in memory; collections and moves take their time."""

    def __init__(self, *credits: int) -> None:
        self.credits = list(credits)
        self.debits = [0] * len(credits)
        self.moved = [0] * len(credits)
        self.collections = self.moves = 0
        self.between: list[tuple[int, int]] = []
        """What comes in after each collection: (group, credits)."""
        self.is_down = False
        self.funds = Funds(self.collect, self.move)

    def pool(self, group: int) -> int:
        return self.credits[group] - self.debits[group] + self.moved[group]

    async def collect(self, account: bytes, _: float) -> SplitState:
        self.collections += 1
        await asyncio.sleep(0.01)
        if self.is_down:
            raise CallFailed(unavailable(Reason.GROUP_UNREACHABLE, "down"))
        buckets = tuple(
            Bucket(group, DEBITS, Counters(self.debits[group], got, 0, 0), _share(self.moved[group]))
            for group, got in enumerate(self.credits)
        )
        if self.between:
            group, amount = self.between.pop(0)
            self.credits[group] += amount
        return SplitState(account, 1, 0, 0, buckets, {}, {}, {})

    async def move(self, _: SplitState, side: Side, pulls: Sequence[Pull], __: float) -> int:
        await asyncio.sleep(0.01)
        posted = [pull for pull in pulls if self.pool(pull.giver) >= pull.amount]
        for pull in posted:
            self.moved[pull.giver] -= pull.amount
            self.moved[pull.taker] += pull.amount
        self.moves += len(posted)
        return len(posted)

    def spend(self, group: int, amount: int) -> bool:
        if self.pool(group) < amount:
            return False
        self.debits[group] += amount
        return True


def _share(moved: int) -> Counters:
    return Counters(max(0, -moved), max(0, moved), 0, 0)


def need(bank: Bank, group: int, *amounts: int, **more: bool) -> Need:
    return Need(ACCOUNT, Side.DEBIT, group, tuple(Want(one, **more) for one in amounts), bank.funds.ticket())


async def verdicts(bank: Bank, one: Need) -> list[Verdict]:
    told = await bank.funds.relieve(one, asyncio.get_running_loop().time() + 5)
    bank.funds.done(ACCOUNT, one.ticket)
    return [each.verdict for each in told]


def test_what_the_others_have_is_pulled_and_asked_for_again() -> None:
    bank = Bank(100, 0)
    assert run(verdicts(bank, need(bank, 1, 60))) == [Verdict.ASK_AGAIN]
    assert bank.pool(1) >= 60 and bank.collections == 1


def test_what_nobody_has_is_refused_after_a_second_collection() -> None:
    bank = Bank(50, 49)
    assert run(verdicts(bank, need(bank, 1, 100))) == [Verdict.REFUSE]
    assert bank.collections == 2 and bank.moves == 0


def test_money_that_comes_in_between_the_collections_forbids_the_refusal() -> None:
    bank = Bank(50, 49)
    bank.between = [(0, 1)]
    assert run(verdicts(bank, need(bank, 1, 100))) == [Verdict.LATER]


def test_callers_short_at_the_same_time_share_one_collection() -> None:
    async def work() -> None:
        bank = Bank(1000, 0, 0)
        first = asyncio.create_task(verdicts(bank, need(bank, 1, 1)))
        await asyncio.sleep(0.001)
        others = [verdicts(bank, need(bank, 1 + number % 2, 10)) for number in range(50)]
        assert await first == [Verdict.ASK_AGAIN]
        assert await asyncio.gather(*others) == [[Verdict.ASK_AGAIN]] * 50
        assert bank.collections == 2 and bank.moves <= 3

    run(work())


def test_first_come_is_first_served_and_the_rest_waits_without_being_refused() -> None:
    async def work() -> None:
        bank = Bank(100, 0, 0)
        needs = [need(bank, 1, 60), need(bank, 2, 60), need(bank, 2, 101)]
        assert await asyncio.gather(*(verdicts(bank, one) for one in needs)) == [
            [Verdict.ASK_AGAIN],
            [Verdict.LATER],
            [Verdict.REFUSE],
        ]

    run(work())


def test_what_was_pulled_for_one_is_not_pulled_away_before_it_has_asked() -> None:
    async def work() -> None:
        bank = Bank(100, 0, 0)
        mine, other = need(bank, 1, 60), need(bank, 2, 60)
        loop = asyncio.get_running_loop()
        assert (await bank.funds.relieve(mine, loop.time() + 5))[0].verdict is Verdict.ASK_AGAIN
        assert (await bank.funds.relieve(other, loop.time() + 5))[0].verdict is Verdict.LATER
        assert bank.spend(1, 60)
        bank.funds.done(ACCOUNT, mine.ticket)
        assert (await bank.funds.relieve(other, loop.time() + 5))[0].verdict is Verdict.REFUSE

    run(work())


def test_a_balancing_transfer_moves_the_proven_sum() -> None:
    async def work() -> None:
        bank = Bank(30, 12)
        one = need(bank, 1, 100, is_exact=False, is_balancing=True)
        told = await bank.funds.relieve(one, asyncio.get_running_loop().time() + 5)
        assert told == [(Verdict.MOVE, 42)]
        assert bank.pool(1) == 42

    run(work())


def test_a_balancing_transfer_is_refused_only_where_force_took_the_account_below_zero() -> None:
    async def work(debits: int) -> Verdict:
        bank = Bank(30, 12)
        bank.debits[0] = debits
        return (await verdicts(bank, need(bank, 1, 100, is_exact=False, is_balancing=True)))[0]

    assert [run(work(debits)) for debits in (41, 42, 43)] == [Verdict.MOVE, Verdict.MOVE, Verdict.REFUSE]


def test_what_cannot_be_proven_is_asked_again_with_all_there_is() -> None:
    bank = Bank(30, 12)
    assert run(verdicts(bank, need(bank, 1, 100, is_exact=False))) == [Verdict.ASK_AGAIN]
    assert bank.pool(1) == 42


def test_a_group_that_is_down_is_a_fault_and_never_a_refusal() -> None:
    bank = Bank(0, 0)
    bank.is_down = True
    with pytest.raises(CallFailed) as failed:
        run(verdicts(bank, need(bank, 1, 1)))
    assert failed.value.fault.reason == Reason.GROUP_UNREACHABLE


def test_many_callers_spend_one_account_to_zero_without_one_false_refusal() -> None:
    """The router's loop in small: ask, be relieved, ask again; everybody in a group of its own."""

    async def spender(bank: Bank, group: int, counts: dict[str, int]) -> None:
        while True:
            ticket = bank.funds.ticket()
            one = Need(ACCOUNT, Side.DEBIT, group, (Want(1),), ticket)
            while not bank.spend(group, 1):
                left = sum(bank.pool(at) for at in range(len(bank.credits)))
                told = (await bank.funds.relieve(one, asyncio.get_running_loop().time() + 60))[0]
                if told.verdict is Verdict.REFUSE:
                    counts["false"] += left > 0 and sum(bank.pool(at) for at in range(len(bank.credits))) > 0
                    bank.funds.done(ACCOUNT, ticket)
                    return
                await asyncio.sleep(0.001)
            bank.funds.done(ACCOUNT, ticket)
            counts["spent"] += 1

    async def work() -> None:
        bank, counts = Bank(*(500, *([0] * 15))), {"spent": 0, "false": 0}
        await asyncio.gather(*(spender(bank, number % 16, counts) for number in range(64)))
        assert counts == {"spent": 500, "false": 0}
        assert all(bank.pool(group) == 0 for group in range(16))

    run(work())
