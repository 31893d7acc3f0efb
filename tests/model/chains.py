"""What callers of the model ask for: legs with names for accounts, made into the engine's own records and chains."""

import struct
from typing import NamedTuple

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.records import AMOUNT_ALL, Flag, Kind
from tests.model.rules import Rules

ALL = AMOUNT_ALL


class Leg(NamedTuple):
    """One transfer, by names."""

    debit: str
    credit: str
    amount: int
    kind: Kind = Kind.POST
    flags: Flag = Flag.NONE
    follows: str = ""
    """The id of the leg that a COMMIT, RELEASE or REVERSE follows."""
    timeout_s: int = 0
    """RESERVE: 0 never expires; any other may at any moment."""


class Layout(NamedTuple):
    """One body under a request's id, laid out one way."""

    legs: tuple[Leg, ...]
    plan: Plan
    after: str = ""
    """Only once the chain of this name is on record somewhere: a follower laid out as its original was."""
    epoch: int = 0
    """Of the map that it was laid out by: how many accounts were split."""
    first: int | None = None
    """A follower laid out as its original was: the home group of its last credit account."""


class Request(NamedTuple):
    """One id that callers use: with more than one layout, by several routers, maps or (by mistake) bodies."""

    name: str
    layouts: tuple[Layout, ...]
    leg_ids: tuple[str, ...] = ()
    """By default name, name.1, name.2, ..."""
    after: tuple[tuple[str, str], ...] = ()
    """Sent only once these answers were given: (request, outcome of its first leg), or ("frozen", account)."""


def request(
    name: str,
    *legs: Leg,
    sides: tuple[tuple[int, int], ...],
    decider: int | None = None,
    leg_ids: tuple[str, ...] = (),
    after: tuple[tuple[str, str], ...] = (),
) -> Request:
    """A request with one layout; the decider is the last credit's group unless it follows another's."""
    return Request(name, (Layout(legs, plan(sides, decider)),), leg_ids, after)


def plan(sides: tuple[tuple[int, int], ...], decider: int | None = None) -> Plan:
    return Plan(tuple(Side(*side) for side in sides), sides[-1][1] if decider is None else decider)


def ids_of(one: Request) -> tuple[str, ...]:
    """The ids of all legs that any of the layouts has."""
    if one.leg_ids:
        return one.leg_ids
    legs = max(len(layout.legs) for layout in one.layouts)
    return (one.name, *(f"{one.name}.{leg}" for leg in range(1, legs)))


def chains_of(one: Request, rules: Rules) -> tuple[Chain, ...]:
    """The engine's chain of each layout."""
    home_first, ids = rules.followers_start_at_home, ids_of(one)
    return tuple(
        chain_of(_rows(ids, layout.legs), layout.plan, layout.first if home_first else None) for layout in one.layouts
    )


def _rows(ids: tuple[str, ...], legs: tuple[Leg, ...]) -> bytes:
    last = len(legs) - 1
    return b"".join(
        _row(name, leg, linked=number < last) for number, (name, leg) in enumerate(zip(ids, legs, strict=False))
    )


def _row(name: str, leg: Leg, *, linked: bool) -> bytes:
    names = [each.encode().ljust(16, b"\0") for each in (name, leg.debit, leg.credit)]
    flags = leg.flags | (Flag.LINKED if linked else Flag.NONE)
    meta = struct.pack("<II HBB HH", 1, leg.timeout_s, 0, leg.kind, flags, 0, 0)
    followed = leg.follows.encode().ljust(16, b"\0")
    return b"".join((*names, leg.amount.to_bytes(16, "little"), followed, bytes(16), bytes(16), meta))


class Following(NamedTuple):
    """Where a leg id stands: the request that it is of, and its number there."""

    request: int
    leg: int


def index_of_ids(requests: tuple[Request, ...], rules: Rules) -> dict[str, list[Following]]:
    """Every leg id with the requests that have it (more than one: a leg tried again in another chain)."""
    found: dict[str, list[Following]] = {}
    for number, one in enumerate(requests):
        for leg, name in enumerate(ids_of(one)):
            if leg == 0 or rules.ids_of_legs_registered:
                found.setdefault(name, []).append(Following(number, leg))
    return found
