"""A Beancount transaction as a chain of transfers between engine accounts.

Beancount's numbers are signed: above zero is a debit, below zero a credit. Within one transaction and commodity,
debits are matched with credits greedily, in the order of the postings. What is left over went into or came out of
another commodity (a purchase, a currency exchange) and passes through the trading account of its commodity; where the
transaction has one commodity only, it is the rounding that Beancount tolerates.

==============================  ============================================================
engine account                  holds
==============================  ============================================================
``<account>:<commodity>``       what Beancount's account holds of that commodity
``Trading:<commodity>``         the counterpart of what was exchanged for another commodity
``Rounding:<commodity>``        differences within the tolerance of a transaction
==============================  ============================================================
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from cli.amounts import minor_units
from cli.beancount.source import Transaction

TRADING: Final = "Trading"
ROUNDING: Final = "Rounding"


class AccountKey(NamedTuple):
    """An engine account of the import."""

    account: str
    commodity: str

    @property
    def name(self) -> str:
        """What its id is derived from (`name:...` on the command line); the commodity follows the last colon."""
        return f"{self.account}:{self.commodity}"


class Movement(NamedTuple):
    """One leg: moves money from the credited to the debited account, both of one commodity."""

    debit: AccountKey
    credit: AccountKey
    amount: int
    """Minor units, above zero."""


class Decomposed(NamedTuple):
    """A transaction as movements, in order."""

    movements: tuple[Movement, ...]
    zero_postings: int
    """Postings of nothing, which are skipped."""

    def accounts(self) -> Iterator[AccountKey]:
        """Yield the accounts of the movements, with repetitions."""
        for movement in self.movements:
            yield movement.debit
            yield movement.credit


Amounts = list[tuple[str, int]]
"""(account, minor units of one commodity): above zero a debit, below zero a credit."""


def decompose(transaction: Transaction, scales: Mapping[str, int]) -> Decomposed:
    """Return the movements of a transaction; raises ValueError where a ledger's scale cannot hold a number."""
    by_commodity: dict[str, Amounts] = {}
    for posting in transaction.postings:
        units = minor_units(posting.number, scales[posting.commodity])
        if units:
            by_commodity.setdefault(posting.commodity, []).append((posting.account, units))
    counterpart = ROUNDING if len(by_commodity) == 1 else TRADING
    movements: list[Movement] = []
    for commodity, amounts in by_commodity.items():
        movements += _matched(commodity, _balanced(_netted(amounts), counterpart))
    moving = sum(len(amounts) for amounts in by_commodity.values())
    return Decomposed(tuple(movements), len(transaction.postings) - moving)


def _netted(amounts: Amounts) -> Amounts:
    """Net an account that stands on both sides, in the place of its first posting: nothing moves from it to itself."""
    both = {account for account, units in amounts if units > 0} & {account for account, units in amounts if units < 0}
    netted: Amounts = []
    for account, units in amounts:
        if account not in both:
            netted.append((account, units))
        elif all(account != earlier for earlier, _ in netted):
            netted.append((account, sum(each for other, each in amounts if other == account)))
    return [(account, units) for account, units in netted if units]


def _balanced(amounts: Amounts, counterpart: str) -> Amounts:
    """Add what makes the amounts sum to zero."""
    rest = sum(units for _, units in amounts)
    return [*amounts, (counterpart, -rest)] if rest else amounts


def _matched(commodity: str, amounts: Amounts) -> Iterable[Movement]:
    """Match debits with credits greedily, each in its order; both sides sum to the same."""
    debits = [(AccountKey(account, commodity), units) for account, units in amounts if units > 0]
    credits = [(AccountKey(account, commodity), -units) for account, units in amounts if units < 0]
    while debits:
        (debit, wanted), (credit, offered) = debits[0], credits[0]
        moved = min(wanted, offered)
        yield Movement(debit, credit, moved)
        debits[:1] = [(debit, wanted - moved)] if wanted > moved else []
        credits[:1] = [(credit, offered - moved)] if offered > moved else []
