"""What the past is read as: statement lines, balances as of a time, stored transfers."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from postingengine.accounts import ReadPoint
from postingengine.amounts import whole_units
from postingengine.transfers import Kind, Transfer
from postingengine.v1.outcomes import Outcome


class Basis(IntEnum):
    """The clock by which the past is ordered."""

    BOOKED = 1
    """By `timestamp`: when the engine booked it."""
    VALUE = 2
    """By `effective_at`, the business date."""


class Side(IntEnum):
    """The side of an account that an entry is on."""

    DEBIT = 1
    CREDIT = 2


class ChainState(IntEnum):
    """A chain: linked transfers, all or nothing."""

    NONE = 0
    """The transfer stands alone."""
    OPEN = 1
    POSTED = 2
    REFUSED = 3


class ReservationState(IntEnum):
    """How far the life of a reservation is."""

    NONE = 0
    """Not a reservation that took effect."""
    OPEN = 1
    COMMITTED = 2
    RELEASED = 3
    EXPIRED = 4


class Entry(NamedTuple):
    """One line of a statement."""

    transfer_id: bytes
    kind: Kind
    side: Side
    amount: int
    """Minor units, from 0."""
    running_balance: int
    """Credits less debits posted after this line, in the order of the basis; minor units, signed."""
    counter_account: bytes
    ledger: int
    code: int
    reference: bytes
    """16 bytes; zeros if it has none."""
    followed: bytes
    """16 bytes; zeros if it follows nothing."""
    timestamp: int
    """When the engine booked it, nanoseconds UTC."""
    effective_at: int
    """The business date, nanoseconds UTC."""
    group: int
    position: int
    scale: int
    """Decimal places of one whole unit."""

    @property
    def booked_at(self) -> datetime:
        """When the engine booked it, to the microsecond."""
        return datetime.fromtimestamp(self.timestamp // 1_000_000_000, UTC).replace(
            microsecond=self.timestamp // 1000 % 1_000_000
        )

    def whole(self, minor: int) -> Decimal:
        """Return minor units as whole units: `entry.whole(entry.amount)`."""
        return whole_units(minor, self.scale)


class PostedBalance(NamedTuple):
    """What was posted to an account by a time, minor units."""

    debits_posted: int
    credits_posted: int
    posted: int
    """Credits less debits; signed."""
    read_at: ReadPoint


class StoredTransfer(NamedTuple):
    """A transfer as the journal keeps it."""

    transfer: Transfer
    """As it was asked for; its amount in minor units."""
    moved: int
    """Minor units that moved; 0 if refused."""
    outcome: Outcome
    timestamp: int
    """When the engine booked it, nanoseconds UTC."""
    group: int
    position: int
    leg: int
    """Its number within its chain; 0: the first, or alone."""
    chain_state: ChainState
    reservation_state: ReservationState
    reversed: int
    """Minor units reversed of it so far."""
