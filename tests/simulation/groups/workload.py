"""What clients ask: transfers, chains, holds and what ends them, reversals, balancing, ids again with other bodies."""

import random
from typing import NamedTuple

from engine.core.records import AMOUNT_ALL, RECORD_BYTES, Flag, Kind
from tests.protocol_rows import linked, row

HOLD_S_MAX = 3
FUNDS = 1_000


class Followable(NamedTuple):
    """A POST or RESERVE that somebody may follow."""

    name: str
    debit: str
    credit: str
    amount: int
    kind: Kind


class Plain(NamedTuple):
    """A single transfer whose id may be asked for with another body."""

    name: str
    debit: str
    credit: str
    amount: int


class Writer:
    """Makes chains, each as packed rows. Names say what they are, for the story of a failing seed."""

    def __init__(
        self, dice: random.Random, accounts: list[list[str]], other_bodies: float, too_much: float = 0.0
    ) -> None:
        """accounts: by group, the last of each has no limits. other_bodies: how often an id has another one; too_much:
        how often a transfer asks for more than an account may have."""
        self._other_bodies, self._too_much = other_bodies, too_much
        self._dice = dice
        self._accounts = [name for names in accounts for name in names]
        self._by_group = accounts
        self._number = 0
        self._followable: list[Followable] = []
        self._plain: list[Plain] = []
        self._asked: list[bytes] = []

    def batch(self) -> list[bytes]:
        """A few chains that are asked for in one call."""
        chains = [self._chain() for _ in range(self._dice.choice((1, 1, 2, 3)))]
        self._asked += chains
        del self._asked[:-40]
        return chains

    def race(self) -> list[list[bytes]]:
        """Two bodies of one id, to be asked for at once: a transfer, and the same to somebody else; or a chain that has
        it as its first leg and is refused where its second one is, whoever has reserved what for it meanwhile."""
        debit, credit = self._pair()
        name, amount = self._name("t"), self._amount()
        plain = row(name, debit=debit, credit=credit, amount=amount)
        posts = [one for one in self._followable if one.kind is Kind.POST]
        if not posts or self._dice.random() < 0.5:
            others = [one for one in self._accounts if one not in (debit, credit)]
            return [[plain], [row(name, debit=debit, credit=self._dice.choice(others), amount=amount)]]
        one = self._dice.choice(posts)
        too_much = row(
            self._name("v"),
            debit=one.debit,
            credit=one.credit,
            amount=one.amount + 1,
            followed=one.name,
            kind=Kind.REVERSE,
        )
        return [[plain], [linked(plain, too_much)]]

    def _chain(self) -> bytes:
        if self._asked and self._dice.random() < 0.08:
            return self._dice.choice(self._asked)
        if self._plain and self._dice.random() < self._other_bodies:
            return self._other_body()
        kinds = (self._balancing, self._several, self._follower, self._hold, self._transfer)
        return self._dice.choices(kinds, (7, 23, 21, 12, 37))[0]() or self._transfer()

    def _several(self) -> bytes:
        return linked(*(self._leg() for _ in range(self._dice.choice((2, 2, 3, 4)))))

    def _leg(self) -> bytes:
        choice = self._dice.random()
        if choice < 0.12:
            return self._hold()
        if choice < 0.25:
            return self._follower() or self._transfer()
        return self._transfer()

    def _transfer(self) -> bytes:
        debit, credit = self._pair()
        amount = self._amount()
        if self._too_much and self._dice.random() < self._too_much:
            amount += FUNDS * 10
        name = self._name("t")
        self._note(Followable(name, debit, credit, amount, Kind.POST))
        self._plain = [*self._plain[-11:], Plain(name, debit, credit, amount)]
        return row(name, debit=debit, credit=credit, amount=amount)

    def _hold(self) -> bytes:
        debit, credit = self._pair()
        amount, name = self._amount(), self._name("h")
        self._note(Followable(name, debit, credit, amount, Kind.RESERVE))
        timeout_s = self._dice.randint(1, HOLD_S_MAX)
        return row(name, debit=debit, credit=credit, amount=amount, kind=Kind.RESERVE, timeout_s=timeout_s)

    def _follower(self) -> bytes | None:
        if not self._followable:
            return None
        one, dice = self._dice.choice(self._followable), self._dice
        amount = dice.randint(1, one.amount)
        if one.kind is Kind.POST:
            name = self._name("v")
            return row(name, debit=one.debit, credit=one.credit, amount=amount, followed=one.name, kind=Kind.REVERSE)
        if dice.random() < 0.3:
            name = self._name("r")
            return row(name, debit=one.debit, credit=one.credit, amount=0, followed=one.name, kind=Kind.RELEASE)
        flags = Flag.KEEP_REST if dice.random() < 0.5 else Flag.NONE
        if dice.random() < 0.25:
            amount, flags = AMOUNT_ALL, Flag.NONE
        name = self._name("c")
        return row(
            name, debit=one.debit, credit=one.credit, amount=amount, followed=one.name, kind=Kind.COMMIT, flags=flags
        )

    def _balancing(self) -> bytes:
        debit, credit = self._pair()
        flag = self._dice.choice((Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT))
        return row(self._name("b"), debit=debit, credit=credit, amount=self._amount(), flags=flag)

    def _other_body(self) -> bytes:
        """The same id, and one thing else. An account that another group owns in its stead is a caller's error that no
        single group can see, unless the debit's group sees both (DESIGN §8)."""
        one, dice = self._dice.choice(self._plain), self._dice
        choice, plain = dice.random(), row(one.name, debit=one.debit, credit=one.credit, amount=one.amount)
        if choice < 0.25:
            return row(one.name, debit=one.debit, credit=one.credit, amount=one.amount + 1)
        if choice < 0.5:
            return row(one.name, debit=one.debit, credit=one.credit, amount=one.amount, code=7)
        if choice < 0.8:
            return linked(plain, self._transfer())
        others = next(names for names in self._by_group if one.credit in names)
        credit = dice.choice([name for name in others if name not in (one.debit, one.credit)])
        return row(one.name, debit=one.debit, credit=credit, amount=one.amount)

    def _pair(self) -> tuple[str, str]:
        debit, credit = self._dice.sample(self._accounts, 2)
        return debit, credit

    def _amount(self) -> int:
        return self._dice.choice((1, 10, 60, 250, 700))

    def _name(self, letter: str) -> str:
        self._number += 1
        return f"{letter}{self._number}"

    def _note(self, one: Followable) -> None:
        self._followable.append(one)
        del self._followable[:-16]


def names_of(chain: bytes) -> str:
    """The ids of a chain's legs, for people."""
    ids = (chain[at : at + 16] for at in range(0, len(chain), RECORD_BYTES))
    return "+".join(one.rstrip(b"\0").decode() for one in ids)
