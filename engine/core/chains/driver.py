"""The one driver of cross-group chains, shared by router and courier: known words in, next steps out (DESIGN §7).

Pure functions of one chain (for batches of plain ones: `engine.core.chains.plain`). Whoever drives keeps, per group,
the latest word that the group answered for the chain's id, sends what `next_steps` returns, puts the answered words
in their place, and goes on until it returns nothing new. Words only ever grow older, never false, so any number of
routers and couriers may drive one chain at once, from what each of them happens to know: what is late or repeated
meets a word that ignores it.

The rules, each a switch of the model in `tests/model`:

* decide only what every other group has reserved under the same plan, for the amounts that they secured;
* what follows an original is reserved first where an attempt that does not know the original would be refused;
* a refusal of another group is carried to the decider, which makes it its own or has a word already;
* the decider's word is obeyed as it is: a reservation under another plan, or for another body, is released;
* a plan on record is driven rather than one's own of the same body;
* only a courier whose own log holds the reservation aborts by deadline, and only while another group's is missing: with
  two groups there is no other, and forward always ends it;
* what a bucket of a split account stays short for, a courier aborts in the end; routers bring money, or prove that
  there is none;
* a caller is told a refusal from the decider's word alone, and POSTED once the money has arrived wherever it goes;
* where each of several plans of one body waits for a decider that has another of them on record, none can be decided
  any more: that, too, is a refusal, and the same for everybody who asks.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.core.chains.plan import Chain, differences
from engine.core.chains.word import REFUSALS, Order, State, Step, Word, took_effect
from engine.core.outcomes import Outcome


class Facts(NamedTuple):
    """Who drives, and what its clock says."""

    holder: int | None = None
    """A courier's own group, whose word for the chain is among the known ones; None for a router."""
    overdue: bool = False
    """The courier's leader finds its group's reservation, or a hold of it, past its deadline."""
    short: bool = False
    """For long another group has answered that its bucket of a split account is short: nobody brings money any more."""


ROUTER: Final = Facts()


class Answer(NamedTuple):
    """What a caller may be told of its chain; `outcomes` spells it out for each leg."""

    word: Word
    """The decider's word."""
    in_flight: bool
    """Some group still shows the money as reserved; `available` is right everywhere."""


def next_steps(own: Chain, words: Mapping[int, Word], facts: Facts = ROUTER) -> tuple[Order, ...]:
    """Return what to send next, in order; nothing while there is only to wait, or when all is done.

    own: the chain as its driver laid it out, or as its own group has it on record. words: by group, its latest known
    word for the chain's id, whatever plan or body that names; groups that have not answered, or have no word, are left
    out.
    """
    return tuple(order for chain in _to_drive(own, words) for order in _drive(chain, words, facts))


def _to_drive(own: Chain, words: Mapping[int, Word]) -> list[Chain]:
    """Every plan on record for this id, and the own one unless another plan of its body is.

    A chain that merely has this id among its legs is for its own drivers: these words are not the groups' words for it.
    """
    chains = {words[group].chain.digest: words[group].chain for group in sorted(words)}
    found = [chain for chain in chains.values() if chain.chain_id == own.chain_id]
    return found if any(chain.rows == own.rows for chain in found) else [*found, own]


def _drive(chain: Chain, words: Mapping[int, Word], facts: Facts) -> list[Order]:
    decided = words.get(chain.decider)
    if decided is None:
        return _before_decision(chain, words, facts)
    others = [(group, words.get(group)) for group in chain.others]
    if decided.chain.digest != chain.digest:
        return [Order(Step.RELEASE, group, chain) for group, word in others if _reserves(word, chain)]
    if decided.state in REFUSALS:
        return [Order(Step.RELEASE, group, chain) for group, word in others if word is None or _reserves(word, chain)]
    return [order for group, word in others for order in _after_decision(chain, decided, group, word)]


def _reserves(word: Word | None, chain: Chain) -> bool:
    return word is not None and word.state is State.RESERVED and word.chain.digest == chain.digest


def _before_decision(chain: Chain, words: Mapping[int, Word], facts: Facts) -> list[Order]:
    known = [words[group] for group in chain.others if group in words]
    mine = [word for word in known if word.chain.digest == chain.digest]
    reserved = [word for word in mine if word.state is State.RESERVED]
    refused = _refusal(chain, known)
    if refused:
        return [refused]
    if facts.short and facts.holder in chain.others and _reserves(words.get(facts.holder), chain):
        return [_abort(chain, Outcome.CHAIN_ABORTED, 0)]  # its router is gone, or has given up
    if len(reserved) == len(chain.others):
        return [_decide(chain, reserved)]
    if facts.overdue and facts.holder in chain.others and _reserves(words.get(facts.holder), chain):
        return [_abort(chain, Outcome.CHAIN_ABORTED, 0)]  # never with two groups: the holder would be all there is
    if len(reserved) < len(known):
        return [_ask(chain)] if _decider_knows_more(chain, words, facts) else []
    asked = chain.others if mine else chain.first
    return [Order(Step.RESERVE, group, chain) for group in asked if group not in words]


def _refusal(chain: Chain, known: list[Word]) -> Order | None:
    """Carry the first refusal to the decider: of this plan, or because another body has taken the id."""
    for word in known:
        if word.chain.rows != chain.rows:
            conflicts = enumerate(differences(chain, word.chain))
            leg, reason = next(both for both in conflicts if both[1] is not Outcome.CHAIN_FAILED)
            return _abort(chain, reason, leg)
        if word.state is State.REFUSED and word.chain.digest == chain.digest:
            return _abort(chain, word.reason, word.leg)
    return None


def _decider_knows_more(chain: Chain, words: Mapping[int, Word], facts: Facts) -> bool:
    """Somebody has obeyed the decider, or serves another plan: its word says how it ended.

    A courier with nothing but a hold that is not due has nothing to ask.
    """
    return facts.holder is None or facts.overdue or _reserves(words.get(facts.holder), chain)


def _decide(chain: Chain, reserved: list[Word]) -> Order:
    amounts = tuple(map(min, zip(*(word.amounts for word in reserved), strict=True)))
    return Order(Step.DECIDE, chain.decider, chain, amounts)


def _abort(chain: Chain, reason: int, leg: int) -> Order:
    return Order(Step.ABORT, chain.decider, chain, reason=reason, leg=leg)


def _ask(chain: Chain) -> Order:
    return Order(Step.ASK, chain.decider, chain)


def _after_decision(chain: Chain, decided: Word, group: int, word: Word | None) -> list[Order]:
    """Tell one group what was decided, and then how the holds ended that met their deadline."""
    if word is None or _reserves(word, chain):
        step = Step.HOLD if chain.holds else Step.COMMIT
        return [Order(step, group, chain, decided.amounts, decided.given_back)]
    if word.state is not State.HELD or word.chain.digest != chain.digest:
        return []
    return [
        Order(Step.EXPIRE, group, chain, given_back=(ended.expired,), leg=leg)
        for leg, ended, hold in zip(chain.holds, decided.holds, word.holds, strict=True)
        if ended.state is State.EXPIRED and hold.state is State.HELD
    ]


def answer(own: Chain, words: Mapping[int, Word]) -> Answer | None:
    """Return what the caller may be told, or None: not yet."""
    for chain in _to_drive(own, words):
        decided = words.get(chain.decider)
        if decided is not None and chain.rows == own.rows:
            told = _told(chain, decided, words)
            if told is not None:
                return told
    return _told_of_standoff(own, words)


def _told_of_standoff(own: Chain, words: Mapping[int, Word]) -> Answer | None:
    """Refuse what no decider can decide any more, for the reason of a group that refused it, if one did.

    A plan leads to the one that its decider has on record. Words keep their plans for ever, so plans of one body that
    lead around in a circle stay undecided; whoever asks, by whichever plan, comes to the same circle.
    """
    circle: list[Word] = []
    chain = next((one for one in _to_drive(own, words) if one.rows == own.rows), own)
    while (word := words.get(chain.decider)) is not None and word not in circle:
        if word.chain.rows != own.rows or word.chain.digest == chain.digest:
            return None
        circle.append(word)
        chain = word.chain
    if word is None:
        return None
    deciders = {one.chain.decider for one in circle[circle.index(word) :]}
    final = [words[group] for group in sorted(deciders)]
    aborted = final[0]._replace(state=State.TOMBSTONE, reason=Outcome.CHAIN_ABORTED, leg=0)
    return Answer(next((one for one in final if one.state is State.REFUSED), aborted), False)


def _told(chain: Chain, decided: Word, words: Mapping[int, Word]) -> Answer | None:
    if decided.chain.digest != chain.digest:
        return Answer(decided, False) if decided.chain.rows != chain.rows else None
    if decided.state in REFUSALS:
        return Answer(decided, False)
    obeyed = {group for group in chain.others if _obeys(words.get(group), chain)}
    needed = set(chain.others) if chain.holds else chain.credited
    return Answer(decided, len(obeyed) < len(chain.others)) if needed <= obeyed else None


def _obeys(word: Word | None, chain: Chain) -> bool:
    return word is not None and word.chain.digest == chain.digest and word.state in (State.COMMITTED, State.HELD)


def outcomes(own: Chain, told: Answer) -> tuple[Outcome, ...]:
    """Spell an answer out: one outcome for each leg of the caller's chain."""
    word = told.word
    if word.chain.rows != own.rows:
        return differences(own, word.chain)
    if took_effect(word):
        return (Outcome.POSTED,) * own.legs
    reasons = [Outcome.CHAIN_FAILED] * own.legs
    reasons[word.leg] = Outcome(word.reason)
    return tuple(reasons)
