"""A group's word: what each step does to each state, and what it ignores."""

from itertools import product

import numpy as np
import pytest

from engine.core.chains.plan import Chain
from engine.core.chains.word import (
    NEXT_HOLD,
    NEXT_WORD,
    WHY_ENDED,
    Hold,
    Judged,
    Order,
    State,
    Step,
    Word,
    end_hold,
    hold_of,
    is_heard,
    is_open,
    lifecycle,
    next_word,
    took_effect,
)
from engine.core.outcomes import Outcome
from engine.core.records import Kind
from tests.protocol_rows import laid_out, row

A, B = 0, 1
POST = laid_out(row(), sides=((A, B),))
HOLD = laid_out(row(kind=Kind.RESERVE), sides=((A, B),))
MIXED = laid_out(row("a"), row("b", kind=Kind.RESERVE), row("c", kind=Kind.RESERVE), sides=((A, B), (A, B), (2, B)))


def word(state: State, chain: Chain = POST) -> Word | None:
    holds = tuple(Hold(State.HELD, 30) for _ in chain.holds) if state is State.HELD else ()
    return Word(chain, state, (30,) * chain.legs, holds=holds) if state else None


@pytest.mark.parametrize(("state", "step"), list(product(State, Step)), ids=lambda each: each.name)
def test_a_step_that_the_table_does_not_have_is_ignored(state: State, step: Step) -> None:
    order = Order(step, A, HOLD, (30,), (0,))
    assert is_heard(word(state, HOLD), order) == ((state, step) in NEXT_WORD)


def test_the_table_for_the_kernel_is_the_same() -> None:
    table = lifecycle()
    found = {(State(state), Step(step)): State(table[state, step]) for state, step in np.argwhere(table)}
    assert found == dict(NEXT_WORD)


def test_final_states_hear_nothing() -> None:
    going_on = {state for state, _ in NEXT_WORD}
    assert set(State) - going_on == {
        State.POSTED,
        State.COMMITTED,
        State.RELEASED,
        State.REFUSED,
        State.TOMBSTONE,
        State.EXPIRED,
    }


def test_every_end_of_a_hold_has_its_refusal() -> None:
    assert set(NEXT_HOLD.values()) == set(WHY_ENDED)


@pytest.mark.parametrize("step", [Step.COMMIT, Step.RELEASE, Step.HOLD])
def test_a_step_of_another_plan_is_ignored(step: Step) -> None:
    other = laid_out(row(kind=Kind.RESERVE), sides=((A, 2),))
    assert not is_heard(word(State.RESERVED, HOLD), Order(step, A, other, (30,)))


def test_a_reservation_becomes_what_was_decided() -> None:
    reserved = next_word(None, Order(Step.RESERVE, A, POST), Judged(amounts=(30,)))
    assert (reserved.state, reserved.amounts) == (State.RESERVED, (30,))
    committed = next_word(reserved, Order(Step.COMMIT, A, POST, (20,)), Judged())
    assert (committed.state, committed.amounts) == (State.COMMITTED, (20,))


@pytest.mark.parametrize("step", [Step.RESERVE, Step.DECIDE])
def test_a_refusal_names_its_leg(step: Step) -> None:
    refused = next_word(None, Order(step, B, MIXED), Judged(Outcome.INSUFFICIENT_FUNDS, 2))
    assert (refused.state, refused.reason, refused.leg) == (State.REFUSED, Outcome.INSUFFICIENT_FUNDS, 2)


def test_a_tombstone_keeps_the_reason_that_was_carried() -> None:
    order = Order(Step.ABORT, B, MIXED, reason=Outcome.CHAIN_ABORTED, leg=1)
    tombstone = next_word(None, order, Judged())
    assert (tombstone.state, tombstone.reason, tombstone.leg) == (State.TOMBSTONE, Outcome.CHAIN_ABORTED, 1)


def test_a_decided_chain_with_reservations_is_held() -> None:
    decided = next_word(None, Order(Step.DECIDE, B, MIXED), Judged(amounts=(1, 2, 3)))
    assert decided.state is State.HELD
    assert decided.holds == (Hold(State.HELD, 2), Hold(State.HELD, 3))
    assert took_effect(decided)


def test_a_group_keeps_the_holds_of_its_own_legs() -> None:
    reserved = Word(MIXED, State.RESERVED, (1, 2, 3))
    held = next_word(reserved, Order(Step.HOLD, A, MIXED, (1, 2, 3)), Judged())
    assert held.holds == (Hold(State.HELD, 2), Hold(State.NONE, 0))
    assert hold_of(held, 0) == Hold(State.NONE, 0)
    assert hold_of(held, 1) == Hold(State.HELD, 2)


def test_a_hold_expires_once() -> None:
    held = Word(HOLD, State.HELD, (30,), holds=(Hold(State.HELD, 30),))
    order = Order(Step.EXPIRE, B, HOLD, given_back=(30,))
    expired = next_word(held, order, Judged())
    assert expired.holds == (Hold(State.EXPIRED, 0, 30),)
    assert not is_heard(expired, order)


def test_a_hold_that_keeps_its_rest_goes_on_until_nothing_is_left() -> None:
    held = Word(HOLD, State.HELD, (30,), holds=(Hold(State.HELD, 30),))
    part = end_hold(held, 0, Step.COMMIT, moved=10, keeps_rest=True)
    assert part.holds == (Hold(State.HELD, 20),)
    assert end_hold(part, 0, Step.COMMIT, moved=20, keeps_rest=True).holds == (Hold(State.COMMITTED, 0),)


def test_ends_of_a_hold_may_arrive_in_any_order() -> None:
    held = Word(HOLD, State.HELD, (30,), holds=(Hold(State.HELD, 30),))
    last = end_hold(held, 0, Step.RELEASE, given_back=20)
    assert last.holds == (Hold(State.RELEASED, 10),)
    assert is_open(last)
    first = end_hold(last, 0, Step.COMMIT, moved=10, keeps_rest=True)
    assert first.holds == (Hold(State.RELEASED, 0),)
    assert not is_open(first)
