"""Cross-group chains in plain Python: what steps do to one group, by the lifecycles of `chains.word` (DESIGN §7).

As `engine.core.model.model` is for EVENTS: the specification that the compiled loop is held equal to, with its whole
history inside.
"""

from typing import Final, NamedTuple

import numpy as np

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_answers import SHORT, AnsweredWord, asked_amount
from engine.core.chains.step_record import StepRecord, dense_amounts, encode_steps, pairs, sparse_amounts, take_steps
from engine.core.chains.word import JUDGED, WHOLE, Hold, Judged, Order, State, Step, Word, is_heard, next_word
from engine.core.known import NO_POSITION
from engine.core.model.legs import Leg, Legs
from engine.core.model.model import Model, Result
from engine.core.model.rules import Short
from engine.core.model.state import Chain as StoredChain
from engine.core.model.state import Event, Stored, pack, unpack
from engine.core.outcomes import Outcome, ResultFlag, took_effect
from engine.core.records import FOLLOWERS, Kind

_STEP_SHIFT: Final = 13
_HOW: Final = {
    None: State.HELD,
    Outcome.RESERVATION_ALREADY_COMMITTED: State.COMMITTED,
    Outcome.RESERVATION_ALREADY_RELEASED: State.RELEASED,
    Outcome.RESERVATION_EXPIRED: State.EXPIRED,
}


class StepAnswer(NamedTuple):
    """What a STEPS record did, as `known.AppliedSteps`."""

    rows: list[bytes]
    asked: dict[int, int]
    extra: bytes
    answers: list[AnsweredWord]
    """Of an ignored step, without a word."""
    positions: list[int]
    """Of an ignored step, where a row stands whose chain's word is the answer."""
    timestamp_ns: int


class Received(NamedTuple):
    """One step as it came."""

    step: Step
    chain_id: bytes
    digest: bytes
    time_ns: int
    decider: int
    reason: int
    leg: int
    legs: list[Leg]


class StepModel(Legs, Model):
    """One group's state by the rules, EVENTS and STEPS."""

    def __init__(self, group: int, **bounds: int) -> None:
        """Start an empty group without settings."""
        super().__init__(group, **bounds)
        self.words: dict[bytes, Word] = {}
        self.courier_may_abort: dict[bytes, int] = {}
        """When, by chain id, in ns; 0: never."""
        self._moved: list[tuple[int, int]] = []

    # One log record ---------------------------------------------------------------------------------------------------

    def apply_steps(self, record: StepRecord, timestamp_ns: int) -> StepAnswer:
        """Apply one STEPS record whose header bears `timestamp_ns`."""
        self._begin(timestamp_ns)
        self._expire_due()
        expired, answers, positions, changed = len(self._rows), [], [], []
        self._moved = []
        for received in _received(record):
            rows = len(self._rows)
            told = self._take(received)
            changed.append(len(self._rows) > rows)
            positions.append(told if isinstance(told, int) else NO_POSITION)
            answers.append(_answer(told))
        extra = self._extra(record, np.array(changed, np.bool_), expired)
        applied = self._finish([])
        return StepAnswer(applied.rows, applied.asked, extra, answers, positions, applied.timestamp_ns)

    def _extra(self, record: StepRecord, changed: "np.ndarray[tuple[int], np.dtype[np.bool_]]", expired: int) -> bytes:
        """The payload of the steps that changed something, with the amounts as they became."""
        if not changed.any():
            return b""
        rows = [next(unpack(row)).amount for row in self._rows[expired:]]
        asked = [self._asked.get(expired + at, amount) for at, amount in enumerate(rows)]
        amounts = sparse_amounts(pairs(asked), pairs(rows), pairs([back for _, back in self._moved]))
        return encode_steps(take_steps(record, changed)._replace(amounts=amounts))

    def _take(self, received: Received) -> Word | int | AnsweredWord:
        """Return the new word; or, of an ignored step, the position of a row whose chain's word is the answer; or that
        a bucket is short."""
        if received.step in (Step.RESERVE, Step.DECIDE, Step.ABORT):
            return self._begin_chain(received)
        if received.step in (Step.COMMIT, Step.HOLD, Step.RELEASE):
            return self._end_chain(received)
        if received.step is Step.EXPIRE:
            return self._expire_elsewhere(received)
        return self._position_of(received.legs[0].event.id)

    def _position_of(self, name: bytes) -> int:
        return self.history[name].position if name in self.history else NO_POSITION

    def word(self, chain_id: bytes) -> Word | None:
        """Return the word for a chain's id, with its holds as they are now."""
        word = self.words.get(chain_id)
        if word is None or word.state is not State.HELD:
            return word
        ids = [word.chain.rows[leg * 128 : leg * 128 + 16] for leg in word.chain.holds]
        return word._replace(holds=tuple(self._hold_here(self.history[name]) for name in ids))

    def _hold_here(self, stored: Stored) -> Hold:
        return Hold(State.NONE, 0) if stored.held is None else Hold(_HOW[stored.ended], stored.remaining)

    def _write_row(self, step: Step, leg: Leg, outcome: int, amount: int, back: int = 0) -> None:
        """Append a journal row: it says which step stored it."""
        if amount != leg.event.amount:
            self._asked[len(self._rows)] = leg.event.amount
        event = leg.event._replace(amount=amount, timestamp=self.time + len(self._rows), outcome=outcome)
        self._rows.append(pack(event._replace(leg=leg.number | step << _STEP_SHIFT)))
        self._moved.append((amount, back))

    @property
    def _position(self) -> int:
        """Of the next row."""
        return self.next_position + len(self._rows)

    # The first word ---------------------------------------------------------------------------------------------------

    def _begin_chain(self, received: Received) -> Word | int | AnsweredWord:
        legs, judged = received.legs, Judged()
        met = self._position_of(legs[0].event.id)
        if met == NO_POSITION and received.step in JUDGED:
            met = self._laid_out_otherwise(received)
        if met != NO_POSITION or (received.decider == self.group) == (received.step is Step.RESERVE):
            return met
        position, since_ns = self._position, self.time + len(self._rows)
        if received.step in JUDGED:
            accounts = len(self.accounts)
            self._make_transits(legs, position)
            found = self._judge(received)
            if isinstance(found, AnsweredWord):
                for name in list(self.accounts)[accounts:]:
                    del self.accounts[name]  # nothing is stored that could make them again
                return found
            judged = found
            legs = [leg._replace(amount=amount) for leg, amount in zip(legs, judged.amounts, strict=False)] or legs
        stored = self._register(received, legs, judged)
        if received.step is Step.DECIDE and not judged.reason:
            backs = tuple(self._run_stored(leg, one, since_ns) for leg, one in zip(legs, stored, strict=True))
            judged = judged._replace(given_back=backs if any(backs) else ())
        word = next_word(None, self._order(received), judged)._replace(position=position, timestamp_ns=since_ns)
        word = self.words[received.chain_id] = word._replace(holds=())
        if word.state is State.RESERVED:
            self.courier_may_abort[received.chain_id] = received.time_ns
            self.secure(legs, received.decider, +1, position)
        self._write_first(received.step, word, legs)
        return word

    def _laid_out_otherwise(self, received: Received) -> int:
        """Return the position of an original that is there under another plan than the step's."""
        for leg in received.legs:
            original = self.history.get(leg.event.followed)
            is_there = leg.event.kind in FOLLOWERS and original is not None and self._took_effect(original)
            if original and is_there and self._layout_of(original) != (leg.side, received.decider):
                return original.position
        return NO_POSITION

    def _took_effect(self, original: Stored) -> bool:
        released = original.place is not None and self.words[original.place.chain_id].state is State.RELEASED
        return took_effect(original.outcome) and not released

    def _layout_of(self, original: Stored) -> tuple[Side, int]:
        if original.place is None:
            return Side(self.group, self.group), self.group
        return original.place.side, original.place.decider

    def _make_transits(self, legs: list[Leg], position: int) -> None:
        for leg in legs:
            for other in leg.side if self.group in leg.side else ():
                if other != self.group:
                    self.make_transit(other, leg.event.ledger, position)

    def _judge(self, received: Received) -> Judged | AnsweredWord:
        """Judge the legs in order, each upon what the earlier ones leave; all of that is taken back."""
        amounts, decides = [], received.step is Step.DECIDE
        with self.scratch(received.legs):
            for leg in received.legs:
                if leg.number and leg.event.id in self.history:
                    return Judged(Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN, leg.number)
                refusal, amount = self.judge_leg(leg, decides)
                if isinstance(refusal, Short):
                    return AnsweredWord(None, SHORT, reason=refusal.reason, leg=leg.number)
                if refusal is not None:
                    return Judged(refusal, leg.number)
                amounts.append(amount)
                if len(received.legs) > 1:
                    self.try_leg(leg._replace(amount=amount), decides)
        return Judged(0, 0, tuple(amounts))

    def _register(self, received: Received, legs: list[Leg], judged: Judged) -> list[Stored]:
        """Put every leg's id on record, unless it is already."""
        reason, failed = judged.reason, judged.leg
        if received.step is Step.ABORT:
            reason, failed = received.reason, received.leg
        effect = Outcome.SECURED if received.step is Step.RESERVE else Outcome.POSTED
        chain, stored = StoredChain(), []
        for leg in legs:
            row = len(self._rows) + leg.number
            outcome = effect if not reason else reason if leg.number == failed else Outcome.CHAIN_FAILED
            place = self.place_of(leg, received.chain_id, received.decider)
            moved = leg.event.amount if reason else leg.amount
            one = Stored(
                leg.event, Outcome(outcome), self.next_position + row, self.time + row, chain, moved, place=place
            )
            stored.append(one)
            chain.legs.append(one)
            self.history.setdefault(leg.event.id, one)
        return stored

    def _run_stored(self, leg: Leg, stored: Stored, since_ns: int) -> int:
        held = self.held_since(leg, stored.position, stored.timestamp, since_ns)
        return self.run_leg(leg, stored, stored.place, held) if stored.place else 0

    def _write_first(self, step: Step, word: Word, legs: list[Leg]) -> None:
        backs = word.given_back or (0,) * len(legs)
        outcomes = {State.RESERVED: Outcome.SECURED, State.POSTED: Outcome.POSTED, State.HELD: Outcome.POSTED}
        for leg, back in zip(legs, backs, strict=True):
            if word.state in outcomes:
                self._write_row(step, leg, outcomes[word.state], leg.amount, back)
            else:
                reason = word.reason if leg.number == word.leg else Outcome.CHAIN_FAILED
                self._write_row(step, leg, reason, leg.event.amount)

    def _order(self, received: Received, known: Chain | None = None) -> Order:
        """The order that a step is, for the chain that it carries or the one on record."""
        legs, back = received.legs, tuple(leg.given_back for leg in received.legs)
        chain = known
        if chain is None:
            plan = Plan(tuple(leg.side for leg in legs), received.decider)
            chain = chain_of(b"".join(pack(leg.event) for leg in legs), plan)
        amounts = [asked_amount(chain, leg) for leg in range(chain.legs)]
        backs = [0] * chain.legs
        for leg in legs:
            amounts[leg.number], backs[leg.number] = leg.amount, leg.given_back
        given_back = back if received.step is Step.EXPIRE else tuple(backs) if any(backs) else ()
        return Order(received.step, self.group, chain, tuple(amounts), given_back, received.reason, received.leg)

    # The decider's word -----------------------------------------------------------------------------------------------

    def _end_chain(self, received: Received) -> Word | int:
        word, legs = self.words.get(received.chain_id), received.legs
        if word is None or word.state is not State.RESERVED:
            return self._position_of(legs[0].event.id)
        if word.chain.digest != received.digest:
            return word.position
        if not all(self._fits(received, leg, word) for leg in legs):
            return self._position_of(legs[0].event.id)
        order = self._order(received, word.chain)
        if not is_heard(word, order):
            return self._position_of(legs[0].event.id)
        position, timestamp_ns = self._position, self.time + len(self._rows)
        self._count_freed(received, word)
        self.secure([leg._replace(amount=word.amounts[leg.number]) for leg in legs], received.decider, -1, position)
        after = next_word(word, order, Judged())._replace(position=position, timestamp_ns=timestamp_ns, holds=())
        self.words[received.chain_id] = after
        for leg in legs:
            if after.state is State.RELEASED:
                self._write_row(received.step, leg, Outcome.CHAIN_FAILED, leg.event.amount)
            else:
                self._run_told(leg, received.time_ns)
                self._write_row(received.step, leg, Outcome.POSTED, leg.amount, leg.given_back)
        return after

    def _count_freed(self, received: Received, word: Word) -> None:
        """What was secured and comes to nothing is given back."""
        legs = [leg._replace(amount=word.amounts[leg.number]) for leg in received.legs]
        if received.step is Step.RELEASE:
            for name, amounts in self.net_of(legs).items():
                self.give_back([name], sum(amounts))
        elif word.chain.legs == 1 and legs[0].event.kind not in (Kind.COMMIT, Kind.RELEASE):
            told = received.legs[0].amount
            self.give_back(self.accounts_of(legs[0].event, legs[0].side), word.amounts[0] - told)

    def _run_told(self, leg: Leg, since_ns: int) -> None:
        stored = self.history[leg.event.id]
        held = self.held_since(leg, self._position, self.time + len(self._rows), since_ns)
        if stored.place is not None:
            self.run_leg(leg, stored, stored.place, held)

    def _fits(self, received: Received, leg: Leg, word: Word) -> bool:
        """Whether a decider that keeps to the protocol can have said this: of the legs on record, no more than what is
        secured, or held."""
        kind, stored = leg.event.kind, self.history.get(leg.event.id)
        if stored is None or stored.place is None or (stored.event, stored.place.side) != (leg.event, leg.side):
            return False
        if word.chain.rows[leg.number * 128 :][:16] != leg.event.id:
            return False
        if received.step is Step.RELEASE:
            return True
        if kind in (Kind.COMMIT, Kind.RELEASE):
            original = self.history.get(leg.event.followed)
            listed = original is not None and original.event.kind == Kind.RESERVE and original.is_open
            enough = listed and original is not None and leg.amount + leg.given_back <= original.remaining
            return enough and (kind == Kind.COMMIT or leg.amount == 0)
        if kind == Kind.RESERVE and received.step is not Step.HOLD:
            return False
        whole = kind == Kind.RESERVE or word.chain.legs > 1
        return leg.amount == leg.event.amount if whole else leg.amount <= word.amounts[0]

    # Holds ------------------------------------------------------------------------------------------------------------

    def _expire_elsewhere(self, received: Received) -> Word | int:
        """A hold met its deadline at its decider, which says what it gave back."""
        (leg,) = received.legs
        stored = self.history.get(leg.event.id)
        if stored is None or stored.place is None or stored.held is None or stored.place.decider == self.group:
            return self._position_of(leg.event.id)
        word = self.word(stored.place.chain_id)
        if word is None or stored.ended is not None or word.chain.digest != received.digest:
            return stored.position
        leg = leg._replace(number=stored.chain.legs.index(stored))
        order = self._order(received._replace(leg=leg.number, legs=[leg]), word.chain)
        if not is_heard(word, order) or leg.given_back > stored.remaining:
            return stored.position
        position, timestamp_ns = self._position, self.time + len(self._rows)
        self._hold(stored, -leg.given_back)
        self.give_back(stored.accounts, leg.given_back)
        stored.ended = Outcome.RESERVATION_EXPIRED
        row = Event(
            id=leg.event.id,
            kind=Kind.EXPIRE,
            debit=stored.event.debit,
            credit=stored.event.credit,
            amount=leg.given_back,
            followed=leg.event.id,
            ledger=stored.event.ledger,
        )
        self._write_row(
            Step.EXPIRE, Leg(row, leg.side, received.leg, 0), Outcome.POSTED, leg.given_back, leg.given_back
        )
        return word._replace(position=position, timestamp_ns=timestamp_ns, holds=())

    # EVENTS that meet cross-group chains ------------------------------------------------------------------------------

    def _apply_unit(self, unit: list[Event]) -> list[Result]:
        by_itself = unit[0].kind in (Kind.CREATE_ACCOUNT, Kind.BUCKET)
        decider = None if by_itself else self._decider_elsewhere(unit)
        if decider is None:
            return super()._apply_unit(unit)
        return [Result(NO_POSITION, 0, 0, ResultFlag.DECIDED_ELSEWHERE, decider)] * len(unit)

    def _decider_elsewhere(self, unit: list[Event]) -> int | None:
        """Return the other group that decides what a unit is on record in; or what it follows, unless that is laid out
        on this group alone."""
        known = [self.history[event.id] for event in unit if event.id in self.history]
        deciders = [old.place.decider for old in known if old.place is not None and old.place.decider != self.group]
        if known:
            return deciders[0] if deciders else None
        for event in unit:
            original = self.history.get(event.followed)
            if event.kind in FOLLOWERS and original is not None and self._took_effect(original):
                side, decider = self._layout_of(original)
                if (side, decider) != (Side(self.group, self.group), self.group):
                    return decider
        return None


def _answer(told: Word | int | AnsweredWord) -> AnsweredWord:
    if isinstance(told, AnsweredWord):
        return told
    return AnsweredWord(None) if isinstance(told, int) else AnsweredWord(told, 0)


def _received(record: StepRecord) -> list[Received]:
    """Take a record apart."""
    amounts, backs = dense_amounts(record.rows[:, 6:8], record.amounts)
    found = []
    for entry in record.steps:
        step, first = Step(int(entry["step"])), int(entry["first_row"])
        legs = []
        for at in range(first, first + int(entry["rows"])):
            event = next(unpack(record.rows[at].tobytes()))
            number = at - first if step in WHOLE else event.leg
            told = step in (Step.DECIDE, Step.COMMIT, Step.HOLD)
            amount = _number(amounts[at]) if told else event.amount
            side = Side(int(record.sides[at, 0]), int(record.sides[at, 1]))
            legs.append(Leg(event._replace(leg=0), side, number, amount, _number(backs[at])))
        found.append(
            Received(
                step,
                bytes(entry["chain_id"]),
                bytes(entry["digest"]),
                int(entry["time"]),
                int(entry["decider"]),
                int(entry["reason"]),
                int(entry["leg"]),
                legs,
            )
        )
    return found


def _number(words: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> int:
    return int(words[0]) | int(words[1]) << 64
