"""Planted faults of the protocol: each takes one rule of DESIGN §7 out, and the simulation must find it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from engine.core.chains.driver import ROUTER, Facts, next_steps
from engine.core.chains.plan import Chain
from engine.core.chains.step_answers import blank_answers
from engine.core.chains.step_record import StepRecord, join_steps, steps_of
from engine.core.chains.word import Order, State, Step, Word
from engine.core.records import Kind
from engine.service import stepping
from engine.service.step_lane import slice_steps
from engine.storage.state_machine import StateMachine

KIND_SHIFT = np.uint64(16)
BYTE = np.uint64(0xFF)
LATER = (Step.COMMIT, Step.HOLD, Step.RELEASE)


def answered_unlogged(step: Step, state: State) -> AbstractContextManager[Any]:
    """A group answers requests of just this step, for plain transfers, from memory, and forgets them."""
    logged = stepping._logged

    async def answer(replica: Any, record: StepRecord, caller: Any, deadline_s: float) -> stepping.Stepped:
        kinds = (record.rows[:, 15] >> KIND_SHIFT) & BYTE
        plain = (
            (record.steps["step"] == step).all() and (record.steps["legs"] == 1).all() and (kinds == Kind.POST).all()
        )
        if not plain or len(record.amounts):
            return await logged(replica, record, caller, deadline_s)
        answers = blank_answers(len(record.steps))
        answers.answers["state"], answers.answers["reason"] = state, record.steps["reason"]
        answers.answers["digest"], answers.answers["timestamp"] = record.steps["digest"], replica.now_ns()
        return stepping.Stepped(answers, 0)

    return mock.patch.object(stepping, "_logged", answer)


def decision_not_logged() -> AbstractContextManager[Any]:
    """The decider answers POSTED without logging it."""
    return answered_unlogged(Step.DECIDE, State.POSTED)


def tombstone_skipped() -> AbstractContextManager[Any]:
    """The decider answers an ABORT, and does not log that it did."""
    return answered_unlogged(Step.ABORT, State.TOMBSTONE)


@contextmanager
def plan_not_checked() -> Iterator[None]:
    """COMMIT, HOLD and RELEASE are obeyed whatever plan they name, as if they named the one that is open here; and who
    drives a chain takes every word to be of its plan."""
    decode = StateMachine._decode_steps

    def decode_steps(self: StateMachine, log_index: int, record: Any) -> StepRecord:
        found = decode(self, log_index, record)
        opened = {one.word.chain.chain_id: one.word for one in self.open_chains(-1, 1 << 16)}
        parts = [slice_steps(found, at, at + 1) for at in range(len(found.steps))]
        return join_steps([of_open_plan(part, opened, self.book.group) for part in parts])

    def steps(own: Chain, words: Mapping[int, Word], facts: Facts = ROUTER) -> tuple[Order, ...]:
        return next_steps(own, {group: word._replace(chain=own) for group, word in words.items()}, facts)

    with (
        mock.patch.object(StateMachine, "_decode_steps", decode_steps),
        mock.patch("engine.service.courier.courier.next_steps", steps),
        mock.patch("router.chains.driven.next_steps", steps),
    ):
        yield


def of_open_plan(part: StepRecord, opened: Mapping[bytes, Word], group: int) -> StepRecord:
    """One step, under the plan that its group has open for that id."""
    one = part.steps[0]
    word = opened.get(one["chain_id"].tobytes())
    if word is None or one["step"] not in LATER or one["digest"].tobytes() == word.chain.digest:
        return part
    step = Step(one["step"])
    amounts = () if step is Step.RELEASE else word.amounts
    return steps_of([Order(step, group, word.chain, amounts)], [int(one["time"])])


def courier_does_not_ask() -> AbstractContextManager[Any]:
    """A courier commits what its own log has reserved, without its decider's word."""

    def steps(own: Chain, words: Mapping[int, Word], facts: Facts = ROUTER) -> tuple[Order, ...]:
        mine = words.get(facts.holder) if facts.holder is not None else None
        if mine is None or mine.state is not State.RESERVED or own.decider in words or own.holds:
            return next_steps(own, words, facts)
        return (Order(Step.COMMIT, facts.holder or 0, own, mine.amounts, mine.given_back),)

    return mock.patch("engine.service.courier.courier.next_steps", steps)


GROUP_FAULTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "decision-not-logged": decision_not_logged,
    "tombstone-skipped": tombstone_skipped,
    "plan-not-checked": plan_not_checked,
    "courier-does-not-ask": courier_does_not_ask,
}
