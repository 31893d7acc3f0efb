"""What an auditor asks of a book: does every ledger's trial balance come out even, do reservations explain what is
held?"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.plan import Side
from engine.core.chains.word import Word
from engine.core.records import AMOUNT_ALL, RECORD_BYTES, AccountFlag, Kind, Words
from engine.storage.compiled import entry

_RESERVATION_LEDGER_WORD: Final = 14
_HALF: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_LEDGER_WORD: Final = 13
_META_WORD: Final = 14
_FLAGS_SHIFT: Final = np.uint64(16)
_OTHER_SHIFT: Final = np.uint64(16)
"""Of the other group, in the upper word of a transit account's id."""
_FLAGS_MASK: Final = np.uint64(0xFFFF)
_ACCOUNTS_WORD: Final = 13
_NO_ACCOUNTS: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Of a hold that this group decides and runs no side of."""
_LEDGER_BYTES: Final = slice(112, 116)
_KIND_BYTE: Final = 122
_OWN_PREFIX: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The first half of the ids of the engine's own accounts."""
_COUNTERS: Final = 4
_HALVES: Final = 4
Net: TypeAlias = dict[bytes, list[int]]
"""By account, what a chain takes from it and what it brings."""


class TrialBalance(NamedTuple):
    """Sums over all accounts of one ledger, in minor units."""

    ledger: int
    accounts: int
    """Customers' accounts, and buckets of other groups' accounts; the engine's own are in the sums alone."""
    debits_posted: int
    credits_posted: int
    debits_reserved: int
    credits_reserved: int

    @property
    def is_even(self) -> bool:
        """I1: the book of a group sums to zero."""
        return self.debits_posted == self.credits_posted and self.debits_reserved == self.credits_reserved


class TransitBalance(NamedTuple):
    """One transit account: money on its way between this group and another, in minor units. Credits say what left this
    group for the other one, debits what came from there."""

    other_group: int
    ledger: int
    debits_posted: int
    credits_posted: int
    debits_reserved: int
    credits_reserved: int


@entry("void(u8[:, ::1], i8[::1], i8[::1], u8[:, :, ::1])")
def _add_halves(
    rows: Words, which: npt.NDArray[np.int64], ledger_numbers: npt.NDArray[np.int64], sums: npt.NDArray[np.uint64]
) -> None:
    """Add the 32-bit halves of the four counters of rows `which` to their ledger's sums: no carry can get lost."""
    for number in range(len(which)):
        row, into = which[number], ledger_numbers[number]
        for counter in range(_COUNTERS):
            for word in range(2):
                value = rows[row, 2 + 2 * counter + word]
                sums[into, counter, 2 * word] += value & _HALF
                sums[into, counter, 2 * word + 1] += value >> _SHIFT


def trial_balances(book: Book) -> list[TrialBalance]:
    """Return the trial balance of every ledger that has accounts, by ledger. Reads the book: call it at rest."""
    rows = book.account_rows()
    return _balances(rows, np.arange(len(rows)))


def transit_balances(book: Book) -> list[TransitBalance]:
    """Return every transit account, by other group and ledger. Reads the book: call it at rest."""
    rows = book.account_rows()
    found = [
        TransitBalance(
            *(int(row[1] >> _OTHER_SHIFT & _FLAGS_MASK), int(row[_LEDGER_WORD] & _HALF)),
            *(_number(row, word) for word in (2, 4, 6, 8)),
        )
        for row in rows[_are_transit(rows)]
    ]
    return sorted(found)


def _are_transit(rows: Words) -> npt.NDArray[np.bool_]:
    flags = (rows[:, _META_WORD] >> _FLAGS_SHIFT) & _FLAGS_MASK
    found: npt.NDArray[np.bool_] = (flags & np.uint64(AccountFlag.TRANSIT)) != 0
    return found


def _number(row: npt.NDArray[np.uint64], word: int) -> int:
    return int(row[word]) | int(row[word + 1]) << 64


def reserved_totals(book: Book) -> dict[int, int]:
    """Return what is left of all open reservations of this group's accounts, by ledger (I7: with what open chains have
    secured, what the accounts hold as reserved, on each side)."""
    rows = book.open_reservations()
    rows = rows[rows[:, _ACCOUNTS_WORD] != _NO_ACCOUNTS]
    ledgers = rows[:, _RESERVATION_LEDGER_WORD] & _HALF
    halves = np.stack((rows[:, 6] & _HALF, rows[:, 6] >> _SHIFT, rows[:, 7] & _HALF, rows[:, 7] >> _SHIFT), axis=1)
    return {int(ledger): _whole(halves[ledgers == ledger].sum(axis=0)) for ledger in np.unique(ledgers)}


def secured_totals(group: int, words: Iterable[Word]) -> dict[int, int]:
    """Return what chains that are RESERVED in this group have secured, by ledger: the sum over its accounts of what
    they take from each, net of what they bring; transit accounts make both sides even."""
    totals: dict[int, int] = {}
    for word in words:
        for ledger, amount in _secured(group, word).items():
            totals[ledger] = totals.get(ledger, 0) + amount
    return totals


def _secured(group: int, word: Word) -> dict[int, int]:
    nets: dict[int, Net] = {}
    for leg, side in enumerate(word.chain.plan.sides):
        if group in side:
            row = word.chain.rows[leg * RECORD_BYTES : (leg + 1) * RECORD_BYTES]
            net = nets.setdefault(int.from_bytes(row[_LEDGER_BYTES], "little"), {})
            _add_leg(net, row, _far_as_transit(row, side, group), word.amounts[leg])
    return {ledger: _both_sides(net) for ledger, net in nets.items()}


def _far_as_transit(row: bytes, side: Side, group: int) -> tuple[bytes, bytes]:
    debit = row[16:32] if side.debit == group else side.debit.to_bytes(2, "little")
    return debit, row[32:48] if side.credit == group else side.credit.to_bytes(2, "little")


def _add_leg(net: Net, row: bytes, accounts: tuple[bytes, bytes], amount: int) -> None:
    """Add what a leg takes from, and brings to, the account it debits and the one it credits."""
    kind = row[_KIND_BYTE]
    debited, credited = (net.setdefault(name, [0, 0]) for name in accounts)
    if kind == Kind.REVERSE:
        debited, credited = credited, debited
    if kind in (Kind.POST, Kind.REVERSE):
        debited[0] += amount
        debited[1] -= amount
        credited[0] -= amount
        credited[1] += amount
    elif kind == Kind.RESERVE:
        debited[0] += amount
        credited[1] += amount
    elif kind == Kind.COMMIT and amount != AMOUNT_ALL:  # its hold has it reserved already
        debited[1] -= amount
        credited[0] -= amount


def _both_sides(net: Net) -> int:
    debits = sum(max(takes, 0) for takes, _ in net.values())
    return max(debits, sum(max(brings, 0) for _, brings in net.values()))


def _balances(rows: Words, which: npt.NDArray[np.int64]) -> list[TrialBalance]:
    ledgers, numbers = np.unique(rows[which, _LEDGER_WORD] & _HALF, return_inverse=True)
    counts = np.bincount(numbers[rows[which, 0] != _OWN_PREFIX], minlength=len(ledgers))
    sums = np.zeros((len(ledgers), _COUNTERS, _HALVES), np.uint64)
    _add_halves(rows, which, numbers.astype(np.int64), sums)
    return [
        TrialBalance(int(ledger), int(count), *(_whole(halves) for halves in counters))
        for ledger, count, counters in zip(ledgers, counts, sums, strict=True)
    ]


def _whole(halves: npt.NDArray[np.uint64]) -> int:
    return sum(int(half) << (32 * number) for number, half in enumerate(halves))
