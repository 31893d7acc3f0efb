"""How a group of the model judges the legs of a chain: in order, each on what the earlier ones leave."""

from dataclasses import dataclass

from engine.core.chains.plan import Chain
from engine.core.chains.word import (
    REFUSALS,
    WHY_ENDED,
    Hold,
    Judged,
    Order,
    State,
    Step,
    Word,
    end_hold,
    hold_of,
    took_effect,
)
from engine.core.outcomes import Outcome
from engine.core.records import Flag, Kind
from tests.model.chains import ALL, Following
from tests.model.ledger import FROZEN, Account, hold, post, room_to_credit, room_to_debit
from tests.model.setup import Setup

ACCEPTED = 0
SHORT = -1
"""No outcome: a bucket has not enough, which says nothing of its account; nothing is logged."""
STEPS = {Kind.COMMIT: Step.COMMIT, Kind.RELEASE: Step.RELEASE}
NO_HOLD = Hold(State.NONE, 0)


@dataclass
class Draft:
    """A group while one record is applied."""

    accounts: list[Account]
    words: list[Word | None]
    epoch: int


def judge(setup: Setup, at: int, draft: Draft, request: int, order: Order) -> Judged:
    """Judge a chain's legs, and let each that is accepted take effect on the draft.

    The decider runs them for good. At another group the draft shows what its own legs would do, and is thrown away.
    """
    chain, decides = order.chain, order.step is Step.DECIDE
    asked = tuple(leg.amount for leg in setup.legs[chain])
    secured = order.amounts if order.amounts and setup.rules.secured_amount_decided else asked
    amounts, given_back = list(secured if decides else asked), [0] * chain.legs
    for leg in range(chain.legs):
        reason, amount, back = _judge_leg(setup, at, draft, request, chain, leg, amounts[leg])
        if reason:
            return Judged(reason, leg)
        amounts[leg], given_back[leg] = amount, back
        if decides:
            run_leg(setup, at, draft, chain, leg, amount, back)
        elif at in chain.plan.sides[leg]:
            _try_leg(setup, at, draft, chain, leg, amount)
    return Judged(0, 0, tuple(amounts), tuple(given_back) if any(given_back) else ())


def _judge_leg(
    setup: Setup, at: int, draft: Draft, request: int, chain: Chain, leg: int, amount: int
) -> tuple[int, int, int]:
    """(reason to refuse, amount, what is left of the hold that it ends)."""
    one = setup.legs[chain][leg]
    if leg and _taken(setup, draft, request, setup.ids[chain][leg]):
        return Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN, 0, 0
    reason, back = ACCEPTED, 0
    if one.follows:
        reason, amount, back = _judge_follower(setup, at, draft, request, chain, leg, amount)
    if not reason and at in chain.plan.sides[leg] and one.kind is not Kind.RELEASE:
        reason, amount = _judge_accounts(setup, at, draft, chain, leg, amount)
    return reason, amount, back


def _taken(setup: Setup, draft: Draft, request: int, name: str) -> bool:
    """Whether this group has a leg's id on record in another chain."""
    others = (draft.words[each.request] for each in setup.by_id.get(name, ()) if each.request != request)
    return any(word is not None and name in setup.ids[word.chain] for word in others)


def _judge_accounts(setup: Setup, at: int, draft: Draft, chain: Chain, leg: int, amount: int) -> tuple[int, int]:
    one, counted = setup.legs[chain][leg], setup.rules.reservations_counted
    debit, credit = (draft.accounts[slot] for slot in setup.slots_of(at, chain, leg))
    if (debit.flags | credit.flags) & FROZEN and (one.kind is not Kind.COMMIT or setup.rules.frozen_checked):
        frozen = debit.flags & FROZEN
        return (Outcome.DEBIT_ACCOUNT_FROZEN if frozen else Outcome.CREDIT_ACCOUNT_FROZEN), 0
    if one.kind is Kind.COMMIT:
        return ACCEPTED, amount
    to_debit = room_to_debit(debit, count_reserved=counted)
    to_credit = room_to_credit(credit, count_reserved=counted)
    if one.flags & Flag.BALANCING_DEBIT:
        amount = min(amount, max(to_debit, 0))
    if one.flags & Flag.BALANCING_CREDIT:
        amount = min(amount, max(to_credit, 0))
    if amount > to_debit:
        return (SHORT if _is_bucket(setup, draft, one.debit) else Outcome.INSUFFICIENT_FUNDS), 0
    if amount > to_credit:
        return (SHORT if _is_bucket(setup, draft, one.credit) else Outcome.CREDIT_LIMIT_EXCEEDED), 0
    return ACCEPTED, amount


def _is_bucket(setup: Setup, draft: Draft, name: str) -> bool:
    return setup.rules.short_bucket_waits and draft.epoch >= setup.buckets.get(name, draft.epoch + 1)


# ---- followers ----


def _judge_follower(
    setup: Setup, at: int, draft: Draft, request: int, chain: Chain, leg: int, amount: int
) -> tuple[int, int, int]:
    """The decider orders the whole life of what is followed; the other groups only know whether it is there."""
    original = setup.original(chain, leg)
    word = draft.words[original.request] if original else None
    one, decides = setup.legs[chain][leg], at == chain.decider
    if not decides and at not in chain.plan.sides[leg]:
        return ACCEPTED, amount, 0  # others know of it; this group may never have heard of the original
    if original is None or word is None or word.state in REFUSALS or word.state is State.RELEASED:
        return Outcome.FOLLOWED_MISSING, 0, 0
    if one.kind is Kind.REVERSE:
        return (_judge_reversal(setup, draft, request, original, word, amount) if decides else ACCEPTED), amount, 0
    followed = hold_of(word, original.leg)
    if followed.state is State.NONE:
        return Outcome.FOLLOWED_MISSING, 0, 0
    return _judge_hold(followed, one.kind, one.flags, amount) if decides else (ACCEPTED, amount, 0)


def _judge_hold(followed: Hold, kind: Kind, flags: Flag, amount: int) -> tuple[int, int, int]:
    if followed.state is not State.HELD:
        return WHY_ENDED[followed.state], 0, 0
    if kind is Kind.RELEASE:
        return ACCEPTED, 0, followed.rest
    if amount == ALL:
        amount = followed.rest
    if amount > followed.rest:
        return Outcome.AMOUNT_EXCEEDS_RESERVATION, 0, 0
    return ACCEPTED, amount, 0 if flags & Flag.KEEP_REST else followed.rest - amount


def _judge_reversal(setup: Setup, draft: Draft, request: int, original: Following, word: Word, amount: int) -> int:
    if not took_effect(word):
        return Outcome.FOLLOWED_MISSING
    parts = _reversed(setup, draft, request, original) if setup.rules.reversals_summed else 0
    return Outcome.AMOUNT_EXCEEDS_ORIGINAL if parts + amount > word.amounts[original.leg] else ACCEPTED


def _reversed(setup: Setup, draft: Draft, request: int, original: Following) -> int:
    """What other requests have reversed of an original, as its decider has it on record."""
    return sum(
        word.amounts[leg]
        for number, word in enumerate(draft.words)
        if word and number != request and took_effect(word)
        for leg, one in enumerate(setup.legs[word.chain])
        if one.kind is Kind.REVERSE and setup.original(word.chain, leg) == original
    )


# ---- effects ----


def run_leg(setup: Setup, at: int, draft: Draft, chain: Chain, leg: int, amount: int, back: int) -> None:
    """Let one decided leg take effect: on this group's accounts, and on the hold that it follows."""
    one, here = setup.legs[chain][leg], at in chain.plan.sides[leg]
    slots = setup.slots_of(at, chain, leg) if here else None
    if one.kind in STEPS and (here or at == chain.decider):
        back = _end_followed(setup, at, draft, chain, leg, amount, back)
        if slots:
            hold(draft.accounts, *slots, -(amount + back))
    if slots and one.kind is Kind.RESERVE:
        hold(draft.accounts, *slots, amount)
    elif slots and one.kind is not Kind.RELEASE:
        post(draft.accounts, *slots, amount)


def _end_followed(setup: Setup, at: int, draft: Draft, chain: Chain, leg: int, amount: int, back: int) -> int:
    one, original = setup.legs[chain][leg], setup.original(chain, leg)
    word = draft.words[original.request] if original else None
    if original is None or word is None:
        return back
    keeps = bool(one.flags & Flag.KEEP_REST)
    if not setup.rules.rest_by_decider and at != chain.decider and not keeps:
        back = max(hold_of(word, original.leg).rest - amount, 0)
    draft.words[original.request] = end_hold(
        word, original.leg, STEPS[one.kind], moved=amount, given_back=back, keeps_rest=keeps
    )
    return back


def _try_leg(setup: Setup, at: int, draft: Draft, chain: Chain, leg: int, amount: int) -> None:
    """Show on the draft what later legs of the chain may count with; the hold of a COMMIT is not judged here."""
    one, slots = setup.legs[chain][leg], setup.slots_of(at, chain, leg)
    if one.kind is Kind.RESERVE or (one.kind is not Kind.RELEASE and not setup.rules.legs_in_order):
        hold(draft.accounts, *slots, amount)
    elif one.kind in (Kind.POST, Kind.REVERSE):
        post(draft.accounts, *slots, amount)
    elif one.kind is Kind.COMMIT and amount != ALL:
        hold(draft.accounts, *slots, -amount)
        post(draft.accounts, *slots, amount)
