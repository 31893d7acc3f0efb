"""Planted faults of the protocol: each takes one rule of DESIGN §7 out, and the simulation must find it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from engine.core.chain_driver import ROUTER, Facts, next_steps
from engine.core.plan import Chain
from engine.core.records import Kind, Words
from engine.core.step_answers import blank_answers
from engine.core.step_record import StepRecord
from engine.core.word import Order, State, Step, Word
from engine.service import stepping
from engine.storage.state_machine import StateMachine

KIND_SHIFT = np.uint64(16)
BYTE = np.uint64(0xFF)


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
    """COMMIT, HOLD and RELEASE are obeyed whatever plan they name."""
    decode = StateMachine._decode_steps

    def decode_steps(self: StateMachine, log_index: int, record: Any) -> StepRecord:
        found = decode(self, log_index, record)
        steps = found.steps.copy()
        for one in steps:
            if one["step"] in (Step.COMMIT, Step.HOLD, Step.RELEASE):
                one["digest"] = open_digest(self.book.open_chains(), one["chain_id"].tobytes()) or one["digest"]
        return found._replace(steps=steps)

    with mock.patch.object(StateMachine, "_decode_steps", decode_steps):
        yield


def open_digest(rows: Words, chain_id: bytes) -> bytes | None:
    """The digest under which a group has a chain open."""
    return next((row[2:4].tobytes() for row in rows if row[:2].tobytes() == chain_id), None)


def courier_does_not_ask() -> AbstractContextManager[Any]:
    """A courier commits what its own log has reserved, without its decider's word."""

    def steps(own: Chain, words: Mapping[int, Word], facts: Facts = ROUTER) -> tuple[Order, ...]:
        mine = words.get(facts.holder) if facts.holder is not None else None
        if mine is None or mine.state is not State.RESERVED or own.decider in words or own.holds:
            return next_steps(own, words, facts)
        return (Order(Step.COMMIT, facts.holder or 0, own, mine.amounts, mine.given_back),)

    return mock.patch("engine.service.courier.next_steps", steps)


GROUP_FAULTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "decision-not-logged": decision_not_logged,
    "tombstone-skipped": tombstone_skipped,
    "plan-not-checked": plan_not_checked,
    "courier-does-not-ask": courier_does_not_ask,
}
