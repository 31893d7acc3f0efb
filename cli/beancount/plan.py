"""What an import will do, computed from the file alone: the accounts, and a chain of transfers for each transaction.

Every id is derived from the content of its transaction (date, payee, narration, postings) and from how many equal ones
came before it in the file, never from the file's name or a line number. So a second import of the same ledger, moved,
re-sorted or grown by then, posts only what is new; a transaction that was edited counts as new.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from cli.amounts import decimal_places
from cli.beancount.decompose import ROUNDING, TRADING, AccountKey, Decomposed, Movement, decompose
from cli.beancount.source import Source, Transaction
from cli.ids import id_of_name
from cli.times import day_start_ns
from engine.exit_codes import EngineStopped, ExitCode

FIRST_DATE: Final = date(1970, 1, 2)
"""Business dates are nanoseconds since 1970-01-01, and zero means none."""
LEDGER_CODES: Final = {"Assets": 1, "Liabilities": 2, "Equity": 3, "Income": 4, "Expenses": 5, TRADING: 6, ROUNDING: 7}
"""Account code by the first part of the name; 0 where the file gave its root accounts other names."""
ID_BYTES: Final = 16
_PERSON: Final = b"pe-beancount-1"
"""Parts the ids from any others; a changed derivation gets another number, so that old imports stay theirs."""


class PlannedAccount(NamedTuple):
    """An engine account to create."""

    key: AccountKey
    id: bytes
    code: int


class PlannedTransfer(NamedTuple):
    """One leg to post."""

    id: bytes
    debit: bytes
    credit: bytes
    commodity: str
    amount: int
    """Minor units."""
    effective_at_ns: int
    reference: bytes
    """The transaction's digest: the same on all its legs."""
    linked: bool
    """The next transfer is of the same transaction."""


class Plan(NamedTuple):
    """The whole import."""

    accounts: tuple[PlannedAccount, ...]
    chains: tuple[tuple[PlannedTransfer, ...], ...]
    """One per transaction that moves something, in the order of the file."""
    transactions: int
    zero_postings: int
    empty_transactions: int
    """Transactions of zero postings only: nothing is posted for them."""


def make_plan(source: Source, scales: Mapping[str, int]) -> Plan:
    """Plan the import into ledgers of these scales, by commodity; `EngineStopped` for a number that does not fit."""
    chains, zero_postings, occurrences = [], 0, Counter[bytes]()
    accounts: dict[AccountKey, PlannedAccount] = {}
    for transaction in source.transactions:
        content = content_digest(transaction)
        decomposed = _decompose(transaction, scales)
        for key in decomposed.accounts():
            accounts.setdefault(key, planned_account(key))
        reference = _digest(content, occurrences[content])
        chains.append(_chain(transaction, reference, decomposed.movements, accounts))
        occurrences[content] += 1
        zero_postings += decomposed.zero_postings
    moving = tuple(chain for chain in chains if chain)
    return Plan(tuple(accounts.values()), moving, len(chains), zero_postings, len(chains) - len(moving))


def _decompose(transaction: Transaction, scales: Mapping[str, int]) -> Decomposed:
    try:
        return decompose(transaction, scales)
    except ValueError as error:
        raise EngineStopped(ExitCode.USAGE, f"line {transaction.line}: {error}") from error


def _chain(
    transaction: Transaction,
    reference: bytes,
    movements: Sequence[Movement],
    accounts: Mapping[AccountKey, PlannedAccount],
) -> tuple[PlannedTransfer, ...]:
    effective_at_ns = day_ns(transaction.date, transaction.line)
    return tuple(
        PlannedTransfer(
            id=_digest(reference, leg),
            debit=accounts[movement.debit].id,
            credit=accounts[movement.credit].id,
            commodity=movement.debit.commodity,
            amount=movement.amount,
            effective_at_ns=effective_at_ns,
            reference=reference,
            linked=leg + 1 < len(movements),
        )
        for leg, movement in enumerate(movements)
    )


def planned_account(key: AccountKey) -> PlannedAccount:
    """Return the engine account of a Beancount account and commodity."""
    return PlannedAccount(key, id_of_name(key.name), LEDGER_CODES.get(key.account.split(":")[0], 0))


def needed_scales(source: Source) -> dict[str, int]:
    """Return, for each commodity of the file, the decimal places that hold every number of it exactly."""
    scales: dict[str, int] = {}
    for transaction in source.transactions:
        for posting in transaction.postings:
            places = decimal_places(posting.number)
            scales[posting.commodity] = max(places, scales.get(posting.commodity, 0))
    return scales


def content_digest(transaction: Transaction) -> bytes:
    """Digest what a transaction says, 16 bytes; equal for equal numbers however they are written (5 and 5.00)."""
    postings = [[one.account, _number(one.number), one.commodity] for one in transaction.postings]
    content = [str(transaction.date), transaction.payee, transaction.narration, postings]
    return _blake(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def day_ns(day: date, line: int) -> int:
    """Return midnight UTC of a business date, nanoseconds; `EngineStopped` for one that cannot be recorded."""
    if day < FIRST_DATE:
        raise EngineStopped(
            ExitCode.USAGE, f"line {line}: the date {day} cannot be recorded; transactions begin at {FIRST_DATE}"
        )
    return day_start_ns(day)


def commodities(source: Source) -> list[str]:
    """Return the commodities that the file's transactions use, in order of first use."""
    used: Iterable[str] = (one.commodity for each in source.transactions for one in each.postings)
    return list(dict.fromkeys(used))


def _number(number: Decimal) -> str:
    """Write a number in one way only; `Decimal.normalize` would round to the context's 28 digits."""
    if number == 0:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _digest(parent: bytes, number: int) -> bytes:
    return _blake(parent + number.to_bytes(8, "big"))


def _blake(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=ID_BYTES, person=_PERSON).digest()
