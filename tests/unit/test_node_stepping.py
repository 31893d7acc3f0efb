"""Steps that are on record are answered from there, the rest is logged, and the answers come in the steps' order."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.core.chains.plan import Chain
from engine.core.chains.step_answers import AnsweredWord, StepAnswers, answers_of, words_of
from engine.core.chains.step_record import StepRecord, steps_of
from engine.core.chains.word import Hold, Order, State, Step, Word
from engine.core.records import Kind
from engine.rpc.faults import CallFailed, Reason, unavailable
from engine.service.replica import Replica
from engine.service.stepping import step
from engine.service.submission import Caller
from tests.protocol_rows import laid_out, row

ME = Caller("me", 1)


def chain(number: int, amount: int = 30) -> Chain:
    return laid_out(row(f"t{number}", amount=amount), sides=((0, 1),))


class Record:
    """A replica of group 0 that has some words on record; what it logs becomes RESERVED."""

    def __init__(self, *words: Word, leads: bool = True) -> None:
        self.words = {word.chain.chain_id: word for word in words}
        self.is_leader = leads
        self.logged: list[bytes] = []
        self.looked: list[bytes] = []
        self.applier = self
        self.machine = self

    def not_leading(self) -> Any:
        return unavailable(Reason.NOT_LEADER, "ask another")

    async def run(self, job: Any) -> Any:
        return job()

    def asked(self, record: StepRecord) -> StepAnswers:
        self.looked += ids(record)
        return self._answers(record)

    async def step(self, record: StepRecord, caller: Caller, deadline_s: float) -> Any:
        self.logged += ids(record)
        for one in ids(record):
            self.words.setdefault(one, Word(chain(int(one.rstrip(b"\0")[1:])), State.RESERVED, (30,)))
        return SimpleNamespace(whole_answer=lambda: self._answers(record), log_index=9)

    def _answers(self, record: StepRecord) -> StepAnswers:
        digests = [one.tobytes() for one in record.steps["digest"]]
        pairs = zip(ids(record), digests, strict=True)
        return answers_of(AnsweredWord(self.words.get(one), digest=digest) for one, digest in pairs)

    async def send(self, *orders: Order, looks_first: bool) -> tuple[list[Word | None], int]:
        deadline_s = asyncio.get_running_loop().time() + 5
        stepped = await step(cast(Replica, self), steps_of(orders), ME, deadline_s, looks_first=looks_first)
        return words_of(stepped.answers, [order.chain for order in orders], 0), stepped.log_index


def ids(record: StepRecord) -> list[bytes]:
    return [one.tobytes() for one in record.steps["chain_id"]]


def names(found: list[bytes]) -> list[str]:
    return [one.rstrip(b"\0").decode() for one in found]


def reserve(number: int, amount: int = 30) -> Order:
    return Order(Step.RESERVE, 0, chain(number, amount))


async def test_a_first_try_is_logged_without_looking() -> None:
    record = Record(Word(chain(1), State.RESERVED, (30,)))
    _, log_index = await record.send(reserve(1), reserve(2), looks_first=False)
    assert (names(record.logged), record.looked, log_index) == (["t1", "t2"], [], 9)


async def test_what_is_on_record_is_not_logged_again_and_all_answers_come_in_order() -> None:
    record = Record(*(Word(chain(number), State.RELEASED, (30,)) for number in (2, 3, 5)))
    words, log_index = await record.send(*(reserve(number) for number in range(1, 7)), looks_first=True)
    assert names(record.logged) == ["t1", "t4", "t6"]
    assert [word.chain.chain_id for word in words if word] == [chain(number).chain_id for number in range(1, 7)]
    assert [word.state for word in words if word] == [
        State.RESERVED,
        State.RELEASED,
        State.RELEASED,
        State.RESERVED,
        State.RELEASED,
        State.RESERVED,
    ]
    assert log_index == 9


async def test_nothing_is_logged_where_everything_is_on_record() -> None:
    record = Record(Word(chain(1), State.COMMITTED, (30,)))
    words, log_index = await record.send(reserve(1), Order(Step.COMMIT, 0, chain(1), (30,)), looks_first=True)
    assert [word.state for word in words if word] == [State.COMMITTED] * 2
    assert (record.logged, log_index) == ([], 0)


@pytest.mark.parametrize(
    ("state", "kind", "is_logged"),
    [
        (State.RESERVED, Step.COMMIT, True),
        (State.RESERVED, Step.RELEASE, True),
        (State.RESERVED, Step.RESERVE, False),
        (State.COMMITTED, Step.COMMIT, False),
        (State.RELEASED, Step.COMMIT, False),
        (State.HELD, Step.EXPIRE, True),
        (State.REFUSED, Step.RELEASE, False),
    ],
)
async def test_a_step_is_logged_unless_the_word_on_record_ignores_it(state: State, kind: Step, is_logged: bool) -> None:
    holds = (Hold(State.HELD, 30),) if state is State.HELD else ()
    amounts = () if state is State.REFUSED else (30,)
    own = laid_out(row("t1", kind=Kind.RESERVE), sides=((0, 1),)) if holds else chain(1)
    record = Record(Word(own, state, amounts, holds=holds))
    given_back = (30,) if kind is Step.EXPIRE else ()
    await record.send(Order(kind, 0, own, amounts, given_back), looks_first=True)
    assert bool(record.logged) == is_logged


async def test_another_chain_on_record_is_the_answer_whatever_the_step() -> None:
    record = Record(Word(chain(1), State.RESERVED, (30,)))
    words, _ = await record.send(Order(Step.COMMIT, 0, chain(1, amount=31), (31,)), looks_first=True)
    assert record.logged == []
    assert words[0] is not None
    assert words[0].chain.digest == chain(1).digest


async def test_to_ask_never_logs() -> None:
    record = Record(Word(chain(2), State.RESERVED, (30,)))
    asks = [Order(Step.ASK, 0, chain(number)) for number in (1, 2)]
    words, log_index = await record.send(*asks, looks_first=False)
    assert [word and word.state for word in words] == [None, State.RESERVED]
    assert (record.logged, log_index) == ([], 0)
    words, _ = await record.send(asks[0], reserve(3), asks[1], looks_first=False)
    assert [word and word.state for word in words] == [None, State.RESERVED, State.RESERVED]
    assert (names(record.logged), names(record.looked)) == (["t3"], ["t1", "t2", "t1", "t2"])


async def test_a_follower_answers_nothing() -> None:
    with pytest.raises(CallFailed) as failed:
        await Record(leads=False).send(Order(Step.ASK, 0, chain(1)), looks_first=True)
    assert failed.value.fault.reason == Reason.NOT_LEADER
