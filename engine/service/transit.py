"""What is on its way between groups, of one group's own books: transit balances, and what open chains will add (I9)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.plan import Chain
from engine.core.records import AMOUNT_ALL, Kind, Words, as_records, as_words
from engine.rpc.typed import int128
from engine.storage.state_machine import StateMachine
from postingengine.v1.admin_service_pb2 import TransitBalance

_TRANSIT: Final = np.uint64(1)
"""What the ids of transit accounts say behind their first eight bytes."""
_ENGINES_OWN: Final = np.uint64((1 << 64) - 1)
_ONE_OWN: Final = b"1"
_OTHER_OWN: Final = b"2"
"""Stand for the own accounts of plain chains: which they are does not matter."""
_LEDGER: Final = 13
"""Word of an account's row."""
# Words of an open chain's row (`engine.core.book`).
_POSITION: Final = 6
_PLAN: Final = 7
_ACCOUNT_ROWS: Final = 10
_M8: Final = np.uint64(0xFF)
_M16: Final = np.uint64(0xFFFF)
_M32: Final = np.uint64(0xFFFF_FFFF)
_0: Final = np.uint64(0)
_16: Final = np.uint64(16)
_32: Final = np.uint64(32)

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


class _Alike(NamedTuple):
    """What plain chains have in common that add up."""

    kind: int
    ledger: int
    comes: int
    """1: the debit account is the other group's."""
    goes: int
    """1: the credit account is."""
    peer: int


class OnTheWay(NamedTuple):
    """What the chains that are open in a group secure, and what they will move."""

    chains: int
    secured: dict[int, int]
    """By ledger: the sum of the debits, and of the credits, that are reserved for them."""
    pending: dict[Pair, int]
    """What the transit balances grow by if all are posted."""


def on_the_way(machine: StateMachine) -> OnTheWay:
    """Add up every open chain of the group: plain ones as arrays, since there may be many. On the apply thread."""
    rows = machine.book.open_chains()
    rows = rows[np.argsort(rows[:, _POSITION])]
    is_plain = rows[:, _PLAN] & _M16 == 1
    plain = plain_legs(machine.book, rows[is_plain], machine.loader.stored_at(rows[is_plain, _POSITION]).rows)
    words = [machine.loader.words.word_at(int(position)) for position in rows[~is_plain, _POSITION]]
    return sum_up(len(rows), [*plain, *(list(own_legs(one.chain, one.amounts, machine.book.group)) for one in words)])


def sum_up(chains: int, legs_by_chain: Iterable[Sequence[OwnLeg]]) -> OnTheWay:
    """Add up the own legs of some chains."""
    secured, pending = defaultdict[int, int](int), defaultdict[Pair, int](int)
    for legs in legs_by_chain:
        for ledger, amount in _reserved(legs).items():
            secured[ledger] += amount
        for pair, amount in _moves(legs):
            pending[pair] += amount
    return OnTheWay(chains, dict(secured), dict(pending))


def plain_legs(book: Book, chains: Words, first_rows: Words) -> list[list[OwnLeg]]:
    """Return the own legs of plain chains that are all alike as one: their sums are those of all.

    chains: rows of open chains of one leg, shape (n, 16). first_rows: their RESERVE rows, shape (n, 16). Nothing of a
    plain chain is netted against another, so that chains between the same two groups, of a kind and a ledger, add up.
    """
    if not len(chains):
        return []
    places = chains[:, _ACCOUNT_ROWS]
    debit, credit = (book.tables.accounts[side.astype(np.int64)] for side in (places & _M32, places >> _32))
    comes, goes = are_transit(debit), are_transit(credit)  # share accounts are the engine's own, too, and no far side
    peers = np.where(comes, debit[:, 1], credit[:, 1]) >> _16 & _M16
    kinds = (first_rows[:, 15] >> _16) & _M8
    # A leg of a longer chain may be reversed by a chain of its own whose decider runs neither side.
    alike = np.stack((kinds, debit[:, _LEDGER] & _M32, comes, goes, np.where(comes | goes, peers, _0)), axis=1)
    groups, of = np.unique(alike.astype(np.uint64), axis=0, return_inverse=True)
    return [
        [_plain_leg(_Alike(*fields), _sum(chains[of.reshape(-1) == number, 4:6]))]
        for number, fields in enumerate(groups.tolist())
    ]


def _plain_leg(alike: _Alike, amount: int) -> OwnLeg:
    debited, credited = alike.peer if alike.comes else _ONE_OWN, alike.peer if alike.goes else _OTHER_OWN
    if alike.kind == Kind.REVERSE:
        debited, credited = credited, debited
    return OwnLeg(alike.kind, alike.ledger, amount, debited, credited)


def _sum(amounts: Words) -> int:
    return sum(low | high << 64 for low, high in amounts.tolist())


def transit_balances(machine: StateMachine, pending: dict[Pair, int]) -> list[TransitBalance]:
    """Return every transit account of the group, by peer and ledger. On the apply thread."""
    rows = machine.book.account_rows()
    own = rows[are_transit(rows)]
    balances = {(int(row[1]) >> 16 & 0xFFFF, int(row[1]) >> 32): _balance(row) for row in own}
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


def are_transit(rows: Words) -> npt.NDArray[np.bool_]:
    """Return which account rows, shape (n, 16), are transit accounts, shape (n,)."""
    found: npt.NDArray[np.bool_] = (rows[:, 0] == _ENGINES_OWN) & (rows[:, 1] & _M16 == _TRANSIT)
    return found


def _balance(row: Words) -> int:
    """Return credits less debits, posted, of an account's row."""
    debits, credits = (int(row[word]) | int(row[word + 1]) << 64 for word in (2, 4))
    return credits - debits
