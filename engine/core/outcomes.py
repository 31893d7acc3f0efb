"""How a request ended: the documented, append-only enum of outcomes (DESIGN §4).

The number says the class: 1-9 it took effect; 10-39 its id is already taken by another body; 40-59 refused by the
request; 60-99 by an account; 100-129 by the reservation or transfer that it follows; 130-149 by its chain; 150-199
account commands. Replicated state and wire format: append members, never renumber. `REPLAYED` is a flag beside the
outcome, not an outcome: the stored answer, given again.
"""

from enum import IntEnum, IntFlag
from typing import Final


class Outcome(IntEnum):
    """The deterministic, replicated, final answer for an id."""

    UNSPECIFIED = 0

    POSTED = 1
    ACCOUNT_CREATED = 2
    ACCOUNT_UPDATED = 3
    SECURED = 4
    """In journals only, never told to a caller: a leg of a cross-group chain is secured, and waits for its decider."""
    BUCKET_MADE = 5
    """The account has its bucket in this group."""

    ID_REUSED_WITH_DIFFERENT_KIND = 10
    ID_REUSED_WITH_DIFFERENT_LEDGER = 11
    ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT = 12
    ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT = 13
    ID_REUSED_WITH_DIFFERENT_AMOUNT = 14
    ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID = 15
    ID_REUSED_WITH_DIFFERENT_FLAGS = 16
    ID_REUSED_WITH_DIFFERENT_TIMEOUT = 17
    ID_REUSED_WITH_DIFFERENT_CODE = 18
    ID_REUSED_WITH_DIFFERENT_REFERENCE = 19
    ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT = 20
    ID_REUSED_WITH_DIFFERENT_CHAIN = 21
    ID_REUSED_WITH_DIFFERENT_EXPECTED_VERSION = 22

    LEDGER_UNKNOWN = 40
    ACCOUNT_IN_ANOTHER_GROUP = 41
    """The two accounts live in different groups, and this engine version does not cross groups."""
    DAY_CLOSED = 42

    DEBIT_ACCOUNT_UNKNOWN = 60
    CREDIT_ACCOUNT_UNKNOWN = 61
    DEBIT_ACCOUNT_OF_ANOTHER_LEDGER = 62
    CREDIT_ACCOUNT_OF_ANOTHER_LEDGER = 63
    DEBIT_ACCOUNT_CLOSED = 64
    CREDIT_ACCOUNT_CLOSED = 65
    DEBIT_ACCOUNT_FROZEN = 66
    CREDIT_ACCOUNT_FROZEN = 67
    DEBIT_ACCOUNT_OVERFLOW = 68
    CREDIT_ACCOUNT_OVERFLOW = 69
    INSUFFICIENT_FUNDS = 70
    """The debit account's limit: available on its debit side is below the amount."""
    CREDIT_LIMIT_EXCEEDED = 71
    """The credit account's limit: its credits would exceed its debits and overdraft limit."""

    FOLLOWED_MISSING = 100
    """No reservation or transfer of that id took effect in this group."""
    FOLLOWED_OF_WRONG_KIND = 101
    FOLLOWED_OF_ANOTHER_LEDGER = 102
    FOLLOWED_DEBIT_ACCOUNT_DIFFERS = 103
    FOLLOWED_CREDIT_ACCOUNT_DIFFERS = 104
    RESERVATION_ALREADY_COMMITTED = 105
    RESERVATION_ALREADY_RELEASED = 106
    RESERVATION_EXPIRED = 107
    AMOUNT_EXCEEDS_RESERVATION = 108
    AMOUNT_EXCEEDS_ORIGINAL = 109

    CHAIN_FAILED = 130
    """Another leg of the chain was refused; that leg says why."""
    CHAIN_ABORTED = 131
    """A chain over three groups or more met its deadline before all of them had secured it (DESIGN §7)."""

    ACCOUNT_UNKNOWN = 150
    ACCOUNT_VERSION_DIFFERS = 151
    ACCOUNT_CLOSED = 152
    ACCOUNT_NOT_EMPTY = 153
    """Closing needs equal debits and credits and nothing reserved."""
    LIMIT_BELOW_USE = 154
    """The new overdraft limit is below what is used already."""
    ACCOUNT_ID_RESERVED = 155
    """Ids whose first eight bytes are all ones are the engine's own."""
    ACCOUNT_IS_INTERNAL = 156
    """The engine's own accounts, for money between groups or buckets, cannot be split."""


class ResultFlag(IntFlag):
    """What else a result says beside its outcome."""

    NONE = 0
    REPLAYED = 1
    """The id was known with this very body: this is its stored outcome."""
    IN_FLIGHT = 2
    DECIDED_ELSEWHERE = 4
    """No outcome (0), and nothing was logged: this id, or what it follows, is part of a cross-group chain, and the
    result's `group` decides that chain: ask there."""
    SHORT = 8
    """No outcome (0), and nothing was logged: this group's bucket of a split account does not suffice, others may. The
    result's `position` is the number of the failing leg within its chain; its `timestamp` the reason to refuse it with,
    once it is proven (decision 12)."""


def took_effect(outcome: int) -> bool:
    """Whether this outcome changed state (moved or reserved money, created or updated an account)."""
    return 1 <= outcome <= 9


def is_conflict(outcome: int) -> bool:
    """Whether the id belongs to another body: answered, never stored."""
    return 10 <= outcome <= 39


PRECEDENCE: Final = (
    Outcome.LEDGER_UNKNOWN,
    Outcome.FOLLOWED_MISSING,
    Outcome.ACCOUNT_ID_RESERVED,
    Outcome.ACCOUNT_IS_INTERNAL,
    Outcome.ACCOUNT_IN_ANOTHER_GROUP,
    Outcome.DAY_CLOSED,
    Outcome.ACCOUNT_UNKNOWN,
    Outcome.DEBIT_ACCOUNT_UNKNOWN,
    Outcome.CREDIT_ACCOUNT_UNKNOWN,
    Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER,
    Outcome.CREDIT_ACCOUNT_OF_ANOTHER_LEDGER,
    Outcome.FOLLOWED_OF_WRONG_KIND,
    Outcome.FOLLOWED_OF_ANOTHER_LEDGER,
    Outcome.FOLLOWED_DEBIT_ACCOUNT_DIFFERS,
    Outcome.FOLLOWED_CREDIT_ACCOUNT_DIFFERS,
    Outcome.RESERVATION_ALREADY_COMMITTED,
    Outcome.RESERVATION_ALREADY_RELEASED,
    Outcome.RESERVATION_EXPIRED,
    Outcome.AMOUNT_EXCEEDS_RESERVATION,
    Outcome.AMOUNT_EXCEEDS_ORIGINAL,
    Outcome.DEBIT_ACCOUNT_CLOSED,
    Outcome.CREDIT_ACCOUNT_CLOSED,
    Outcome.DEBIT_ACCOUNT_FROZEN,
    Outcome.CREDIT_ACCOUNT_FROZEN,
    Outcome.DEBIT_ACCOUNT_OVERFLOW,
    Outcome.CREDIT_ACCOUNT_OVERFLOW,
    Outcome.INSUFFICIENT_FUNDS,
    Outcome.CREDIT_LIMIT_EXCEEDED,
    Outcome.ACCOUNT_VERSION_DIFFERS,
    Outcome.ACCOUNT_CLOSED,
    Outcome.ACCOUNT_NOT_EMPTY,
    Outcome.LIMIT_BELOW_USE,
)
"""The reasons to refuse a record, in the order in which they are looked for; the first that holds is told (where
it is, and whether there is what it follows; what that is; in which state its accounts are; what the amount would do).
A known id is answered before, by the fields in the order of `model.CONFLICTS`; CHAIN_FAILED goes to the legs that are
not looked at."""
