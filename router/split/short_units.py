"""What a transfer or chain needs of a bucket that was short for it. Pure functions of its rows (DESIGN §8)."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from engine.core.chains.plan import Side as GroupsOfLeg
from engine.core.outcomes import Outcome
from engine.core.records import AMOUNT_ALL, RECORD_BYTES, Flag, Kind, Words
from engine.core.split.pools import Side
from router.split.funds import Want

_BALANCES: Final = {
    Side.DEBIT: Flag.BALANCING_DEBIT,
    Side.CREDIT: Flag.BALANCING_CREDIT,
}
_ANY_BALANCING: Final = Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT
_SPENDS: Final = frozenset({Kind.POST, Kind.RESERVE, Kind.REVERSE})
_BALANCING_BITS: Final = int(_ANY_BALANCING)
_CREDIT_LIMIT: Final = int(Outcome.CREDIT_LIMIT_EXCEEDED)
_REVERSE: Final = int(Kind.REVERSE)
_KIND_SHIFT: Final = np.uint64(16)
_FLAGS_SHIFT: Final = np.uint64(24)
_BYTE: Final = np.uint64(0xFF)
_PAYS: Final = frozenset({Kind.POST, Kind.COMMIT, Kind.REVERSE})


class Leg(NamedTuple):
    """One transfer as asked for, its accounts as the money goes: a REVERSE debits the record's credit account."""

    debit: bytes
    credit: bytes
    amount: int
    kind: Kind
    flags: int


class Draw(NamedTuple):
    """The side of an account that a leg draws on."""

    account: bytes
    side: Side


def legs_of(rows: bytes, sides: Sequence[GroupsOfLeg] | None = None, group: int = 0) -> list[Leg]:
    """Read n x 128 bytes. With the groups of each leg's sides, only what runs in `group` keeps its account."""
    legs = [_leg(rows[at : at + RECORD_BYTES]) for at in range(0, len(rows), RECORD_BYTES)]
    if sides is None:
        return legs
    return [_here(leg, side, group) for leg, side in zip(legs, sides, strict=True)]


def _here(leg: Leg, side: GroupsOfLeg, group: int) -> Leg:
    debit, credit = (side.credit, side.debit) if leg.kind is Kind.REVERSE else side
    return leg._replace(debit=leg.debit if debit == group else b"", credit=leg.credit if credit == group else b"")


def draw_of(leg: Leg, reason: int) -> Draw:
    """Return what a leg was short of, by the reason that it would be refused with."""
    if reason == Outcome.CREDIT_LIMIT_EXCEEDED:
        return Draw(leg.credit, Side.CREDIT)
    return Draw(leg.debit, Side.DEBIT)


def want_of(legs: list[Leg], failing: int, draw: Draw) -> Want:
    """Return what these legs, in order, need of an account at once so that the failing one passes, and those behind it.

    Only what is needed up to the failing leg can prove that it had to be refused; what is asked for is what all of them
    need. Where a leg before gives back what nobody here knows (the rest of a reservation), nothing is proven.
    """
    needed = list(_needed(legs, draw))
    is_balancing = bool(legs[failing].flags & _BALANCES[draw.side])
    knows_all = not any(_is_vague(leg, draw) for leg in legs[: failing + 1])
    amount = max(needed[: failing + 1]) if knows_all else max(needed)
    return Want(max(amount, 1), knows_all and not is_balancing, is_balancing)


def plain_wants(words: Words, reasons: Sequence[int]) -> list[tuple[Draw, Want] | None]:
    """Return what single transfers, shape (n, 16), were short of and need.

    reasons: what each would be refused with. None where `want_of` has to look closer: what balances, and what follows a
    reservation. No leg is taken apart: a full batch may be short.
    """
    kinds, flags = (((words[:, 15] >> shift) & _BYTE).tolist() for shift in (_KIND_SHIFT, _FLAGS_SHIFT))
    accounts, amounts = words[:, 2:6].tobytes(), zip(words[:, 6].tolist(), words[:, 7].tolist(), strict=True)
    draws: dict[tuple[bytes, bool], Draw] = {}
    found: list[tuple[Draw, Want] | None] = []
    for at, ((low, high), kind, flag, reason) in enumerate(zip(amounts, kinds, flags, reasons, strict=True)):
        if kind not in _SPENDS or flag & _BALANCING_BITS:
            found.append(None)
            continue
        draws_on_credit = reason == _CREDIT_LIMIT
        first = 32 * at + 16 * (draws_on_credit is not (kind == _REVERSE))
        key = (accounts[first : first + 16], draws_on_credit)
        draw = draws.get(key)
        if draw is None:
            draw = draws[key] = Draw(key[0], Side.CREDIT if draws_on_credit else Side.DEBIT)
        found.append((draw, Want(max(low | high << 64, 1))))
    return found


def _needed(legs: list[Leg], draw: Draw) -> Iterator[int]:
    """Yield, leg by leg, what is drawn so far less what was paid in so far."""
    net = 0
    for leg in legs:
        spender, payee = (leg.debit, leg.credit) if draw.side is Side.DEBIT else (leg.credit, leg.debit)
        if spender == draw.account and leg.kind in _SPENDS:
            net += leg.amount
        if payee == draw.account and leg.kind in _PAYS and leg.amount != AMOUNT_ALL and not leg.flags & _ANY_BALANCING:
            net -= leg.amount
        yield net


def _is_vague(leg: Leg, draw: Draw) -> bool:
    if draw.account not in (leg.debit, leg.credit):
        return False
    return leg.kind in (Kind.COMMIT, Kind.RELEASE) or bool(leg.flags & _ANY_BALANCING)


def _leg(row: bytes) -> Leg:
    kind, debit, credit = Kind(row[122]), row[16:32], row[32:48]
    if kind is Kind.REVERSE:
        debit, credit = credit, debit
    return Leg(debit, credit, int.from_bytes(row[48:64], "little"), kind, row[123])
