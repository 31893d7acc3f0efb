"""Shard groups in memory, for the router's tests: the protocol model's group behind the bytes of the wire.

The model knows its requests beforehand; here they are learned from the orders that arrive. Accounts and ids are names
of up to 16 letters, padded with zeros.
"""

import struct
from collections.abc import Iterable

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.word import REFUSALS, Order, State, Step, Word, is_open
from engine.core.records import RECORD_BYTES, Flag, Kind
from tests.model.chains import Following, Layout, Leg, Request
from tests.model.group import apply, due
from tests.model.ledger import Account
from tests.model.setup import Group, Scenario, Setup


def id_of(name: str) -> bytes:
    """The 16 bytes of a name."""
    return name.encode().ljust(16, b"\0")


def name_of(data: bytes) -> str:
    """The name in 16 bytes."""
    return data.rstrip(b"\0").decode()


class FakeGroups:
    """Groups 0..n-1, with all their accounts known from the start."""

    def __init__(self, groups: int, accounts: dict[tuple[int, str], Account]) -> None:
        """accounts: by (group, name)."""
        self.setup = Setup(Scenario("router", accounts, (), groups))
        self.groups: list[Group] = list(self.setup.start)
        self.chains: dict[bytes, Chain] = {}
        """Every chain that was ever named, by digest."""
        self.steps = 0
        """How many steps changed a word."""

    # ---- what arrives ----

    def run(self, at: int, order: Order) -> tuple[Word | None, bool]:
        """One step for group `at`, of one of `self.chains`; return its word, and whether that was there before.

        A group that knows what a leg follows, laid out otherwise, logs nothing and answers with its word for that.
        """
        if order.step is Step.ASK:
            return self.word_of_id(at, name_of(order.chain.chain_id)), True
        request = self.setup.request_of[order.chain]
        before = self.setup.says(self.groups[at], request)
        self.groups[at] = apply(self.setup, at, self.groups[at], request, order)
        word = self.setup.says(self.groups[at], request)
        self.steps += word is not before
        return word or self._original_elsewhere(at, order), word is before

    def word_of_id(self, at: int, name: str) -> Word | None:
        """The group's word for any id: of a chain, or of one of its legs."""
        for found in self.setup.by_id.get(name, ()):
            word = self.groups[at].words[found.request]
            if word is not None and name in self.setup.ids[word.chain]:
                return word
        return None

    def chain(self, rows: bytes, plan: Plan) -> Chain:
        """The one object for these rows and this plan, made known to the model."""
        chain = chain_of(rows, plan)
        if chain.digest not in self.chains:
            self.chains[chain.digest] = chain
            self._learn(chain)
        return self.chains[chain.digest]

    def local(self, rows: bytes, at: int) -> Chain:
        """A chain that lies in one group whole."""
        return self.chain(rows, Plan((Side(at, at),) * (len(rows) // RECORD_BYTES), at))

    # ---- what happens by itself ----

    def expire(self) -> None:
        """Let every hold that can expire do so at its decider."""
        for at in range(len(self.groups)):
            for request, order in due(self.setup, at, self.groups[at]):
                self.groups[at] = apply(self.setup, at, self.groups[at], request, order)

    # ---- what tests look at ----

    def open_words(self) -> Iterable[tuple[int, Word]]:
        """Every word that waits for its decider's, or reserves for a hold."""
        return [(at, word) for at, group in enumerate(self.groups) for word in group.words if word and is_open(word)]

    def account(self, at: int, name: str) -> Account:
        """An account as it stands."""
        return self.groups[at].accounts[self.setup.slots[at][name]]

    def unbalanced(self) -> list[int]:
        """The groups whose debits and credits, posted or reserved, are not equal."""
        return [
            at
            for at, group in enumerate(self.groups)
            if sum(one.debits - one.credits for one in group.accounts)
            or sum(one.debits_reserved - one.credits_reserved for one in group.accounts)
        ]

    # ---- learning ----

    def _learn(self, chain: Chain) -> None:
        setup, legs = self.setup, tuple(_leg(chain.rows[at:][:RECORD_BYTES]) for at in _offsets(chain))
        names = tuple(name_of(chain.rows[at : at + 16]) for at in _offsets(chain))
        request = self._request(names[0])
        setup.legs[chain], setup.ids[chain] = legs, names
        setup.request_of[chain], setup.epoch_of[chain] = request, 0
        for leg, name in enumerate(names):
            known = setup.by_id.setdefault(name, [])
            if all(one.request != request for one in known):
                known.append(Following(request, leg))

    def _request(self, name: str) -> int:
        setup = self.setup
        if name not in setup.index:
            setup.index[name] = len(setup.requests)
            setup.requests += (Request(name, (Layout((), Plan((), 0)),)),)
            setup.by_id.setdefault(name, [])
            self.groups = [group._replace(words=(*group.words, None)) for group in self.groups]
        return setup.index[name]

    def _original_elsewhere(self, at: int, order: Order) -> Word | None:
        """As the model's group has it: it knows what a leg follows, laid out otherwise."""
        for leg, side in enumerate(order.chain.plan.sides):
            original = self.setup.original(order.chain, leg)
            word = self.groups[at].words[original.request] if original else None
            if original and word and word.state not in REFUSALS and word.state is not State.RELEASED:
                plan = word.chain.plan
                if (plan.sides[original.leg], plan.decider) != (side, order.chain.decider):
                    return word
        return None


def _offsets(chain: Chain) -> range:
    return range(0, len(chain.rows), RECORD_BYTES)


def _leg(row: bytes) -> Leg:
    timeout_s, _, kind, flags = struct.unpack_from("<IHBB", row, 116)
    return Leg(
        name_of(row[16:32]),
        name_of(row[32:48]),
        int.from_bytes(row[48:64], "little"),
        Kind(kind),
        Flag(flags & ~Flag.LINKED),
        name_of(row[64:80]),
        timeout_s,
    )
