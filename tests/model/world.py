"""The transition system of a scenario: states, and everything that may happen next."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from engine.core.chains.driver import ROUTER, Facts, outcomes
from engine.core.chains.plan import Chain
from engine.core.chains.word import Judged, Order, Step, Word, is_open, next_word
from engine.core.outcomes import Outcome
from tests.model.drivers import orders, told
from tests.model.group import apply, due, freeze, split
from tests.model.ledger import FROZEN
from tests.model.setup import Group, Scenario, Setup

Groups = tuple[Group, ...]
Said = frozenset[tuple[int, Word]]
"""All that groups ever said of one request: (group, word)."""


class State(NamedTuple):
    """The groups' logs, and every answer that was ever given, by request."""

    groups: Groups
    said: tuple[Said, ...]


class Event(NamedTuple):
    """One step: an order for a request's chain; without an order, a freeze of an account, or a split."""

    at: int
    request: int
    order: Order | None
    account: str = ""
    epoch: int = 0


Answers = frozenset[tuple[int, tuple[Outcome, ...]]]
"""What callers of one request may have been told: (layout, outcomes of its legs)."""


class World:
    """A scenario that runs."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.setup = Setup(scenario)
        self.rules = scenario.rules
        self.start = State(self.setup.start, tuple(frozenset() for _ in scenario.requests))
        self.checked: set[tuple[int, Group]] = set()
        """Groups that the invariants of a single group were found to hold for."""
        self._ordered: dict[tuple[Chain, frozenset[tuple[int, Word]], Facts], tuple[Order, ...]] = {}
        self._sent: dict[tuple[int, Said, tuple[Chain, ...]], tuple[Order, ...]] = {}
        self._told: dict[tuple[int, Said], Answers] = {}
        self._says: dict[Group, tuple[Word | None, ...]] = {}
        self._applied: dict[tuple[int, Group, int, Order], Group] = {}

    # ---- what may be sent, given every answer ever given ----

    def events(self, state: State) -> Iterator[Event]:
        for request in range(len(self.setup.requests)):
            for order in self.sendable(state, request):
                yield Event(order.group, request, order)
        for at, group in enumerate(state.groups):
            for request, order in due(self.setup, at, group):
                yield Event(at, request, order)
        for at, account in self.scenario.freezes:
            yield Event(at, 0, None, account)
        yield from self.splits(state)

    def splits(self, state: State) -> Iterator[Event]:
        """The account's home logs its split first, then the other groups."""
        for epoch, home in enumerate(self.scenario.splits, 1):
            for at in range(len(state.groups)):
                begun = state.groups[home].epoch >= epoch or not self.rules.home_splits_first
                if at == home or begun:
                    yield Event(at, 0, None, epoch=epoch)

    def sendable(self, state: State, request: int) -> tuple[Order, ...]:
        """Every order that some router or courier may send, whatever it happens to know of this request."""
        said, owns = state.said[request], self.startable(state, request)
        key = (request, said, owns)
        if key not in self._sent:
            sent = {order for words in knowable(said) for order in self._drive(request, owns, words)}
            self._sent[key] = tuple(sorted(sent, key=self._place))
        return self._sent[key]

    def startable(self, state: State, request: int) -> tuple[Chain, ...]:
        """The layouts that a router may have in hand."""
        one, newest = self.setup.requests[request], max(group.epoch for group in state.groups)
        if not all(self._was_told(state, name, outcome) for name, outcome in one.after):
            return ()
        return tuple(
            chain
            for layout, chain in zip(one.layouts, self.setup.chains[request], strict=True)
            if layout.epoch <= newest and (not layout.after or state.said[self.setup.index[layout.after]])
        )

    def _was_told(self, state: State, name: str, outcome: str) -> bool:
        if name == "frozen":
            slots = ((at, self.setup.slots[at][account]) for at, account in self.scenario.freezes if account == outcome)
            return all(state.groups[at].accounts[slot].flags & FROZEN for at, slot in slots)
        answers = self.answers(state, self.setup.index[name])
        return any(each[0].name == outcome for _, each in answers)

    def _drive(self, request: int, owns: tuple[Chain, ...], words: dict[int, Word]) -> Iterator[Order]:
        for own in owns:
            yield from self.orders(own, words, ROUTER)
        for holder, word in words.items():
            if is_open(word) and self.setup.request_of[word.chain] == request:
                for overdue in (False, True):
                    yield from self.orders(word.chain, words, Facts(holder, overdue))

    def orders(self, own: Chain, words: dict[int, Word], facts: Facts) -> tuple[Order, ...]:
        """What one driver sends, knowing this."""
        key = (own, frozenset(words.items()), facts)
        if key not in self._ordered:
            self._ordered[key] = orders(self.rules, own, words, facts)
        return self._ordered[key]

    def _place(self, order: Order) -> tuple[object, ...]:
        request = self.setup.request_of[order.chain]
        return (order[:2], request, self.setup.chains[request].index(order.chain), order[3:])

    def answers(self, state: State, request: int) -> Answers:
        """All that some router may have told a caller."""
        said = state.said[request]
        key = (request, said)
        if key not in self._told:
            found: set[tuple[int, tuple[Outcome, ...]]] = set()
            for layout, own in enumerate(self.setup.chains[request]):
                answers = (told(self.rules, own, words) for words in knowable(said))
                found.update((layout, outcomes(own, answer)) for answer in answers if answer)
            self._told[key] = frozenset(found)
        return self._told[key]

    # ---- one step ----

    def after(self, state: State, event: Event) -> State:
        """The state after an event; the very same object if it has no effect."""
        before = state.groups[event.at]
        if event.epoch:
            group = split(before, event.epoch)
        elif event.order is None:
            group = freeze(before, self.setup.slots[event.at][event.account])
        else:
            group = self.applied(event.at, before, event.request, event.order)
        if group == before:
            return state
        groups = (*state.groups[: event.at], group, *state.groups[event.at + 1 :])
        return State(groups, self._heard(state, event.at, group))

    def applied(self, at: int, group: Group, request: int, order: Order) -> Group:
        key = (at, group, request, order)
        if key not in self._applied:
            self._applied[key] = apply(self.setup, at, group, request, order)
        return self._applied[key]

    def _heard(self, state: State, at: int, group: Group) -> tuple[Said, ...]:
        """Whatever a group now has on record may be its answer to anybody who asks."""
        return tuple(
            said if word is None or (at, word) in said else said | {(at, word)}
            for said, word in zip(state.said, self.says(group), strict=True)
        )

    def says(self, group: Group) -> tuple[Word | None, ...]:
        """What a group answers, for each request's id."""
        if group not in self._says:
            self._says[group] = tuple(self.setup.says(group, request) for request in range(len(self.setup.requests)))
        return self._says[group]

    def _forgets(self, order: Order) -> bool:
        """Planted faults: an answer without a log record."""
        if order.step is Step.DECIDE:
            return not self.rules.decision_logged
        return order.step is Step.ABORT and not self.rules.tombstone_logged

    def _answered_only(self, state: State, event: Event, order: Order) -> State:
        word = next_word(None, order, Judged(amounts=order.amounts))
        said = state.said[event.request] | {(order.group, word)}
        return state._replace(said=(*state.said[: event.request], said, *state.said[event.request + 1 :]))

    def successors(self, state: State) -> Iterator[tuple[Event, State]]:
        for event in self.events(state):
            following = self.after(state, event)
            if following is not state:
                yield event, following
                if event.order and self._forgets(event.order):
                    yield event, self._answered_only(state, event, event.order)

    def say(self, event: Event) -> str:
        """One step of a trace, in words."""
        place = "ABCDEFGH"[event.at]
        if event.epoch:
            return f"split {event.epoch}@{place}"
        if event.order is None:
            return f"freeze {event.account}@{place}"
        order, name = event.order, self.setup.requests[event.request].name
        layout = self.setup.chains[event.request].index(order.chain)
        which = f"/layout {layout}" if layout else ""
        why = f" ({Outcome(order.reason).name})" if order.step is Step.ABORT else ""
        return f"{order.step.name} {name}{which}@{place}{why}"


def knowable(said: Said) -> Iterator[dict[int, Word]]:
    """What one driver may know: of each group one of the words that it ever said, or none."""
    by_group: dict[int, list[Word]] = {}
    for at, word in said:
        by_group.setdefault(at, []).append(word)
    places = sorted(by_group)
    for choice in product(*([None, *by_group[at]] for at in places)):
        yield {at: word for at, word in zip(places, choice, strict=True) if word is not None}
