"""What is on its way between groups, of one group's own books: transit balances, and what open chains will add (I9)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from engine.core.plan import Chain
from engine.core.records import AMOUNT_ALL, Kind, Words, as_records, as_words
from engine.core.word import Word
from engine.rpc.typed import int128
from engine.storage.state_machine import StateMachine
from postingengine.v1.admin_service_pb2 import TransitBalance

PAGE_CHAINS_MAX: Final = 1024
TRANSIT_KIND: Final = 1
_ENGINES_OWN: Final = np.uint64((1 << 64) - 1)

Pair = tuple[int, int]
"""(other group, ledger)."""
_Slot = tuple[int, bytes | int]
"""(ledger, account's id or other group): where a leg reserves."""


class OwnLeg(NamedTuple):
    """A leg as one group books it: which accounts, the far side's being the transit account."""

    kind: int
    ledger: int
    amount: int
    debited: bytes | int
    """The account's id, or the other group."""
    credited: bytes | int


class OnTheWay(NamedTuple):
    """What the chains that are open in a group secure, and what they will move."""

    chains: int
    secured: dict[int, int]
    """By ledger: the sum of the debits, and of the credits, that are reserved for them."""
    pending: dict[Pair, int]
    """What the transit balances grow by if all are posted."""


def on_the_way(machine: StateMachine) -> OnTheWay:
    """Add up every open chain of the group. On the apply thread."""
    chains, secured, pending = 0, dict[int, int](), dict[Pair, int]()
    for word in _open_words(machine):
        chains += 1
        legs = list(own_legs(word.chain, word.amounts, machine.book.group))
        for ledger, amount in _reserved(legs).items():
            secured[ledger] = secured.get(ledger, 0) + amount
        for pair, amount in _moves(legs):
            pending[pair] = pending.get(pair, 0) + amount
    return OnTheWay(chains, secured, pending)


def transit_balances(machine: StateMachine, pending: dict[Pair, int]) -> list[TransitBalance]:
    """Return every transit account of the group, by peer and ledger. On the apply thread."""
    rows = machine.book.account_rows()
    own = rows[rows[:, 0] == _ENGINES_OWN]
    balances = {(int(row[1]) >> 16 & 0xFFFF, int(row[1]) >> 32): _balance(row) for row in own if _is_transit(row)}
    balances.update({pair: 0 for pair in pending if pair not in balances})
    return [
        TransitBalance(
            peer_group=peer, ledger=ledger, balance=int128(amount), pending=int128(pending.get((peer, ledger), 0))
        )
        for (peer, ledger), amount in sorted(balances.items())
    ]


def own_legs(chain: Chain, amounts: tuple[int, ...], group: int) -> Iterator[OwnLeg]:
    """Yield the legs of a chain that run in a group, as it books them."""
    for row, side, amount in zip(as_records(as_words(chain.rows)), chain.plan.sides, amounts, strict=True):
        if group in side:
            debited = row["debit"].tobytes() if side.debit == group else side.debit
            credited = row["credit"].tobytes() if side.credit == group else side.credit
            if row["kind"] == Kind.REVERSE:
                debited, credited = credited, debited
            yield OwnLeg(int(row["kind"]), int(row["ledger"]), amount, debited, credited)


def _open_words(machine: StateMachine) -> Iterator[Word]:
    after = -1
    while page := machine.open_chains(after, PAGE_CHAINS_MAX):
        yield from (opened.word for opened in page)
        after = page[-1].word.position


def _reserved(legs: Iterable[OwnLeg]) -> dict[int, int]:
    """By ledger, the debits that a chain's legs reserve, and the credits: net per account, because what one leg brings
    another may take; where that leaves them unequal, a transit account holds the rest."""
    takes, brings = defaultdict[_Slot, int](int), defaultdict[_Slot, int](int)
    for leg in legs:
        debited, credited = (leg.ledger, leg.debited), (leg.ledger, leg.credited)
        if leg.kind in (Kind.POST, Kind.REVERSE):
            takes[debited] += leg.amount
            brings[debited] -= leg.amount
            takes[credited] -= leg.amount
            brings[credited] += leg.amount
        elif leg.kind == Kind.RESERVE:
            takes[debited] += leg.amount
            brings[credited] += leg.amount
        elif leg.kind == Kind.COMMIT and leg.amount != AMOUNT_ALL:  # its hold reserves it already
            brings[debited] -= leg.amount
            takes[credited] -= leg.amount
    debits, credits = _sums(takes), _sums(brings)
    return {ledger: max(debits.get(ledger, 0), credits.get(ledger, 0)) for ledger in debits.keys() | credits.keys()}


def _sums(reserved: Mapping[_Slot, int]) -> dict[int, int]:
    sums = defaultdict[int, int](int)
    for (ledger, _), amount in reserved.items():
        sums[ledger] += max(amount, 0)
    return sums


def _moves(legs: Iterable[OwnLeg]) -> Iterator[tuple[Pair, int]]:
    """Yield what each leg adds to a transit balance once it is posted."""
    for leg in legs:
        if leg.kind in (Kind.POST, Kind.COMMIT, Kind.REVERSE):
            if isinstance(leg.credited, int):
                yield (leg.credited, leg.ledger), leg.amount
            if isinstance(leg.debited, int):
                yield (leg.debited, leg.ledger), -leg.amount


def _is_transit(row: Words) -> bool:
    return int(row[1]) & 0xFFFF == TRANSIT_KIND


def _balance(row: Words) -> int:
    """Return credits less debits, posted, of an account's row."""
    debits, credits = (int(row[word]) | int(row[word + 1]) << 64 for word in (2, 4))
    return credits - debits
