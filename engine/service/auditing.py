"""Audit: a group's trial balance per ledger, its transit balances and its state hash, at one log index."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.book import Book, iterate_accounts
from engine.core.records import Words
from engine.rpc.typed import uint128
from engine.service.open_list import LINEARIZABLE
from engine.service.replica import Replica
from engine.service.transit import on_the_way, transit_balances
from postingengine.v1.admin_service_pb2 import AuditRequest, AuditResponse, GroupAudit, LedgerTrialBalance

COUNTERS: Final = ("debits_posted", "credits_posted", "debits_reserved", "credits_reserved")
LIMB_BITS: Final = 32
_LIMB_MASK: Final = np.uint64((1 << LIMB_BITS) - 1)
_LIMB_SHIFT: Final = np.uint64(LIMB_BITS)
_NO_ACCOUNTS: Final = np.uint64((1 << 64) - 1)
Sums = dict[int, list[int]]
"""Ledger -> accounts, then the sum of each of `COUNTERS`, then what open reservations and chains hold."""


async def audit(replica: Replica, request: AuditRequest, deadline_s: float) -> AuditResponse:
    """Audit this replica's group, after a barrier."""
    if request.groups and replica.place.group not in request.groups:
        return AuditResponse()
    return AuditResponse(groups=[await replica.read(LINEARIZABLE, deadline_s, lambda: _audit(replica))])


def _audit(replica: Replica) -> GroupAudit:
    """Add everything up. On the apply thread, so all of it is true at one log index."""
    machine = replica.machine
    sums, moving = _sums(machine.book), on_the_way(machine)
    for ledger, secured in moving.secured.items():
        sums.setdefault(ledger, [0] * (2 + len(COUNTERS)))[-1] += secured
    return GroupAudit(
        read_at=replica.read_point(),
        next_position=machine.book.next_position,
        trial_balances=[_message(ledger, sums[ledger]) for ledger in sorted(sums)],
        transit_balances=transit_balances(machine, moving.pending),
        open_chains=moving.chains,
        state_hash=machine.head.hash,
        balanced=all(_is_balanced(*of_ledger) for of_ledger in sums.values()),
        replica=replica.place.replica.id,
    )


def _is_balanced(_: int, debits: int, credits: int, debits_held: int, credits_held: int, remaining: int) -> bool:
    return debits == credits and debits_held == credits_held == remaining


def _sums(book: Book) -> Sums:
    sums: Sums = {}
    for rows in iterate_accounts(book):
        for ledger, chosen in _by_ledger(rows["ledger"]):
            of_ledger = sums.setdefault(ledger, [0] * (2 + len(COUNTERS)))
            of_ledger[0] += int(chosen.sum())
            for place, name in enumerate(COUNTERS, 1):
                of_ledger[place] += _sum(rows[name + "_low"][chosen], rows[name + "_high"][chosen])
    _add_reservations(sums, book.open_reservations())
    return sums


def _add_reservations(sums: Sums, rows: Words) -> None:
    """Add what reservations hold on this group's accounts; a decider that runs no side of a hold has no accounts."""
    rows = rows[rows[:, 13] != _NO_ACCOUNTS]
    for ledger, chosen in _by_ledger((rows[:, 14] & _LIMB_MASK).astype(np.uint32)):
        sums.setdefault(ledger, [0] * (2 + len(COUNTERS)))[-1] += _sum(rows[chosen, 6], rows[chosen, 7])


def _by_ledger(ledgers: npt.NDArray[np.uint32]) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    for ledger in np.unique(ledgers):
        yield int(ledger), ledgers == ledger


def _sum(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> int:
    """Add up numbers of 128 bits: in limbs of 32, so that no sum of 64 bits overflows."""
    limbs = (low & _LIMB_MASK, low >> _LIMB_SHIFT, high & _LIMB_MASK, high >> _LIMB_SHIFT)
    return sum(int(limb.sum(dtype=np.uint64)) << (LIMB_BITS * place) for place, limb in enumerate(limbs))


def _message(ledger: int, of_ledger: list[int]) -> LedgerTrialBalance:
    accounts, *amounts = of_ledger
    posted_debits, posted_credits, held_debits, held_credits, remaining = map(uint128, amounts)
    return LedgerTrialBalance(
        ledger=ledger,
        accounts=accounts,
        debits_posted=posted_debits,
        credits_posted=posted_credits,
        debits_reserved=held_debits,
        credits_reserved=held_credits,
        reservations_remaining=remaining,
    )
