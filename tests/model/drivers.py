"""Router and courier of the model: the engine's driver, with the planted faults around it."""

from collections.abc import Mapping

from engine.core.chains.driver import Answer, Facts, answer, next_steps
from engine.core.chains.plan import Chain
from engine.core.chains.word import Order, State, Step, Word, took_effect
from engine.core.outcomes import Outcome, is_conflict
from tests.model.rules import RULES, Rules

Words = Mapping[int, Word]
OVERDUE = Outcome.CHAIN_ABORTED


def orders(rules: Rules, own: Chain, words: Words, facts: Facts) -> tuple[Order, ...]:
    """What a driver may send: the engine's `next_steps`, less and more what the planted faults make of it."""
    if rules is RULES:
        return next_steps(own, words, facts)
    facts = facts._replace(overdue=facts.overdue and (rules.deadline_aborts or not _reserves(words, facts.holder)))
    seen = words if rules.plans_compared else {at: _taken_for(own, word) for at, word in words.items()}
    sent = [order for order in next_steps(own, seen, facts) if _sends(rules, order)]
    for chain in {own, *(word.chain for word in words.values())}:
        sent += _faulty(rules, chain, words, facts)
    return tuple(sent)


def _taken_for(own: Chain, word: Word) -> Word:
    return word._replace(chain=own) if own.legs == word.chain.legs else word


def _reserves(words: Words, holder: int | None) -> bool:
    return holder is not None and words[holder].state is State.RESERVED


def _sends(rules: Rules, order: Order) -> bool:
    if order.step is not Step.ABORT:
        return True
    if order.reason == OVERDUE:
        return True
    return rules.conflicts_carried if is_conflict(order.reason) else rules.refusals_carried


def _faulty(rules: Rules, chain: Chain, words: Words, facts: Facts) -> list[Order]:
    sent = []
    ours = {at: words[at] for at in chain.others if at in words and words[at].chain is chain}
    reserved = [word for word in ours.values() if word.state is State.RESERVED]
    mine = ours.get(facts.holder) if facts.holder is not None else None
    if not rules.decided_after_all and reserved:
        amounts = tuple(map(min, zip(*(word.amounts for word in reserved), strict=True)))
        sent.append(Order(Step.DECIDE, chain.decider, chain, amounts))
    if not rules.aborts_by_holders_only and facts.holder is None:
        sent.append(Order(Step.ABORT, chain.decider, chain, reason=OVERDUE))
    if mine and facts.holder is not None:
        sent += _faulty_courier(rules, facts.holder, mine, facts.overdue)
    return sent


def _faulty_courier(rules: Rules, at: int, mine: Word, overdue: bool) -> list[Order]:
    if mine.state is State.RESERVED and not rules.couriers_ask:
        return [Order(Step.COMMIT, at, mine.chain, mine.amounts, mine.given_back)]
    if mine.state is State.RESERVED and overdue and not rules.reservations_end_by_decider:
        return [Order(Step.RELEASE, at, mine.chain)]
    if mine.state is State.HELD and overdue and not rules.expiry_by_decider:
        holds = [(leg, hold) for leg, hold in zip(mine.chain.holds, mine.holds, strict=True) if hold.rest]
        return [Order(Step.EXPIRE, at, mine.chain, given_back=(hold.rest,), leg=leg) for leg, hold in holds]
    return []


def told(rules: Rules, own: Chain, words: Words) -> Answer | None:
    """What a caller may be told: the engine's `answer`, or earlier where a rule is off."""
    right = answer(own, words)
    if right and not rules.standoffs_refused and _is_standoff(own, right, words):
        return None
    if right or rules is RULES:
        return right
    for word in words.values():
        if not rules.refusal_told_by_decider and word.state is State.REFUSED:
            return Answer(word, False)
    decided = words.get(own.decider)
    early = not rules.holds_marked if own.holds else not rules.posted_told_after_credits
    if early and decided and decided.chain is own and took_effect(decided):
        return Answer(decided, True)
    return None


def _is_standoff(own: Chain, right: Answer, words: Words) -> bool:
    """Whether an answer is told though the decider of its plan has another plan of the body on record."""
    named, decided = right.word.chain, words.get(right.word.chain.decider)
    return named.rows == own.rows and decided is not None and decided.chain.digest != named.digest
