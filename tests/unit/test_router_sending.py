"""The lane to a group: what waits together goes together, bounded, within deadlines, and honest about what was sent."""

import asyncio

import numpy as np
import pytest

from engine.core.chains.plan import Side, chain_of
from engine.core.chains.step_answers import blank_answers
from engine.core.chains.step_record import StepRecord, steps_of
from engine.core.chains.word import Order, Step
from engine.rpc.faults import CallFailed, Logged, Reason, invalid, overloaded, stale_placement
from engine.rpc.steps import ON_RECORD
from engine.service.peers import STEPS_MAX
from router.chains import sending as chains_sending
from router.chains.posting import PLAIN_RUN_ROWS_MAX
from router.chains.sending import FRESH_REQUESTS_MAX, REQUEST_ROWS_TARGET, Lane, Replies, SentAs
from tests.passing_time import let_pass
from tests.protocol_rows import laid_out, row

AS_ALICE = SentAs((("caller", "alice"),), 1)
AS_BOB = SentAs((("caller", "bob"),), 1)


def step(name: str = "t1") -> StepRecord:
    return steps_of([Order(Step.RESERVE, 0, laid_out(row(name), sides=((0, 1),)))])


class Group:
    """Answers each step with its number in the request as position."""

    def __init__(self) -> None:
        self.requests: list[tuple[SentAs, int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failures: list[CallFailed] = []

    async def send(self, record: StepRecord, sent_as: SentAs, deadline_s: float) -> Replies:
        self.requests.append((sent_as, len(record.steps)))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        answers = blank_answers(len(record.steps))
        answers.answers["position"] = np.arange(len(record.steps))
        return Replies(answers, 7)


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_what_is_asked_in_one_turn_goes_in_one_request_and_each_gets_its_own_answers() -> None:
    group = Group()
    lane = Lane(0, group.send)
    replies = await asyncio.gather(*(lane.ask(step(f"t{at}"), AS_ALICE, soon()) for at in range(50)))
    assert [size for _, size in group.requests] == [50]
    assert [one.answers.answers["position"].tolist() for one in replies] == [[at] for at in range(50)]
    assert {one.log_index for one in replies} == {7}


async def test_callers_do_not_share_a_request() -> None:
    group = Group()
    lane = Lane(0, group.send)
    await asyncio.gather(*(lane.ask(step(), sent_as, soon()) for sent_as in (AS_ALICE, AS_ALICE, AS_BOB)))
    assert group.requests == [(AS_ALICE, 2), (AS_BOB, 1)]


async def test_while_as_many_requests_as_may_are_on_their_way_the_rest_waits_and_goes_together() -> None:
    group = Group()
    group.open.clear()
    lane = Lane(0, group.send)
    asked = []
    for at in range(FRESH_REQUESTS_MAX + 20):
        asked.append(asyncio.create_task(lane.ask(step(f"t{at}"), AS_ALICE, soon())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(group.requests) == FRESH_REQUESTS_MAX
    group.open.set()
    await asyncio.gather(*asked)
    assert [size for _, size in group.requests] == [1] * FRESH_REQUESTS_MAX + [20]


async def test_what_is_on_record_goes_before_what_is_not() -> None:
    group = Group()
    group.open.clear()
    lane = Lane(0, group.send)
    later = AS_ALICE._replace(placement_epoch=ON_RECORD)
    asked = []
    for sent_as in [AS_ALICE] * (FRESH_REQUESTS_MAX + 1) + [later]:
        asked.append(asyncio.create_task(lane.ask(step(), sent_as, soon())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert [sent_as for sent_as, _ in group.requests] == [AS_ALICE] * FRESH_REQUESTS_MAX + [later]
    group.open.set()
    await asyncio.gather(*asked)
    assert len(group.requests) == FRESH_REQUESTS_MAX + 2


async def test_a_deadline_says_whether_anything_was_sent() -> None:
    group = Group()
    group.open.clear()
    lane = Lane(0, group.send)
    asked = [asyncio.create_task(lane.ask(step(), AS_ALICE if at % 2 else AS_BOB, soon(60))) for at in range(20)]
    while len(group.requests) < FRESH_REQUESTS_MAX:
        await asyncio.sleep(0)
    let_pass(61)
    found = await asyncio.gather(*asked, return_exceptions=True)
    faults = [one.fault for one in found if isinstance(one, CallFailed)]
    sent = [fault.logged for fault in faults if fault.reason == Reason.FATE_UNKNOWN]
    unsent = [fault.logged for fault in faults if fault.reason == Reason.GROUP_UNREACHABLE]
    assert (len(sent), len(unsent)) == (FRESH_REQUESTS_MAX, 20 - FRESH_REQUESTS_MAX)
    assert set(sent) == {Logged.UNKNOWN} and set(unsent) == {Logged.NO}


async def test_too_much_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains_sending, "WAITING_ROWS_MAX", 3)
    group = Group()
    lane = Lane(0, group.send)
    found = await asyncio.gather(*(lane.ask(step(), AS_ALICE, soon()) for _ in range(5)), return_exceptions=True)
    refused = [one.fault.reason for one in found if isinstance(one, CallFailed)]
    assert refused == [Reason.OVERLOADED] * 2
    assert [size for _, size in group.requests] == [3]


async def test_a_request_that_fails_fails_for_all_who_shared_it() -> None:
    group = Group()
    group.failures = [CallFailed(overloaded("too much"))]
    lane = Lane(0, group.send)
    found = await asyncio.gather(*(lane.ask(step(), AS_ALICE, soon()) for _ in range(3)), return_exceptions=True)
    assert [one.fault.reason for one in found if isinstance(one, CallFailed)] == [Reason.OVERLOADED] * 3


async def test_a_step_that_is_invalid_does_not_spoil_those_that_went_with_it() -> None:
    group = Group()
    wrong = CallFailed(invalid("CHAIN_TOO_LONG", "too long"))
    group.failures = [wrong, wrong]  # of the whole request, and then of the first one alone
    lane = Lane(0, group.send)
    found = await asyncio.gather(*(lane.ask(step(), AS_ALICE, soon()) for _ in range(3)), return_exceptions=True)
    assert [isinstance(one, CallFailed) for one in found] == [True, False, False]
    assert [size for _, size in group.requests] == [3, 1, 1, 1]


async def test_who_insists_asks_again_with_another_attempt_but_not_under_an_old_placement() -> None:
    group = Group()
    lane = Lane(0, group.send)
    group.failures = [CallFailed(overloaded("too much")), CallFailed(overloaded("too much"))]
    await lane.insist(step(), AS_ALICE, soon())
    assert [sent_as.attempt for sent_as, _ in group.requests] == [1, 2, 3]
    group.failures = [CallFailed(stale_placement("old"))]
    with pytest.raises(CallFailed):
        await lane.insist(step(), AS_ALICE, soon())


def test_what_is_sent_is_small_enough_for_a_server() -> None:
    chain = chain_of(row("t1") * 8190, laid_out(row(), sides=((0, 1),)).plan._replace(sides=(Side(0, 1),) * 8190))
    largest = 2 * len(chain.rows) + 2 * 8190 * (64 + 4 + 40)
    assert largest < 4 << 20


def test_no_request_of_runs_is_longer_than_a_group_takes() -> None:
    assert REQUEST_ROWS_TARGET + PLAIN_RUN_ROWS_MAX <= STEPS_MAX
