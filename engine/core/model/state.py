"""What the plain model remembers: records in Python values, accounts, and stored records with their outcomes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Final, NamedTuple

from engine.core.chains import plan
from engine.core.outcomes import Outcome, took_effect
from engine.core.records import AccountFlag, Flag, Kind

NS_PER_S: Final = 1_000_000_000
NO_ID: Final = bytes(16)
_LOW: Final = (1 << 64) - 1
_RECORD: Final = struct.Struct("<16s16s16sQQ16s16sQQIIHBBHH")
"""`records.RECORD`."""


class Event(NamedTuple):
    """One record, unpacked; ids are 16 bytes, amounts are ints."""

    id: bytes = NO_ID
    kind: int = Kind.UNSPECIFIED
    debit: bytes = NO_ID
    credit: bytes = NO_ID
    amount: int = 0
    followed: bytes = NO_ID
    reference: bytes = NO_ID
    effective_at: int = 0
    timestamp: int = 0
    ledger: int = 0
    timeout_or_version: int = 0
    code: int = 0
    flags: int = 0
    outcome: int = 0
    leg: int = 0

    @property
    def is_account_command(self) -> bool:
        """Whether flags are an account's, and no chain is possible."""
        return self.kind >= Kind.CREATE_ACCOUNT

    @property
    def is_linked(self) -> bool:
        """Whether the next record is a leg of the same chain."""
        return not self.is_account_command and bool(self.flags & Flag.LINKED)

    @property
    def own_flags(self) -> int:
        """The flags without LINKED, which belongs to the chain."""
        return self.flags if self.is_account_command else self.flags & ~Flag.LINKED

    @property
    def timeout_s(self) -> int:
        """Seconds until a reservation expires; 0: never."""
        return 0 if self.kind == Kind.UPDATE_ACCOUNT else self.timeout_or_version

    @property
    def expected_version(self) -> int:
        """Of the account that an UPDATE_ACCOUNT changes."""
        return self.timeout_or_version if self.kind == Kind.UPDATE_ACCOUNT else 0


def unpack(packed: bytes) -> Iterator[Event]:
    """Read packed records one by one."""
    for fields in _RECORD.iter_unpack(packed):
        name, debit, credit, low, high, followed, reference, effective_at, timestamp, ledger, timeout = fields[:11]
        code, kind, flags, outcome, leg = fields[11:]
        yield Event(
            name,
            kind,
            debit,
            credit,
            low | high << 64,
            followed,
            reference,
            effective_at,
            timestamp,
            ledger,
            timeout,
            code,
            flags,
            outcome,
            leg,
        )


def pack(event: Event) -> bytes:
    """Inverse of `unpack`, for one record."""
    return _RECORD.pack(
        event.id,
        event.debit,
        event.credit,
        event.amount & _LOW,
        event.amount >> 64,
        event.followed,
        event.reference,
        event.effective_at,
        event.timestamp,
        event.ledger,
        event.timeout_or_version,
        event.code,
        event.kind,
        event.flags,
        event.outcome,
        event.leg,
    )


@dataclass
class Side:
    """One side of an account."""

    posted: int = 0
    reserved: int = 0

    @property
    def used(self) -> int:
        """What counts against a limit."""
        return self.posted + self.reserved


@dataclass
class Chain:
    """What was stored together: the legs of a chain, or one record alone."""

    legs: list["Stored"] = field(default_factory=list)
    burned: bool = False
    """It met a known id: only its new legs are here, each CHAIN_FAILED."""


class Place(NamedTuple):
    """Where a leg of a cross-group chain runs."""

    chain_id: bytes
    side: plan.Side
    decider: int
    accounts: tuple[bytes, bytes] | None
    """Debit and credit account as this group books them, the far side being the transit account; None if it runs
    neither side."""


class Held(NamedTuple):
    """Since when a leg of a cross-group chain is a hold here."""

    position: int
    timestamp: int
    deadline: int | None
    amount: int


@dataclass(eq=False)
class Stored:
    """A record with its final outcome."""

    event: Event
    outcome: Outcome
    position: int
    timestamp: int
    chain: Chain
    moved: int
    """If it took effect, the amount that moved; else the amount asked for."""
    reversed: int = 0
    remaining: int = 0
    ended: Outcome | None = None
    """Of a RESERVE that is no longer open: what its followers are told."""
    place: Place | None = None
    """Of a leg of a cross-group chain. Its hold may be done and still have something remaining (`word.Hold`)."""
    held: Held | None = None

    @property
    def accounts(self) -> tuple[bytes, bytes] | None:
        """The accounts that it is booked on here."""
        return (self.event.debit, self.event.credit) if self.place is None else self.place.accounts

    @property
    def deadline(self) -> int | None:
        """When a RESERVE expires; it is expired at, and past, this time."""
        if self.held is not None:
            return self.held.deadline
        return self.timestamp + self.event.timeout_s * NS_PER_S if self.event.timeout_s else None

    @property
    def is_open(self) -> bool:
        """Whether this is a RESERVE that still holds, or may hold, something."""
        if self.place is not None:
            return self.held is not None and self.remaining > 0
        return self.event.kind == Kind.RESERVE and took_effect(self.outcome) and self.ended is None

    def copy(self) -> "Stored":
        """Return a copy of the same chain."""
        return replace_fields(self)

    def undo(self, outcome: Outcome) -> None:
        """Turn a leg that took effect into a refusal."""
        self.outcome, self.moved, self.reversed, self.remaining, self.ended = outcome, self.event.amount, 0, 0, None

    def row(self, leg: int) -> Event:
        """Return the journal row."""
        return self.event._replace(amount=self.moved, timestamp=self.timestamp, outcome=self.outcome, leg=leg)


@dataclass
class Account:
    """An account and its balances."""

    ledger: int
    code: int
    flags: int
    overdraft: int
    created: Stored
    version: int = 1
    debits: Side = field(default_factory=Side)
    credits: Side = field(default_factory=Side)
    partner: bytes = b""
    """Of a bucket's head and share account: the other's id."""
    given_back: int = 0
    """Of a share account: what reservations on its head ever gave back, modulo 2^128."""

    def copy(self) -> "Account":
        """Return a copy with balances of its own."""
        return replace_fields(self, debits=replace_fields(self.debits), credits=replace_fields(self.credits))

    def available_to_debit(self) -> int:
        """Signed; the overdraft limit counts where debits are limited."""
        limited = self.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
        return self.credits.posted + (self.overdraft if limited else 0) - self.debits.used

    def available_to_credit(self) -> int:
        """Signed; the mirror image."""
        limited = self.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
        return self.debits.posted + (self.overdraft if limited else 0) - self.credits.used

    @property
    def is_head(self) -> bool:
        """Whether callers' entries on a split account are booked here."""
        return bool(self.flags & AccountFlag.BUCKET)
