"""Accounts of the model: four counters each, limits, and what a leg does to them."""

from typing import NamedTuple

from engine.core.records import AccountFlag

DEBITS_LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
CREDITS_LIMITED = AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
FROZEN = AccountFlag.FROZEN

NO_LIMIT = 1 << 40


class Account(NamedTuple):
    """What an account has posted and reserved. `flags` may change: a freeze is a log record too."""

    debits: int = 0
    credits: int = 0
    debits_reserved: int = 0
    credits_reserved: int = 0
    flags: AccountFlag = AccountFlag.NONE


Accounts = tuple[Account, ...]


def post(accounts: list[Account], debit: int, credit: int, amount: int) -> None:
    one = accounts[debit]
    accounts[debit] = one._replace(debits=one.debits + amount)
    one = accounts[credit]
    accounts[credit] = one._replace(credits=one.credits + amount)


def hold(accounts: list[Account], debit: int, credit: int, amount: int) -> None:
    """Reserve an amount; a negative one is freed."""
    reserve(accounts, debit, amount, 0)
    reserve(accounts, credit, 0, amount)


def reserve(accounts: list[Account], slot: int, debits: int, credits: int) -> None:
    one = accounts[slot]
    accounts[slot] = one._replace(
        debits_reserved=one.debits_reserved + debits, credits_reserved=one.credits_reserved + credits
    )


def room_to_debit(account: Account, *, count_reserved: bool = True) -> int:
    """What may be debited; `NO_LIMIT` if nothing limits it."""
    if not account.flags & DEBITS_LIMITED:
        return NO_LIMIT
    return account.credits - account.debits - (account.debits_reserved if count_reserved else 0)


def room_to_credit(account: Account, *, count_reserved: bool = True) -> int:
    if not account.flags & CREDITS_LIMITED:
        return NO_LIMIT
    return account.debits - account.credits - (account.credits_reserved if count_reserved else 0)
