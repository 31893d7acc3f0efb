"""A group's word for an id: its logged record of a cross-group chain, and what each step does to it (DESIGN §7).

A group has one word per chain, for ever: it names the chain's digest, which never changes, and walks through
`NEXT_WORD`. The chain's RESERVE legs, once decided, are a caller's holds; each walks through `NEXT_HOLD` by itself. A
step that a table does not have is ignored: the group logs nothing and answers with the word on record, so that late,
repeated and reordered messages are harmless.

=========  =============================================================================  ==========================
state      at a group that does not decide                                                at the decider
=========  =============================================================================  ==========================
NONE       nothing on record                                                              the same
RESERVED   secured; waits for the decider's word (open: its courier drives it)            never
HELD       the decider's word is known; holds stay reserved                               decided, with holds
POSTED     never                                                                          decided, final
COMMITTED  posted as decided, final                                                       never
RELEASED   given back: the decider refused, or its word names another plan; final         never
REFUSED    judged and refused, carried to the decider; final                              judged and refused, final
TOMBSTONE  never                                                                          refused unjudged, final
=========  =============================================================================  ==========================

A hold ends COMMITTED, RELEASED or EXPIRED. RELEASED by a caller is a hold's end, never a word's.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Chain
from engine.core.outcomes import Outcome


class State(IntEnum):
    """Where a word, or a hold, stands. Replicated state: append members, never renumber."""

    NONE = 0
    RESERVED = 1
    HELD = 2
    POSTED = 3
    COMMITTED = 4
    RELEASED = 5
    REFUSED = 6
    TOMBSTONE = 7
    EXPIRED = 8


class Step(IntEnum):
    """What a log record does for a chain in one group. Replicated format: append members, never renumber."""

    NONE = 0
    RESERVE = 1
    """Judge the group's legs, secure what they need; every leg's id is registered."""
    DECIDE = 2
    """The decider posts its own legs and records the decided amounts, or refuses."""
    COMMIT = 3
    """Post the secured legs for the decided amounts."""
    RELEASE = 4
    """Give the secured amounts back."""
    ABORT = 5
    """Let the decider refuse, unjudged, what it has no word for."""
    HOLD = 6
    """COMMIT of a chain with RESERVE legs: those become holds, the others are posted."""
    EXPIRE = 7
    """End one hold that met its deadline: the decider at its record's time, the others when told what it gave back."""
    ASK = 8
    """Logs nothing: the group answers with its word on record."""


NEXT_WORD: Final[Mapping[tuple[State, Step], State]] = MappingProxyType(
    {
        (State.NONE, Step.RESERVE): State.RESERVED,
        (State.NONE, Step.DECIDE): State.POSTED,  # HELD, if the chain has RESERVE legs
        (State.NONE, Step.ABORT): State.TOMBSTONE,
        (State.RESERVED, Step.COMMIT): State.COMMITTED,
        (State.RESERVED, Step.HOLD): State.HELD,
        (State.RESERVED, Step.RELEASE): State.RELEASED,
        (State.HELD, Step.EXPIRE): State.HELD,  # one hold of it ends
    }
)
"""The life of a word where its group accepts. A RESERVE or DECIDE that is judged and refused leaves REFUSED instead."""

NEXT_HOLD: Final[Mapping[tuple[State, Step], State]] = MappingProxyType(
    {
        (State.HELD, Step.COMMIT): State.COMMITTED,  # HELD, if it keeps the rest and there is one
        (State.HELD, Step.RELEASE): State.RELEASED,
        (State.HELD, Step.EXPIRE): State.EXPIRED,
    }
)
"""The life of a caller's hold, ordered by its decider's log. COMMIT and RELEASE are those of the follower's chain."""

WHY_ENDED: Final[Mapping[State, Outcome]] = MappingProxyType(
    {
        State.COMMITTED: Outcome.RESERVATION_ALREADY_COMMITTED,
        State.RELEASED: Outcome.RESERVATION_ALREADY_RELEASED,
        State.EXPIRED: Outcome.RESERVATION_EXPIRED,
    }
)
"""What following an ended hold is refused with."""

REFUSALS: Final = frozenset({State.REFUSED, State.TOMBSTONE})
JUDGED: Final = frozenset({Step.RESERVE, Step.DECIDE})
WHOLE: Final = frozenset({Step.RESERVE, Step.DECIDE, Step.ABORT, Step.ASK})
"""Steps that carry the whole chain: they may be the first that a group hears of it."""


class Hold(NamedTuple):
    """One RESERVE leg of a chain that took effect, as one group has it."""

    state: State
    """NONE: not a leg of this group. Else HELD, COMMITTED, RELEASED or EXPIRED."""
    rest: int
    """What is still reserved. Where the group does not decide it may outlast the state: a follower's COMMIT that was
    decided earlier is still on its way."""
    expired: int = 0
    """What its expiry gave back."""


class Word(NamedTuple):
    """What a group's log says of a chain."""

    chain: Chain
    state: State
    amounts: tuple[int, ...] = ()
    """Per leg, what is secured or, once decided, what moves; empty for refusals."""
    given_back: tuple[int, ...] = ()
    """Per leg, what a COMMIT or RELEASE leaves of its hold; empty if the chain has none."""
    reason: int = 0
    """Refusals: the `Outcome` of the leg that failed."""
    leg: int = 0
    """Refusals: the leg that failed."""
    holds: tuple[Hold, ...] = ()
    """HELD: one for each of `chain.holds`."""
    position: int = 0
    """Journal position of the record that made this word final for the caller; 0 where it does not matter."""
    timestamp_ns: int = 0


class Order(NamedTuple):
    """One step for one group: what router and courier send, and what is logged."""

    step: Step
    group: int
    chain: Chain
    amounts: tuple[int, ...] = ()
    """DECIDE: what the others secured, per leg (empty if there are no others). COMMIT, HOLD: what was decided."""
    given_back: tuple[int, ...] = ()
    """COMMIT: what the decider left of the holds that this chain ends. EXPIRE: one amount, for `leg`."""
    reason: int = 0
    """ABORT: what the decider is to answer."""
    leg: int = 0
    """ABORT: the leg that failed. EXPIRE: the leg whose hold it is."""


class Judged(NamedTuple):
    """A group's judgement of its legs: a refusal, or the amounts."""

    reason: int = 0
    leg: int = 0
    amounts: tuple[int, ...] = ()
    given_back: tuple[int, ...] = ()


def is_heard(word: Word | None, order: Order) -> bool:
    """Whether the order changes the word on record; if not, it is answered with the word, and nothing is logged."""
    if word is None:
        return (State.NONE, order.step) in NEXT_WORD
    if (word.state, order.step) not in NEXT_WORD or word.chain.digest != order.chain.digest:
        return False
    return order.step is not Step.EXPIRE or hold_of(word, order.leg).state is State.HELD


def next_word(word: Word | None, order: Order, judged: Judged) -> Word:
    """Return the word after an order that `is_heard`. judged: for RESERVE and DECIDE; ignored for the rest."""
    if order.step in JUDGED and judged.reason:
        return Word(order.chain, State.REFUSED, reason=judged.reason, leg=judged.leg)
    state = NEXT_WORD[State.NONE if word is None else word.state, order.step]
    if word is None:
        return _first_word(order, state, judged)
    if order.step is Step.EXPIRE:
        return end_hold(word, order.leg, Step.EXPIRE, given_back=order.given_back[0])
    if order.step is Step.RELEASE:
        return word._replace(state=state)
    holds = fresh_holds(order.chain, order.amounts, order.group) if state is State.HELD else ()
    return word._replace(state=state, amounts=order.amounts, given_back=order.given_back, holds=holds)


def _first_word(order: Order, state: State, judged: Judged) -> Word:
    chain = order.chain
    if state is State.TOMBSTONE:
        return Word(chain, state, reason=order.reason, leg=order.leg)
    if state is State.POSTED and chain.holds:
        holds = fresh_holds(chain, judged.amounts, None)
        return Word(chain, State.HELD, judged.amounts, judged.given_back, holds=holds)
    return Word(chain, state, judged.amounts, judged.given_back)


def fresh_holds(chain: Chain, amounts: tuple[int, ...], group: int | None) -> tuple[Hold, ...]:
    """Return the holds of a chain right after DECIDE or HOLD: all at the decider (None), elsewhere its own legs'."""
    mine = (group is None or group in chain.plan.sides[leg] for leg in chain.holds)
    return tuple(
        Hold(State.HELD, amounts[leg]) if here else Hold(State.NONE, 0)
        for leg, here in zip(chain.holds, mine, strict=True)
    )


def hold_of(word: Word, leg: int) -> Hold:
    """Return the hold that a leg of a HELD word made; NONE if that leg made none."""
    if word.state is not State.HELD or leg not in word.chain.holds:
        return Hold(State.NONE, 0)
    return word.holds[word.chain.holds.index(leg)]


def end_hold(
    word: Word, leg: int, step: Step, *, moved: int = 0, given_back: int = 0, keeps_rest: bool = False
) -> Word:
    """Return the word after a COMMIT, RELEASE or EXPIRE took `moved + given_back` from one of its holds.

    The amounts are the decider's, so that at the other groups they may arrive in any order: the hold is empty when the
    last of them has.
    """
    hold = hold_of(word, leg)
    rest = hold.rest - moved - given_back
    ends = hold.state is State.HELD and not (keeps_rest and rest)
    state = NEXT_HOLD[hold.state, step] if ends else hold.state
    ended = Hold(state, rest, hold.expired + (given_back if step is Step.EXPIRE else 0))
    at = word.chain.holds.index(leg)
    return word._replace(holds=(*word.holds[:at], ended, *word.holds[at + 1 :]))


def is_open(word: Word) -> bool:
    """Whether this group waits for a decider's word for the chain, or still reserves one of its holds."""
    return word.state is State.RESERVED or any(hold.rest for hold in word.holds)


def took_effect(word: Word) -> bool:
    """Whether a decider's word says that the chain's money moved, or is held."""
    return word.state in (State.POSTED, State.HELD)


def lifecycle() -> npt.NDArray[np.uint8]:
    """Return `NEXT_WORD` for a compiled loop, shape (states, steps): the next state, 0 where the step is ignored."""
    table = np.zeros((len(State), len(Step)), np.uint8)
    for (state, step), after in NEXT_WORD.items():
        table[state, step] = after
    return table
