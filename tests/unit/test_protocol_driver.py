"""The driver of cross-group chains: from what is known to what is sent and what is told."""

from engine.core.chains.driver import ROUTER, Answer, Facts, answer, next_steps, outcomes
from engine.core.chains.plan import Chain
from engine.core.chains.word import Hold, Order, State, Step, Word
from engine.core.outcomes import Outcome
from engine.core.records import Kind
from tests.protocol_rows import laid_out, row

A, B, C = 0, 1, 2
PLAIN = laid_out(row(), sides=((A, B),))
WIDE = laid_out(row("t"), row("t.1"), sides=((A, B), (C, B)))
HOLD = laid_out(row(kind=Kind.RESERVE), sides=((A, B),))
LOCAL = laid_out(row(), sides=((B, B),))


def word(state: State, chain: Chain = PLAIN, amount: int = 30) -> Word:
    holds = tuple(Hold(State.HELD, amount) for _ in chain.holds)
    return Word(chain, state, (amount,) * chain.legs, holds=holds)


def refused(chain: Chain, state: State = State.REFUSED, reason: int = Outcome.INSUFFICIENT_FUNDS, leg: int = 0) -> Word:
    return Word(chain, state, reason=reason, leg=leg)


def steps(own: Chain, words: dict[int, Word], facts: Facts = ROUTER) -> list[tuple[Step, int]]:
    return [(order.step, order.group) for order in next_steps(own, words, facts)]


def test_a_chain_is_reserved_everywhere_but_at_its_decider() -> None:
    assert steps(WIDE, {}) == [(Step.RESERVE, A), (Step.RESERVE, C)]


def test_a_chain_in_one_group_is_decided_at_once() -> None:
    assert next_steps(LOCAL, {}) == (Order(Step.DECIDE, B, LOCAL),)


def test_a_group_that_answered_is_not_asked_again() -> None:
    assert steps(WIDE, {A: word(State.RESERVED, WIDE)}) == [(Step.RESERVE, C)]


def test_the_secured_amounts_are_decided_each_leg_by_the_least() -> None:
    words = {A: Word(WIDE, State.RESERVED, (20, 30)), C: Word(WIDE, State.RESERVED, (30, 10))}
    assert next_steps(WIDE, words) == (Order(Step.DECIDE, B, WIDE, (20, 10)),)


def test_a_refusal_is_carried_to_the_decider() -> None:
    words = {A: refused(WIDE, leg=1), C: word(State.RESERVED, WIDE)}
    assert next_steps(WIDE, words) == (Order(Step.ABORT, B, WIDE, reason=Outcome.INSUFFICIENT_FUNDS, leg=1),)


def test_what_was_decided_is_committed_where_it_is_reserved() -> None:
    words = {A: word(State.RESERVED), B: Word(PLAIN, State.POSTED, (20,))}
    assert next_steps(PLAIN, words) == (Order(Step.COMMIT, A, PLAIN, (20,)),)


def test_a_decided_hold_is_marked() -> None:
    assert steps(HOLD, {A: word(State.RESERVED, HOLD), B: word(State.HELD, HOLD)}) == [(Step.HOLD, A)]


def test_a_tombstone_releases() -> None:
    words = {A: word(State.RESERVED, WIDE), B: refused(WIDE, State.TOMBSTONE), C: word(State.COMMITTED, WIDE)}
    assert steps(WIDE, words) == [(Step.RELEASE, A)]


def test_nothing_is_sent_when_all_is_done() -> None:
    assert steps(PLAIN, {A: word(State.COMMITTED), B: word(State.POSTED)}) == []
    assert steps(HOLD, {A: word(State.HELD, HOLD), B: word(State.HELD, HOLD)}) == []


def test_an_expired_hold_tells_the_others_what_it_gave_back() -> None:
    expired = Word(HOLD, State.HELD, (30,), holds=(Hold(State.EXPIRED, 0, 25),))
    words = {A: word(State.HELD, HOLD), B: expired}
    assert next_steps(HOLD, words) == (Order(Step.EXPIRE, A, HOLD, given_back=(25,)),)


def test_a_router_that_finds_a_chain_ended_asks_the_decider_how() -> None:
    assert steps(PLAIN, {A: word(State.COMMITTED)}) == [(Step.ASK, B)]
    assert steps(PLAIN, {A: word(State.RELEASED)}) == [(Step.ASK, B)]


# ---- deadlines ----


def test_only_the_courier_of_a_reservation_aborts_by_deadline() -> None:
    words = {A: word(State.RESERVED, WIDE)}
    assert steps(WIDE, words, Facts(A, overdue=True)) == [(Step.ABORT, B)]
    assert steps(WIDE, words, Facts(A)) == [(Step.RESERVE, C)]
    assert steps(WIDE, words, Facts(None, overdue=True)) == [(Step.RESERVE, C)]
    assert steps(WIDE, words | {C: refused(WIDE)}, Facts(C, overdue=True)) == [(Step.ABORT, B)]
    assert steps(WIDE, {A: word(State.RESERVED, WIDE)}, Facts(C, overdue=True)) == [(Step.RESERVE, C)]


def test_two_groups_always_end_forward() -> None:
    assert steps(PLAIN, {A: word(State.RESERVED)}, Facts(A, overdue=True)) == [(Step.DECIDE, B)]


def test_what_is_reserved_everywhere_is_decided_however_late() -> None:
    words = {A: word(State.RESERVED, WIDE), C: word(State.RESERVED, WIDE)}
    assert steps(WIDE, words, Facts(A, overdue=True)) == [(Step.DECIDE, B)]


def test_a_courier_asks_for_a_hold_only_when_it_is_due() -> None:
    words = {A: word(State.HELD, HOLD)}
    assert steps(HOLD, words, Facts(A)) == []
    assert steps(HOLD, words, Facts(A, overdue=True)) == [(Step.ASK, B)]


# ---- other plans and other bodies ----

OTHER_PLAN = laid_out(row(), sides=((C, B),))
OTHER_BODY = laid_out(row(amount=31), sides=((A, B),))


def test_a_plan_on_record_is_driven_and_the_own_one_is_not() -> None:
    orders = next_steps(OTHER_PLAN, {B: word(State.POSTED)})
    assert [(order.step, order.group, order.chain) for order in orders] == [(Step.COMMIT, A, PLAIN)]


def test_a_reservation_of_a_plan_that_the_decider_does_not_name_is_released() -> None:
    words = {B: word(State.POSTED), C: word(State.RESERVED, OTHER_PLAN), A: word(State.COMMITTED)}
    orders = next_steps(OTHER_PLAN, words)
    assert [(order.step, order.group, order.chain) for order in orders] == [(Step.RELEASE, C, OTHER_PLAN)]


def test_another_body_on_record_is_a_refusal_to_carry() -> None:
    elsewhere = laid_out(row(amount=31, credit="carol"), sides=((A, C),))
    orders = next_steps(elsewhere, {A: word(State.COMMITTED)})
    abort = Order(Step.ABORT, C, elsewhere, reason=Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT)
    assert abort in orders


def test_a_chain_that_has_the_id_as_a_leg_is_left_to_its_own_drivers() -> None:
    whole = laid_out(row("first"), row("t1"), sides=((A, B), (A, B)))
    orders = next_steps(PLAIN, {A: word(State.RESERVED, whole)})
    assert [(order.step, order.group, order.chain) for order in orders] == [(Step.ABORT, B, PLAIN)]


# ---- what callers are told ----


def test_a_groups_own_refusal_is_not_told() -> None:
    assert answer(PLAIN, {A: refused(PLAIN)}) is None
    told = answer(PLAIN, {A: refused(PLAIN), B: refused(PLAIN, State.TOMBSTONE)})
    assert told is not None
    assert outcomes(PLAIN, told) == (Outcome.INSUFFICIENT_FUNDS,)


def test_a_posted_transfer_is_told_while_its_debit_is_in_flight() -> None:
    posted = word(State.POSTED)
    assert answer(PLAIN, {A: word(State.RESERVED), B: posted}) == Answer(posted, in_flight=True)
    assert answer(PLAIN, {A: word(State.COMMITTED), B: posted}) == Answer(posted, in_flight=False)


def test_a_chain_is_told_once_every_credit_is_posted() -> None:
    both = laid_out(row("t"), row("t.1"), sides=((A, C), (A, B)))
    decided = {A: word(State.RESERVED, both), B: word(State.POSTED, both)}
    assert answer(both, decided | {C: word(State.RESERVED, both)}) is None
    assert answer(both, decided | {C: word(State.COMMITTED, both)}) is not None


def test_a_hold_is_told_once_it_is_marked_everywhere() -> None:
    held = word(State.HELD, HOLD)
    assert answer(HOLD, {A: word(State.RESERVED, HOLD), B: held}) is None
    assert answer(HOLD, {A: held, B: held}) == Answer(held, in_flight=False)


def test_another_plan_of_the_body_answers_for_it() -> None:
    told = answer(OTHER_PLAN, {A: word(State.COMMITTED), B: word(State.POSTED)})
    assert told is not None
    assert outcomes(OTHER_PLAN, told) == (Outcome.POSTED,)


def test_another_body_is_told_as_a_conflict_from_the_decider_alone() -> None:
    assert answer(OTHER_BODY, {A: word(State.RESERVED)}) is None
    told = answer(OTHER_BODY, {B: word(State.POSTED)})
    assert told is not None
    assert outcomes(OTHER_BODY, told) == (Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT,)


def test_the_failed_leg_says_why_and_the_others_that_the_chain_failed() -> None:
    told = answer(WIDE, {B: refused(WIDE, leg=1)})
    assert told is not None
    assert outcomes(WIDE, told) == (Outcome.CHAIN_FAILED, Outcome.INSUFFICIENT_FUNDS)


TURNED = laid_out(row(), sides=((A, B),), decider=A)
"""The body of `PLAIN`, which A decides."""


def test_plans_of_one_body_that_wait_for_each_others_deciders_are_refused_for_the_reason_on_record() -> None:
    words = {A: word(State.RELEASED), B: refused(TURNED, reason=Outcome.FOLLOWED_MISSING)}
    for own in (PLAIN, TURNED):
        told = answer(own, words)
        assert told == Answer(words[B], False)
        assert outcomes(own, told) == (Outcome.FOLLOWED_MISSING,)
        assert steps(own, words) == []


def test_of_several_reasons_on_record_that_of_the_lowest_group_is_told() -> None:
    words = {A: refused(PLAIN, reason=Outcome.FOLLOWED_MISSING), B: refused(TURNED)}
    assert [answer(own, words) for own in (PLAIN, TURNED)] == [Answer(words[A], False)] * 2


def test_plans_that_wait_for_each_other_and_were_only_given_back_were_aborted() -> None:
    words = {A: word(State.RESERVED), B: word(State.RESERVED, TURNED)}
    assert steps(PLAIN, words) == [(Step.RELEASE, A), (Step.RELEASE, B)]
    for own in (PLAIN, TURNED):
        told = answer(own, words)
        assert told is not None
        assert outcomes(own, told) == (Outcome.CHAIN_ABORTED,)


def test_nothing_is_told_while_one_decider_may_still_decide() -> None:
    assert answer(PLAIN, {B: refused(TURNED)}) is None
    assert answer(TURNED, {B: refused(TURNED)}) is None
