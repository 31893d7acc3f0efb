"""The faults of a request: what can be seen from it alone (DESIGN §4). Nothing is logged, and no id is burned."""

from enum import IntEnum
from typing import Final


class Fault(IntEnum):
    """Why an item is invalid. Part of the contract: append members, never renumber. Of several, the lowest is told."""

    NONE = 0
    KIND_UNKNOWN = 1
    TIMESTAMP_NOT_ZERO = 2
    OUTCOME_NOT_ZERO = 3
    LEG_NOT_ZERO = 4
    ID_ZERO = 5
    ID_ALL_ONES = 6
    DEBIT_ACCOUNT_ZERO = 7
    DEBIT_ACCOUNT_ALL_ONES = 8
    CREDIT_ACCOUNT_ZERO = 9
    CREDIT_ACCOUNT_ALL_ONES = 10
    ACCOUNTS_SAME = 11
    AMOUNT_ZERO = 12
    AMOUNT_UNEXPECTED = 13
    FOLLOWED_MISSING = 14
    FOLLOWED_UNEXPECTED = 15
    FOLLOWED_ITSELF = 16
    FLAG_UNKNOWN = 17
    BALANCING_BOTH = 18
    BALANCING_OF_WRONG_KIND = 19
    TIMEOUT_UNEXPECTED = 20
    ACCOUNT_LIMITED_BOTH_WAYS = 21
    ACCOUNT_FLAG_RESERVED = 22
    ACCOUNT_CLOSED_AT_CREATION = 23
    ACCOUNT_LIMIT_IN_UPDATE = 24
    OVERDRAFT_TOO_LARGE = 25
    DEBIT_ACCOUNT_UNEXPECTED = 26
    CREDIT_ACCOUNT_UNEXPECTED = 27
    EFFECTIVE_AT_UNEXPECTED = 28
    EXPECTED_VERSION_ZERO = 29
    CHAIN_OPEN = 30
    ID_TWICE_IN_CHAIN = 31
    BALANCING_IN_CHAIN = 32
    CHAIN_INVALID = 33


FAULT_TEXTS: Final[dict[Fault, tuple[str, str]]] = {
    Fault.KIND_UNKNOWN: (
        "kind",
        "The kind is unknown, or not for callers: send POST, RESERVE, COMMIT, RELEASE or REVERSE.",
    ),
    Fault.TIMESTAMP_NOT_ZERO: ("timestamp", "The timestamp is the engine's to give: leave it zero."),
    Fault.OUTCOME_NOT_ZERO: ("outcome", "The outcome is the engine's to give: leave it zero."),
    Fault.LEG_NOT_ZERO: ("leg", "The leg is the engine's to give: leave it zero."),
    Fault.ID_ZERO: ("id", "The id is all zeros: choose one."),
    Fault.ID_ALL_ONES: ("id", "The id is all ones, which the engine keeps for itself: choose another."),
    Fault.DEBIT_ACCOUNT_ZERO: (
        "debit_account",
        "The debit account is missing: name the account that the amount leaves.",
    ),
    Fault.DEBIT_ACCOUNT_ALL_ONES: ("debit_account", "No account has an id of all ones."),
    Fault.CREDIT_ACCOUNT_ZERO: (
        "credit_account",
        "The credit account is missing: name the account that the amount goes to.",
    ),
    Fault.CREDIT_ACCOUNT_ALL_ONES: ("credit_account", "No account has an id of all ones."),
    Fault.ACCOUNTS_SAME: ("credit_account", "Debit and credit account are the same: name two accounts."),
    Fault.AMOUNT_ZERO: ("amount", "The amount is zero: move at least one minor unit."),
    Fault.AMOUNT_UNEXPECTED: ("amount", "RELEASE gives back all that is left, and takes no amount: leave it zero."),
    Fault.FOLLOWED_MISSING: ("followed", "COMMIT, RELEASE and REVERSE name the transfer that they follow."),
    Fault.FOLLOWED_UNEXPECTED: (
        "followed",
        "Only COMMIT, RELEASE and REVERSE follow another transfer: leave it empty.",
    ),
    Fault.FOLLOWED_ITSELF: ("followed", "A transfer cannot follow itself: give it an id of its own."),
    Fault.FLAG_UNKNOWN: ("flags", "A flag is unknown, or means nothing for this kind."),
    Fault.BALANCING_BOTH: ("flags", "A transfer balances its debit or its credit account, not both."),
    Fault.BALANCING_OF_WRONG_KIND: ("flags", "Only a POST can be balancing: leave the flag out."),
    Fault.TIMEOUT_UNEXPECTED: ("timeout_s", "Only a RESERVE has a timeout: leave it zero."),
    Fault.ACCOUNT_LIMITED_BOTH_WAYS: ("flags", "An account is limited on one side at most."),
    Fault.ACCOUNT_FLAG_RESERVED: ("flags", "An account flag is unknown, or the engine's own."),
    Fault.ACCOUNT_CLOSED_AT_CREATION: ("closed", "An account cannot be created closed."),
    Fault.ACCOUNT_LIMIT_IN_UPDATE: ("flags", "On which side an account is limited is settled when it is created."),
    Fault.OVERDRAFT_TOO_LARGE: ("overdraft_limit", "The overdraft limit must be below 2^127."),
    Fault.DEBIT_ACCOUNT_UNEXPECTED: ("debit_account", "CREATE_ACCOUNT names the account by its id alone."),
    Fault.CREDIT_ACCOUNT_UNEXPECTED: ("credit_account", "Account commands have no credit account."),
    Fault.EFFECTIVE_AT_UNEXPECTED: ("effective_at", "Account commands take effect when they are booked."),
    Fault.EXPECTED_VERSION_ZERO: ("expected_version", "Versions begin at 1: read the account first."),
    Fault.CHAIN_OPEN: (
        "flags",
        "The last leg of the chain is LINKED, and no transfer follows it in the batch: leave its flag out.",
    ),
    Fault.ID_TWICE_IN_CHAIN: ("id", "The id stands twice in one chain: give each leg its own."),
    Fault.BALANCING_IN_CHAIN: ("flags", "A balancing transfer cannot be a leg of a chain: post it by itself."),
    Fault.CHAIN_INVALID: ("", "Another leg of the chain is invalid; that leg says why."),
}
"""For each fault the field of the item that it is about (as in the typed messages; "": none), and one sentence."""
