"""Random steps of cross-group chains for one group, among EVENTS: mostly sensible ones, and late, repeated, reordered
or wrong ones."""

import pickle
from random import Random
from typing import Final

import numpy as np

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_answers import asked_amount
from engine.core.chains.step_record import StepRecord, join_steps, legs_carried, steps_of
from engine.core.chains.word import WHOLE, Order, State, Step, Word
from engine.core.model.state import Event, pack, unpack
from engine.core.model.steps import StepModel
from engine.core.outcomes import Outcome
from engine.core.records import AMOUNT_ALL, FOLLOWERS, AccountFlag, Flag, Kind, as_words
from engine.core.split.buckets import group_of_share, share_id
from engine.core.validation import faults_of
from tests.core_histories import BALANCING, HERE, SECOND, History, name, settings
from tests.core_twins import Given, Twins, check_books

OURS: Final = 0
FAR: Final = (1, 2, 3)
OTHERS_MAX: Final = 40
STEPS_A_RECORD_MAX: Final = 14
TRIES: Final = 4
FAR_ACCOUNTS: Final = tuple(name(77_000_000 + number) for number in range(3))
SIDES: Final = ((0, 1), (0, 1), (1, 0), (1, 0), (0, 2), (2, 0), (1, 2), (0, 0))
"""0 stands for our group, 1 and 2 for the first two of those that are far."""
ENDS: Final = (Step.COMMIT, Step.HOLD, Step.RELEASE)


class StepHistory(History):
    """Draws STEPS records beside those of EVENTS."""

    def __init__(self, random: Random, model: StepModel) -> None:
        super().__init__(random, model)
        self.steps_model = model
        self.chains: list[Chain] = []
        self.sent: list[Order] = []
        self.far: tuple[int, ...] = FAR

    # ---- chains ----

    def chain(self) -> Chain:
        """Return a chain over groups, valid by itself; mostly new."""
        if self.chains and self.chance(4):
            return self.random.choice(self.chains)
        while True:
            legs = 1 if not self.chance(3) else self.random.randint(2, 4)
            drawn = [self.leg(alone=legs == 1) for _ in range(legs)]
            events = [event for event, _, _ in drawn]
            linked = [event._replace(flags=event.flags | Flag.LINKED) for event in events[:-1]] + events[-1:]
            rows = b"".join(map(pack, linked))
            if not faults_of(as_words(rows)).any():
                break
        sides = tuple(side for _, side, _ in drawn)
        deciders = [decider for _, _, decider in drawn if decider is not None]
        decider = deciders[0] if deciders and not self.chance(12) else sides[-1].credit
        if self.chance(8):
            decider = self.random.choice((OURS, *self.far))
        chain = chain_of(rows, Plan(sides, decider))
        if OURS not in chain.groups:
            return self.chain()
        self.chains.append(chain)
        self.units.append(linked)
        return chain

    def again_laid_out(self, chain: Chain) -> Chain:
        """Return the chain's body under another plan, or another body under its id."""
        sides, decider = chain.plan.sides, self.random.choice((OURS, *self.far))
        if self.chance(2):
            sides = tuple(self.side() for _ in chain.plan.sides)
            decider = self.random.choice((chain.decider, sides[-1].credit))
        other = chain_of(chain.rows, Plan(sides, decider))
        return other if OURS in other.groups else chain

    def side(self) -> Side:
        debit, credit = self.random.choice(SIDES)
        groups = (OURS, *self.far)
        return Side(groups[debit], groups[credit])

    def move(self) -> tuple[Event, Side, int | None]:
        """Return a leg from share account to share account, mostly in the groups that these name."""
        own = [name for name, account in self.model.accounts.items() if account.flags & AccountFlag.SHARE]
        here, far = self.random.choice(own or [share_id(OURS, 1)]), share_id(self.random.choice(self.far), 7)
        side = Side(OURS, group_of_share(far)) if self.chance(2) else Side(group_of_share(far), OURS)
        both = (here, far) if side.debit == OURS else (far, here)
        event = Event(id=self.transfer_id(), kind=Kind.POST, debit=both[0], credit=both[1], amount=self.amount())
        event = event._replace(ledger=1, amount=max(1, event.amount))
        return event, self.side() if self.chance(6) else side, None

    def leg(self, alone: bool) -> tuple[Event, Side, int | None]:
        """Return a leg, its side, and the decider of what it follows."""
        if self.splits and self.chance(5):
            return self.move()
        event = self.transfer()
        side, decider = self.side(), None
        if not alone and (event.flags & BALANCING or event.amount == AMOUNT_ALL):
            event = event._replace(flags=event.flags & ~BALANCING, amount=0 if event.kind == Kind.RELEASE else 3)
        if self.chance(4) and event.kind == Kind.POST:
            event = event._replace(flags=Flag.NONE)
        original = self.steps_model.history.get(event.followed)
        if event.kind in FOLLOWERS and original is not None:
            place = original.place
            if not self.chance(12):
                side, decider = (place.side, place.decider) if place else (Side(OURS, OURS), OURS)
            return event, side, decider
        far = self.random.choice(FAR_ACCOUNTS)
        event = event._replace(debit=event.debit if side.debit == OURS else far)
        return event._replace(credit=event.credit if side.credit == OURS else far[:-1] + b"c"), side, decider

    # ---- steps ----

    def steps(self) -> StepRecord:
        """Return the steps of one record."""
        found = [self.step() for _ in range(self.random.randint(0, 7))]
        return join_steps(found)._replace(compact=len(found) % 2 == 1)

    def step(self) -> StepRecord:
        """Return one step: again, for a chain as it should go on, or just any."""
        if self.sent and self.chance(6):
            order = self.random.choice(self.sent)
        else:
            chain = self.open_chain() if self.chance(1.8) else self.chain()
            if self.chance(12):
                chain = self.again_laid_out(chain)
            order = self.order(chain)
        self.sent.append(order)
        word = self.steps_model.words.get(order.chain.chain_id)
        times = self.time + self.random.randint(0, 5) * SECOND if word or self.chance(2) else 0
        record = steps_of([order], [times])
        return self.spoiled_step(record) if order.step not in WHOLE and self.chance(20) else record

    def spoiled_step(self, record: StepRecord) -> StepRecord:
        """Return the step with a row that is not the one on record: another body, sides or leg."""
        rows, sides = record.rows.copy(), record.sides.copy()
        choice = self.random.randrange(4)
        if choice == 0:
            rows[0, 10] ^= np.uint64(1)
        elif choice == 1:
            rows[0, 2] ^= np.uint64(1 << 60)
        elif choice == 2:
            rows[-1, 15] ^= np.uint64(1 << 48)
        else:
            sides[-1] = sides[-1][::-1]
        return record._replace(rows=rows, sides=sides)

    def open_chain(self) -> Chain:
        """Return a chain that is under way, if there is one."""
        under_way = (State.RESERVED, State.HELD)
        found = [word.chain for word in self.steps_model.words.values() if word.state in under_way]
        return self.random.choice(found) if found else self.chain()

    def order(self, chain: Chain) -> Order:
        word = self.steps_model.word(chain.chain_id)
        step = self.fitting_step(chain, word)
        if self.chance(10):
            step = self.random.choice(tuple(Step)[1:])
        order = Order(step, OURS, chain)
        if step in (*ENDS, Step.EXPIRE) and not legs_carried(order):
            step = Step.ASK
        asked = tuple(asked_amount(chain, leg) for leg in range(chain.legs))
        if step is Step.DECIDE:
            return Order(step, OURS, chain, self.decided(chain, asked))
        if step in (Step.COMMIT, Step.HOLD):
            amounts = self.decided(chain, word.amounts if word and len(word.amounts) == chain.legs else asked)
            amounts = tuple(self.of_hold(chain, leg, amount) for leg, amount in enumerate(amounts))
            if self.chance(30):
                amounts = tuple(min(amount + 1, AMOUNT_ALL) for amount in amounts)
            return Order(step, OURS, chain, amounts, self.given_back(chain, amounts))
        if step is Step.ABORT:
            reason = self.random.choice((Outcome.CHAIN_ABORTED, Outcome.INSUFFICIENT_FUNDS))
            return Order(step, OURS, chain, reason=reason, leg=self.random.randrange(chain.legs))
        if step is Step.EXPIRE:
            return self.expiry(chain)
        return Order(step, OURS, chain)

    def fitting_step(self, chain: Chain, word: Word | None) -> Step:
        """Return what could come next."""
        if word is None:
            first = Step.DECIDE if chain.decider == OURS else Step.RESERVE
            return Step.ABORT if chain.decider == OURS and self.chance(6) else first
        if word.state is State.RESERVED:
            return Step.RELEASE if self.chance(4) else Step.HOLD if chain.holds else Step.COMMIT
        if word.state is State.HELD and chain.decider != OURS:
            return Step.EXPIRE
        return self.random.choice(tuple(Step)[1:])

    def decided(self, chain: Chain, amounts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the amounts, or less of the only leg, if that is balancing."""
        balancing = chain.legs == 1 and self.event_of(chain, 0).flags & BALANCING
        if balancing and self.chance(4) and amounts[0]:
            return (self.random.randint(0, min(amounts[0], 12)),)
        return amounts

    def of_hold(self, chain: Chain, leg: int, amount: int) -> int:
        """Return what a decider can say of a COMMIT: no more than what is left."""
        event = self.event_of(chain, leg)
        original = self.steps_model.history.get(event.followed)
        if event.kind != Kind.COMMIT or original is None or self.chance(20):
            return amount
        return min(amount, original.remaining)

    def given_back(self, chain: Chain, amounts: tuple[int, ...]) -> tuple[int, ...]:
        backs = []
        for leg, amount in enumerate(amounts):
            event = self.event_of(chain, leg)
            original = self.steps_model.history.get(event.followed)
            rest = original.remaining - amount if original and event.kind in (Kind.COMMIT, Kind.RELEASE) else 0
            keeps = event.kind == Kind.COMMIT and event.flags & Flag.KEEP_REST
            back = 0 if keeps or rest <= 0 else self.random.choice((rest, rest, rest // 2))
            backs.append(back + (1 if self.chance(40) else 0))
        return tuple(backs)

    def expiry(self, chain: Chain) -> Order:
        legs = chain.holds or (0,)
        leg = self.random.choice(legs)
        stored = self.steps_model.history.get(self.event_of(chain, leg).id)
        rest = stored.remaining if stored else 1
        return Order(Step.EXPIRE, OURS, chain, given_back=(self.random.choice((rest, rest // 2, rest + 1)),), leg=leg)

    def event_of(self, chain: Chain, leg: int) -> Event:
        return next(unpack(chain.rows[leg * 128 : leg * 128 + 128]))


class HistoryOfLives(StepHistory):
    """Draws records in which chains live from their first step to the last: each step goes on from what those before
    it in the same record leave, mostly among groups that this one has not met before."""

    def steps(self) -> StepRecord:
        self.far = tuple(self.random.sample(range(1, OTHERS_MAX), len(FAR)))
        now = self.steps_model
        self.model = self.steps_model = pickle.loads(pickle.dumps(now))  # a fifth of what deepcopy takes
        found = []
        for _ in range(self.random.randint(1, STEPS_A_RECORD_MAX)):
            found.append(self.step())
            self.steps_model.apply_steps(found[-1], self.time)
        self.model = self.steps_model = now
        return join_steps(found)._replace(compact=len(found) % 3 > 0)

    def transfer(self) -> Event:
        """Return mostly one that can succeed: a chain takes effect only if each of its legs does."""
        for _ in range(TRIES):
            event = super().transfer()
            follows = event.kind not in FOLLOWERS or event.followed in self.model.history
            if follows and event.debit in HERE and event.credit in HERE:
                break
        return event


def run_step_history(random: Random, records: int, drawn: type[StepHistory] = StepHistory) -> Twins:
    """Play one random history of EVENTS and STEPS on both; raises AssertionError at the first difference."""
    twins = Twins(expiries_per_record_max=random.choice((1, 2, 1 << 16)))
    history = drawn(random, twins.model)
    twins.settings(settings(), history.next_time())
    twins.apply(history.opening(), history.next_time())
    given = Given()
    for number in range(records):
        if history.chance(3):
            twins.apply(history.batch(), history.next_time())
        else:
            twins.apply_steps(history.steps(), history.next_time())
        check_balanced(twins.model)
        given.check(twins.model)
        if history.chance(60):
            twins.settings(history.settings(number), history.next_time())
        if history.chance(8):
            twins.restore()
    return twins


def check_balanced(model: StepModel) -> None:
    """Check that the book sums to zero, transit accounts included, and that nothing in it is below zero."""
    check_books(model)
    counters = [side for account in model.accounts.values() for side in (account.debits, account.credits)]
    assert all(side.posted >= 0 and side.reserved >= 0 for side in counters)
    check_pools(model)


def check_pools(model: StepModel) -> None:
    """Check that no bucket's pool is below zero (I5), but by what was forced, or by a chain that no router lays out."""
    events = [old.event for old in model.history.values()]
    excepted = {end for event in events if event.flags & Flag.FORCE for end in (event.debit, event.credit)}
    excepted |= moved_and_posted(model)
    for account_id, account in model.accounts.items():
        headroom = model.headroom(account)
        if account.flags & AccountFlag.BUCKET and headroom is not None:
            assert {account_id, account.partner} & excepted or headroom >= 0


def moved_and_posted(model: StepModel) -> set[bytes]:
    """Return the accounts of which one chain has legs on the head and on the share account.

    Moves are chains of their own (decision 0012). In one chain a later leg could spend from the head what an earlier
    one brings to the share account; each row's net is secured by itself, so the pool lacks it until the chain ends.
    """
    booked: dict[bytes, set[bytes]] = {}
    for old in model.history.values():
        if old.place is not None:
            booked.setdefault(old.place.chain_id, set()).update(old.accounts or ())
    made = model.accounts.keys()
    return {name for names in booked.values() for name in names & made if model.accounts[name].partner in names}
