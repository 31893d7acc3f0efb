"""One scenario, laid out: what never changes while the model runs."""

from typing import NamedTuple

from engine.core.chains.plan import Chain
from engine.core.chains.word import Word
from engine.core.records import Kind
from tests.model.chains import Following, Leg, Request, chains_of, ids_of, index_of_ids
from tests.model.ledger import Account, Accounts
from tests.model.rules import RULES, Rules


class Scenario(NamedTuple):
    """A small world: accounts of groups, what callers ask, and what must never be answered."""

    title: str
    accounts: dict[tuple[int, str], Account]
    requests: tuple[Request, ...]
    groups: int = 2
    must_not: tuple[tuple[str, str], ...] = ()
    """(request, outcome of a leg): never right here, as the money is there, or the order of time forbids it."""
    freezes: tuple[tuple[int, str], ...] = ()
    """Accounts that an operator freezes at any moment, each with a log record of its own."""
    splits: tuple[int, ...] = ()
    """The home group of each account that is split, in the directory's order: the epochs of the maps."""
    buckets: tuple[tuple[str, int], ...] = ()
    """(account, epoch): from this epoch on a group knows the account as a bucket, one slice of it."""
    may_wait: tuple[str, ...] = ()
    """Requests whose callers may be put off with UNAVAILABLE: a bucket is short, and nobody pulls."""
    rules: Rules = RULES


class Group(NamedTuple):
    """What one group's log amounts to: its accounts, and its word for each request's id."""

    accounts: Accounts
    words: tuple[Word | None, ...]
    epoch: int = 0
    """How many splits it has logged."""


class Setup:
    """A scenario's tables: chains, legs and the slots of accounts, transit accounts included."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rules = scenario.rules
        self.groups = scenario.groups
        self.requests = scenario.requests
        self.chains = tuple(chains_of(one, self.rules) for one in self.requests)
        self.legs: dict[Chain, tuple[Leg, ...]] = {}
        self.ids: dict[Chain, tuple[str, ...]] = {}
        self.request_of: dict[Chain, int] = {}
        self.epoch_of: dict[Chain, int] = {}
        self.buckets = dict(scenario.buckets)
        for number, (one, chains) in enumerate(zip(self.requests, self.chains, strict=True)):
            for layout, chain in zip(one.layouts, chains, strict=True):
                self.legs[chain], self.ids[chain], self.request_of[chain] = layout.legs, ids_of(one), number
                self.epoch_of[chain] = layout.epoch
        self.index = {one.name: number for number, one in enumerate(self.requests)}
        self.by_id = index_of_ids(self.requests, self.rules)
        self.slots: list[dict[str, int]] = [{} for _ in range(self.groups)]
        self.start = tuple(self._open(group) for group in range(self.groups))

    def _open(self, group: int) -> Group:
        """The opening book of a group; an account `funding` makes it sum to zero."""
        names = [name for at, name in self.scenario.accounts if at == group]
        accounts = [self.scenario.accounts[group, name] for name in names]
        transits = [transit(other) for other in range(self.groups) if other != group]
        debits, credits = sum(each.debits for each in accounts), sum(each.credits for each in accounts)
        self.slots[group] = {name: slot for slot, name in enumerate([*names, *transits, "funding"])}
        opened = (*accounts, *(Account() for _ in transits), Account(debits=credits, credits=debits))
        return Group(opened, (None,) * len(self.requests))

    def slots_of(self, group: int, chain: Chain, leg: int) -> tuple[int, int]:
        """A leg as this group books it: (debited, credited) slots, the far side being the transit account."""
        one, side, slots = self.legs[chain][leg], chain.plan.sides[leg], self.slots[group]
        debit = slots[one.debit] if side.debit == group else slots[transit(side.debit)]
        credit = slots[one.credit] if side.credit == group else slots[transit(side.credit)]
        return (credit, debit) if one.kind is Kind.REVERSE else (debit, credit)

    def own_legs(self, group: int, chain: Chain) -> list[int]:
        return [leg for leg, side in enumerate(chain.plan.sides) if group in side]

    def original(self, chain: Chain, leg: int) -> Following | None:
        """What a leg follows: the first request that has that id."""
        found = self.by_id.get(self.legs[chain][leg].follows)
        return found[0] if found else None

    def says(self, group: Group, request: int) -> Word | None:
        """A group's word for a request's id, which may be a leg of another chain there."""
        if group.words[request]:
            return group.words[request]
        name = self.requests[request].name
        words = (group.words[other.request] for other in self.by_id[name] if other.request != request)
        return next((word for word in words if word and name in self.ids[word.chain]), None)


def transit(other: int) -> str:
    """The internal account that balances money on its way to or from another group."""
    return f"transit {'ABCDEFGH'[other]}"
