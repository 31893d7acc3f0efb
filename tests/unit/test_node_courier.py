"""Each leader's courier drives what its group has open, whatever died, over the model's groups."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from engine.core.chains.driver import next_steps
from engine.core.chains.plan import Chain, Plan, Side
from engine.core.chains.step_answers import SHORT, StepAnswers, blank_answers
from engine.core.chains.step_record import StepRecord
from engine.core.chains.word import Order, State, Step, Word, is_open
from engine.core.outcomes import Outcome
from engine.core.records import Kind
from engine.rpc.faults import CallFailed, Reason, unavailable
from engine.service.courier import courier
from engine.service.courier.courier import Courier, OpenChain
from router.chains.sending import SentAs
from tests.fake_groups import FakeGroups
from tests.fake_network import FakeNetwork, Weather, names_in
from tests.model.ledger import DEBITS_LIMITED, FROZEN, Account
from tests.protocol_rows import linked, row
from tests.simulation.virtual_loop import virtually

FUNDS = 1_000
MS = 1_000_000
GRACE_NS = 500 * MS
GROUPS = 3
A, B, C = (names_in(at, GROUPS, 1, "account")[0] for at in range(GROUPS))
SHUT = names_in(1, GROUPS, 1, "shut")[0]
B2 = names_in(1, GROUPS, 1, "other")[0]


class Cluster:
    """Three groups of the model, each with a courier; time is the loop's."""

    def __init__(self) -> None:
        accounts = {(at, name): Account(credits=FUNDS, flags=DEBITS_LIMITED) for at, name in enumerate((A, B, C))}
        accounts[1, SHUT], accounts[1, B2] = Account(flags=FROZEN), Account()
        self.groups = FakeGroups(GROUPS, accounts)
        self.network = FakeNetwork(self.groups, 1, Weather(late_s_max=0.001))
        self.deadline_ns = 0
        self.down: set[int] = set()
        self.short: set[int] = set()
        """Groups whose buckets are short: they decide nothing."""
        self.leads = True
        self.sent: list[tuple[int, list[Step]]] = []
        self.couriers = [self._courier(at) for at in range(GROUPS)]

    def _courier(self, at: int) -> Courier:
        async def page(after: int, count: int) -> Sequence[OpenChain]:
            opened = [
                OpenChain(number, self.deadline_ns, word)
                for number, (group, word) in enumerate(self.groups.open_words())
                if group == at and number > after
            ]
            return opened[:count]

        def clock_ns() -> int:
            return int(asyncio.get_running_loop().time() * 1e9)

        return Courier(at, [page], self._sender, is_leader=lambda: self.leads, clock_ns=clock_ns, grace_ns=GRACE_NS)

    def _sender(self, to: int) -> Callable[[StepRecord], Coroutine[Any, Any, StepAnswers]]:
        send = self.network._sender(to)

        async def deliver(record: StepRecord) -> StepAnswers:
            self.sent.append((to, [Step(kind) for kind in record.steps["step"]]))
            if to in self.down:
                await asyncio.sleep(0.01)
                raise CallFailed(unavailable(Reason.GROUP_UNREACHABLE, "down"))
            if to in self.short and set(record.steps["step"]) == {Step.DECIDE}:
                answers = blank_answers(len(record.steps))
                answers.answers["flags"], answers.answers["reason"] = SHORT, Outcome.CREDIT_LIMIT_EXCEEDED
                return answers
            replies = await send(record, SentAs((), 0), asyncio.get_running_loop().time() + 5)
            told: StepAnswers = replies.answers
            return told

        return deliver

    def route(self, chain: Chain, *steps: Step) -> None:
        """A router that dies once it has sent these steps."""
        words: dict[int, Word] = {}
        for step in steps:
            for order in next_steps(chain, words):
                if order.step is step:
                    word, _ = self.groups.run(order.group, order)
                    assert word is not None
                    words[order.group] = word

    def word(self, at: int, chain: Chain) -> Word | None:
        return self.groups.run(at, Order(Step.ASK, at, chain))[0]

    def states(self, chain: Chain) -> list[State]:
        words = [self.word(at, chain) for at in chain.groups]
        return [State.NONE if word is None else word.state for word in words]

    async def scan(self, *couriers: int, after_s: float = 1.0) -> None:
        await asyncio.sleep(after_s)
        for at in couriers or range(GROUPS):
            await self.couriers[at].scan()
            await self.couriers[at].at_rest()

    def chain(self, *rows: bytes, sides: tuple[tuple[int, int], ...], decider: int) -> Chain:
        return self.groups.chain(b"".join(rows), Plan(tuple(Side(*side) for side in sides), decider))

    def plain(self, name: str, **fields: Any) -> Chain:
        return self.chain(row(name, debit=A, credit=B, **fields), sides=((0, 1),), decider=1)


def test_what_a_router_left_reserved_is_decided_and_committed() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = cluster.plain("t1")
        cluster.route(chain, Step.RESERVE)
        await cluster.scan()
        assert cluster.states(chain) == [State.COMMITTED, State.POSTED]
        assert not cluster.groups.open_words()

    virtually(story())


def test_what_a_router_left_decided_is_committed() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = cluster.plain("t1")
        cluster.route(chain, Step.RESERVE, Step.DECIDE)
        await cluster.scan(0)
        assert cluster.states(chain) == [State.COMMITTED, State.POSTED]

    virtually(story())


def test_a_refusal_by_the_decider_gives_back_what_is_secured() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = cluster.chain(row("t1", debit=A, credit=SHUT), sides=((0, 1),), decider=1)
        cluster.route(chain, Step.RESERVE)
        await cluster.scan()
        assert cluster.states(chain) == [State.RELEASED, State.REFUSED]
        assert cluster.groups.account(0, A) == Account(credits=FUNDS, flags=DEBITS_LIMITED)

    virtually(story())


def test_a_chain_is_left_alone_for_the_grace() -> None:
    async def story() -> None:
        cluster = Cluster()
        cluster.route(cluster.plain("t1"), Step.RESERVE)
        await cluster.scan(after_s=0.4)
        assert cluster.sent == []
        await cluster.scan(after_s=0.1)
        assert cluster.sent

    virtually(story())


def test_a_follower_drives_nothing() -> None:
    async def story() -> None:
        cluster = Cluster()
        cluster.leads = False
        cluster.route(cluster.plain("t1"), Step.RESERVE)
        await cluster.scan()
        assert cluster.sent == []

    virtually(story())


def three(cluster: Cluster) -> Chain:
    """A chain from A over B to C, which decides."""
    rows = linked(row("t1", debit=A, credit=B), row("t2", debit=B, credit=C))
    return cluster.chain(rows, sides=((0, 1), (1, 2)), decider=2)


def test_three_groups_end_forward_before_the_deadline() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = three(cluster)
        cluster.groups.run(0, Order(Step.RESERVE, 0, chain))
        await cluster.scan(0)
        assert cluster.states(chain) == [State.COMMITTED, State.COMMITTED, State.POSTED]

    virtually(story())


def test_past_the_deadline_the_holder_of_one_reservation_has_it_aborted() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = three(cluster)
        cluster.groups.run(0, Order(Step.RESERVE, 0, chain))
        cluster.deadline_ns = 2
        await cluster.scan(0)
        assert cluster.states(chain) == [State.RELEASED, State.RELEASED, State.TOMBSTONE] or cluster.states(chain) == [
            State.RELEASED,
            State.NONE,
            State.TOMBSTONE,
        ]
        decided = cluster.word(2, chain)
        assert decided is not None
        assert decided.reason == Outcome.CHAIN_ABORTED
        assert not cluster.groups.open_words()

    virtually(story())


def test_the_chain_of_what_is_followed_is_no_word_for_the_follower(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        cluster = Cluster()
        original = cluster.groups.local(row("o1", debit=B, credit=B2), 1)
        cluster.groups.run(1, Order(Step.DECIDE, 1, original))
        legs = linked(row("f1", debit=A, credit=C), row("f2", debit=B, credit=B2, kind=Kind.REVERSE, followed="o1"))
        chain = cluster.chain(legs, sides=((0, 2), (1, 1)), decider=2)
        cluster.groups.run(0, Order(Step.RESERVE, 0, chain))
        await cluster.scan(0)
        assert cluster.sent == [(1, [Step.RESERVE])]
        assert cluster.states(chain)[0] is State.RESERVED
        cluster.deadline_ns = 2
        await cluster.scan(0)
        assert cluster.states(chain)[0] is State.RELEASED
        assert "cannot be driven" not in caplog.text

    virtually(story())


def test_hundreds_of_chains_go_in_a_handful_of_requests() -> None:
    async def story() -> None:
        cluster = Cluster()
        for number in range(300):
            cluster.route(cluster.plain(f"t{number}", amount=1), Step.RESERVE)
        await cluster.scan(0)
        assert not cluster.groups.open_words()
        assert len(cluster.sent) <= 8
        assert cluster.couriers[0].driven == 300

    virtually(story())


def test_a_group_that_is_down_keeps_only_its_own_chains_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "PAGE_CHAINS_MAX", 8)
    monkeypatch.setattr(courier, "ACTIVE_CHAINS_MAX", 16)

    async def story() -> None:
        cluster = Cluster()
        cluster.down = {2}
        stuck = [
            cluster.chain(row(f"s{number}", debit=A, credit=C, amount=1), sides=((0, 2),), decider=2)
            for number in range(40)
        ]
        for chain in stuck:
            cluster.route(chain, Step.RESERVE)
        free = cluster.plain("t1")
        cluster.route(free, Step.RESERVE)
        await cluster.scan(0)
        assert cluster.states(free) == [State.COMMITTED, State.POSTED]
        assert set(cluster.couriers[0].waits_for.values()) == {frozenset({2})}
        cluster.down.clear()
        await cluster.scan(0)
        await cluster.scan(0)
        await cluster.scan(0)
        assert not cluster.groups.open_words()
        assert cluster.couriers[0].waits_for == {}

    virtually(story())


def test_a_hold_past_its_deadline_ends_once_its_decider_says_so() -> None:
    async def story() -> None:
        cluster = Cluster()
        hold = cluster.plain("h1", kind=Kind.RESERVE, timeout_s=5)
        cluster.route(hold, Step.RESERVE, Step.DECIDE, Step.HOLD)
        assert cluster.states(hold) == [State.HELD, State.HELD]
        await cluster.scan(0)
        assert cluster.sent == [], "a hold that is not due is nobody's business"
        cluster.deadline_ns = 2
        await cluster.scan(0)
        assert cluster.sent == [(1, [Step.ASK])]
        cluster.groups.expire()
        await cluster.scan(0)
        word = cluster.word(0, hold)
        assert word is not None
        assert not is_open(word)

    virtually(story())


def test_a_hold_is_told_from_when_its_timeout_counts() -> None:
    async def story() -> None:
        cluster = Cluster()
        times: list[int] = []
        chain = cluster.plain("h1", kind=Kind.RESERVE, timeout_s=5)
        cluster.route(chain, Step.RESERVE)
        send = cluster._sender(0)

        async def watched(record: StepRecord) -> StepAnswers:
            times.extend(int(step["time"]) for step in record.steps if step["step"] == Step.HOLD)
            return await send(record)

        cluster.couriers[0]._senders = lambda to: watched if to == 0 else cluster._sender(to)
        await cluster.scan(0)
        decided = cluster.word(1, chain)
        assert decided is not None
        assert times == [decided.timestamp_ns]

    virtually(story())


def test_a_group_that_says_nonsense_ends_nothing() -> None:
    async def story() -> None:
        cluster = Cluster()
        cluster.route(cluster.plain("t1"), Step.RESERVE)

        async def nonsense(record: StepRecord) -> StepAnswers:
            whole = await cluster._sender(1)(record)
            return whole._replace(answers=whole.answers[:0])

        cluster.couriers[0]._senders = lambda _: nonsense
        await cluster.scan(0)
        assert len(list(cluster.groups.open_words())) == 1
        assert cluster.couriers[0].waits_for == {b"t1".ljust(16, b"\0"): frozenset({1})}

    virtually(story())


def test_a_chain_that_a_bucket_is_short_for_waits_for_money_and_is_not_asked_about_at_every_scan() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = cluster.plain("t1")
        cluster.route(chain, Step.RESERVE)
        cluster.short = {1}
        await cluster.scan()
        await cluster.scan(after_s=courier.SHORT_AGAIN_S / 2)
        assert cluster.sent == [(1, [Step.DECIDE])]
        await cluster.scan(after_s=courier.SHORT_AGAIN_S)
        assert cluster.sent == [(1, [Step.DECIDE])] * 2
        assert cluster.states(chain) == [State.RESERVED, State.NONE]
        cluster.short.clear()
        await cluster.scan()
        assert cluster.states(chain) == [State.COMMITTED, State.POSTED]

    virtually(story())


def test_a_chain_that_a_bucket_stays_short_for_is_aborted() -> None:
    async def story() -> None:
        cluster = Cluster()
        chain = cluster.plain("t1")
        cluster.route(chain, Step.RESERVE)
        cluster.short = {1}
        await cluster.scan()
        await cluster.scan(after_s=courier.SHORT_ENDS_AFTER_S / 2)
        assert cluster.states(chain) == [State.RESERVED, State.NONE]
        await cluster.scan(after_s=courier.SHORT_ENDS_AFTER_S / 2)
        assert cluster.states(chain) == [State.RELEASED, State.TOMBSTONE]
        word = cluster.word(1, chain)
        assert word is not None
        assert word.reason == Outcome.CHAIN_ABORTED
        assert cluster.groups.account(0, A) == Account(credits=FUNDS, flags=DEBITS_LIMITED)
        await cluster.scan()
        assert cluster.couriers[0]._short == {}, "what has ended is forgotten"

    virtually(story())
