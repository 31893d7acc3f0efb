"""What an auditor asks of a book: does every ledger's trial balance come out even, do reservations explain what is
held?"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.records import AccountFlag, Words
from engine.storage.compiled import entry

_RESERVATION_LEDGER_WORD: Final = 14
_HALF: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_LEDGER_WORD: Final = 13
_META_WORD: Final = 14
_FLAGS_SHIFT: Final = np.uint64(16)
_FLAGS_MASK: Final = np.uint64(0xFFFF)
_COUNTERS: Final = 4
_HALVES: Final = 4


class TrialBalance(NamedTuple):
    """Sums over all accounts of one ledger, in minor units."""

    ledger: int
    accounts: int
    debits_posted: int
    credits_posted: int
    debits_reserved: int
    credits_reserved: int

    @property
    def is_even(self) -> bool:
        """I1: the book of a group sums to zero."""
        return self.debits_posted == self.credits_posted and self.debits_reserved == self.credits_reserved


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


def transit_balances(book: Book) -> list[TrialBalance]:
    """Return the sums over the transit accounts alone, by ledger: money on its way between groups."""
    rows = book.account_rows()
    flags = (rows[:, _META_WORD] >> _FLAGS_SHIFT) & _FLAGS_MASK
    return _balances(rows, np.flatnonzero(flags & np.uint64(AccountFlag.TRANSIT)))


def reserved_totals(book: Book) -> dict[int, int]:
    """Return what is left of all open reservations, by ledger (I7: what the accounts hold as reserved, on each
    side)."""
    rows = book.open_reservations()
    halves = np.stack((rows[:, 6] & _HALF, rows[:, 6] >> _SHIFT, rows[:, 7] & _HALF, rows[:, 7] >> _SHIFT), axis=1)
    return {
        int(ledger): _whole(halves[rows[:, _RESERVATION_LEDGER_WORD] == ledger].sum(axis=0))
        for ledger in np.unique(rows[:, _RESERVATION_LEDGER_WORD])
    }


def _balances(rows: Words, which: npt.NDArray[np.int64]) -> list[TrialBalance]:
    ledgers, numbers, counts = np.unique(rows[which, _LEDGER_WORD] & _HALF, return_inverse=True, return_counts=True)
    sums = np.zeros((len(ledgers), _COUNTERS, _HALVES), np.uint64)
    _add_halves(rows, which, numbers.astype(np.int64), sums)
    return [
        TrialBalance(int(ledger), int(count), *(_whole(halves) for halves in counters))
        for ledger, count, counters in zip(ledgers, counts, sums, strict=True)
    ]


def _whole(halves: npt.NDArray[np.uint64]) -> int:
    return sum(int(half) << (32 * number) for number, half in enumerate(halves))
