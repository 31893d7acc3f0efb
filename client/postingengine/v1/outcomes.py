"""How a request ended. Generated from the contract by proto/contract.py: do not edit."""

from enum import IntEnum


class Outcome(IntEnum):
    """The deterministic, replicated, final answer for an id. The number says the class: 1-9 it took effect; 10-39 its
    id is already taken by another body; 40-59 refused by the request; 60-99 by an account; 100-129 by the reservation
    or transfer that it follows; 130-149 by its chain; 150-199 account commands."""

    UNSPECIFIED = 0
    """Never an answer by itself; in packed results: this item has a fault instead of an outcome."""
    POSTED = 1
    """The transfer took effect: money moved, was reserved, committed, released or reversed."""
    ACCOUNT_CREATED = 2
    """The account exists now, with the fields asked for."""
    ACCOUNT_UPDATED = 3
    """The account has the limit and flags asked for."""
    BUCKET_MADE = 5
    """The account has its bucket in this group."""
    ID_REUSED_WITH_DIFFERENT_KIND = 10
    """The id is taken by a transfer of another kind."""
    ID_REUSED_WITH_DIFFERENT_LEDGER = 11
    """The id is taken by a body with another ledger."""
    ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT = 12
    """The id is taken by a body with another debit account (of UpdateAccounts: another account)."""
    ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT = 13
    """The id is taken by a body with another credit account."""
    ID_REUSED_WITH_DIFFERENT_AMOUNT = 14
    """The id is taken by a body with another amount (of accounts: another overdraft limit)."""
    ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID = 15
    """The id is taken by a body that follows another transfer."""
    ID_REUSED_WITH_DIFFERENT_FLAGS = 16
    """The id is taken by a body with other flags."""
    ID_REUSED_WITH_DIFFERENT_TIMEOUT = 17
    """The id is taken by a body with another timeout."""
    ID_REUSED_WITH_DIFFERENT_CODE = 18
    """The id is taken by a body with another code."""
    ID_REUSED_WITH_DIFFERENT_REFERENCE = 19
    """The id is taken by a body with another reference."""
    ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT = 20
    """The id is taken by a body with another effective_at."""
    ID_REUSED_WITH_DIFFERENT_CHAIN = 21
    """The id is taken by this body alone or as a leg of another chain."""
    ID_REUSED_WITH_DIFFERENT_EXPECTED_VERSION = 22
    """The id is taken by an update that expected another version."""
    LEDGER_UNKNOWN = 40
    """The cluster has no such ledger."""
    ACCOUNT_IN_ANOTHER_GROUP = 41
    """The two accounts live in different groups, and this engine version does not cross groups."""
    DAY_CLOSED = 42
    """effective_at is before the last cut-off."""
    DEBIT_ACCOUNT_UNKNOWN = 60
    """There is no such debit account."""
    CREDIT_ACCOUNT_UNKNOWN = 61
    """There is no such credit account."""
    DEBIT_ACCOUNT_OF_ANOTHER_LEDGER = 62
    """The debit account belongs to another ledger than the transfer."""
    CREDIT_ACCOUNT_OF_ANOTHER_LEDGER = 63
    """The credit account belongs to another ledger than the transfer."""
    DEBIT_ACCOUNT_CLOSED = 64
    """The debit account is closed, for ever."""
    CREDIT_ACCOUNT_CLOSED = 65
    """The credit account is closed, for ever."""
    DEBIT_ACCOUNT_FROZEN = 66
    """The debit account is frozen: only RELEASE and expiry pass it."""
    CREDIT_ACCOUNT_FROZEN = 67
    """The credit account is frozen: only RELEASE and expiry pass it."""
    DEBIT_ACCOUNT_OVERFLOW = 68
    """Posted plus reserved debits of the debit account would reach 2^127."""
    CREDIT_ACCOUNT_OVERFLOW = 69
    """Posted plus reserved credits of the credit account would reach 2^127."""
    INSUFFICIENT_FUNDS = 70
    """The debit account's limit: what is available there is below the amount."""
    CREDIT_LIMIT_EXCEEDED = 71
    """The credit account's limit: its credits would exceed its debits and overdraft limit."""
    FOLLOWED_MISSING = 100
    """No reservation or transfer of the followed id took effect."""
    FOLLOWED_OF_WRONG_KIND = 101
    """What the followed id names is of a kind that this transfer cannot follow."""
    FOLLOWED_OF_ANOTHER_LEDGER = 102
    """What the followed id names is of another ledger."""
    FOLLOWED_DEBIT_ACCOUNT_DIFFERS = 103
    """What the followed id names has another debit account."""
    FOLLOWED_CREDIT_ACCOUNT_DIFFERS = 104
    """What the followed id names has another credit account."""
    RESERVATION_ALREADY_COMMITTED = 105
    """Nothing is left of the reservation: it was committed."""
    RESERVATION_ALREADY_RELEASED = 106
    """Nothing is left of the reservation: it was released."""
    RESERVATION_EXPIRED = 107
    """Nothing is left of the reservation: it met its deadline."""
    AMOUNT_EXCEEDS_RESERVATION = 108
    """More than what is left of the reservation."""
    AMOUNT_EXCEEDS_ORIGINAL = 109
    """With this the reversals would exceed what they reverse."""
    CHAIN_FAILED = 130
    """Another leg of the chain was refused; that leg says why."""
    CHAIN_ABORTED = 131
    """A chain over three groups or more met its deadline before all of them had secured it."""
    ACCOUNT_UNKNOWN = 150
    """There is no such account."""
    ACCOUNT_VERSION_DIFFERS = 151
    """The account has another version than expected: read it again."""
    ACCOUNT_CLOSED = 152
    """The account is closed, for ever."""
    ACCOUNT_NOT_EMPTY = 153
    """Closing needs equal debits and credits and nothing reserved."""
    LIMIT_BELOW_USE = 154
    """The new overdraft limit is below what is used already."""
    ACCOUNT_ID_RESERVED = 155
    """Ids whose first eight bytes are all ones are the engine's own."""
    ACCOUNT_IS_INTERNAL = 156
    """The engine's own accounts cannot be split."""

    @classmethod
    def _missing_(cls, value: object) -> "Outcome | None":
        """Outcomes are appended: a newer engine's is a member by its number, `OUTCOME_<number>`."""
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"OUTCOME_{value}", value
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]
