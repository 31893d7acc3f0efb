"""Accounts as upstream services make and read them."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntFlag
from typing import NamedTuple

from postingengine.amounts import Amount, whole_units
from postingengine.ids import NO_ID, Id, new_id_bytes


class AccountFlag(IntFlag):
    """Flags of an account."""

    NONE = 0
    DEBITS_MUST_NOT_EXCEED_CREDITS = 1
    """Limited on its debit side: available never falls below 0."""
    CREDITS_MUST_NOT_EXCEED_DEBITS = 2
    """Limited on its credit side. Never together with the other limit."""
    FROZEN = 4
    CLOSED = 8
    TRANSIT = 16
    """The engine's own."""
    BUCKET = 32
    """The engine's own: a split account's in one group."""
    SHARE = 64
    """The engine's own."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account to create. Creating it again with the same fields is REPLAYED."""

    id: Id
    ledger: int
    code: int = 0
    """Chart of accounts, 0 to 65535."""
    flags: AccountFlag = AccountFlag.NONE
    overdraft_limit: Amount = 0
    """How far below zero a limited account may go."""
    reference: Id = NO_ID
    """The business key."""


@dataclass(frozen=True, slots=True)
class AccountUpdate:
    """Replaces an account's overdraft limit and its frozen and closed marks, if it has the expected version."""

    account: Id
    ledger: int
    expected_version: int
    overdraft_limit: Amount = 0
    frozen: bool = False
    closed: bool = False
    """For ever; only with equal debits and credits and nothing reserved."""
    id: Id = field(default_factory=new_id_bytes)
    """The idempotency key of the update."""
    reference: Id = NO_ID
    code: int = 0


class ReadPoint(NamedTuple):
    """What an answer is true at."""

    group: int
    log_index: int
    as_of: int
    """Nanoseconds UTC."""
    stale_ms: int | None = None
    """Of a stale read: how old it is at most, milliseconds; None where the replica has heard no leader."""


class Balance(NamedTuple):
    """What an account holds, minor units."""

    debits_posted: int
    credits_posted: int
    debits_reserved: int
    credits_reserved: int
    posted: int
    """Credits less debits posted; signed."""
    available: int
    """What a limit check may spend; signed."""
    scale: int
    """Decimal places of one whole unit."""
    read_at: ReadPoint

    def whole(self, minor: int) -> Decimal:
        """Return minor units as whole units: `balance.whole(balance.available)`."""
        return whole_units(minor, self.scale)


class AccountState(NamedTuple):
    """An account as it stands."""

    id: bytes
    ledger: int
    code: int
    flags: AccountFlag
    overdraft_limit: int
    """Minor units."""
    reference: bytes
    """16 bytes; zeros if it has none."""
    version: int
    """What the next update must expect."""
    created_at: int
    """Nanoseconds UTC."""
    balance: Balance


class Ledger(NamedTuple):
    """A currency or asset."""

    ledger: int
    code: str
    """ISO 4217 code, ticker, or any name."""
    scale: int
    """Decimal places of one whole unit."""
