"""Account rows in the compiled kernel: their counters, what a limit leaves, and the account commands.

A side of an account is named by the words of its counters: posted, reserved, and the other side's posted.
"""

from typing import Final

import numpy as np

from engine.core.compiled import helper, outlined
from engine.core.kernel.arrays import ACCOUNT_COUNT, ELSEWHERE, HASH_SEED, UNKNOWN, Tables, Work
from engine.core.kernel.tables import insert, is_ours
from engine.core.kernel.u128 import FULL, I64, ONE, TOP_BIT, U64, ZERO, add, less, subtract
from engine.core.outcomes import Outcome
from engine.core.placement import hash_id
from engine.core.records import AccountFlag, Words

DEBITS_POSTED: Final = 2
CREDITS_POSTED: Final = 4
DEBITS_RESERVED: Final = 6
CREDITS_RESERVED: Final = 8
OVERDRAFT: Final = 10
LEDGER_WORD: Final = 13
FLAGS_WORD: Final = 14

DEBIT_LIMITED: Final = np.uint64(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS << 16)
CREDIT_LIMITED: Final = np.uint64(AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS << 16)
FROZEN: Final = np.uint64(AccountFlag.FROZEN << 16)
CLOSED: Final = np.uint64(AccountFlag.CLOSED << 16)
TRANSIT: Final = np.uint64(AccountFlag.TRANSIT << 16)
BUCKET: Final = np.uint64(AccountFlag.BUCKET << 16)
SHARE: Final = np.uint64(AccountFlag.SHARE << 16)
_POOLED: Final = np.uint64((AccountFlag.BUCKET | AccountFlag.SHARE) << 16)
_LIFE: Final = np.uint64((AccountFlag.FROZEN | AccountFlag.CLOSED) << 16)
_KEPT_FLAGS: Final = np.uint64(0xFFFFFFFFFFFFFFFF ^ ((AccountFlag.FROZEN | AccountFlag.CLOSED) << 16))

M16: Final = np.uint64(0xFFFF)
M32: Final = np.uint64(0xFFFFFFFF)
_M8: Final = np.uint64(0xFF)
_SHIFT_8: Final = np.uint64(8)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_24: Final = np.uint64(24)
SHIFT_32: Final = np.uint64(32)
CHUNK_SHIFT: Final = 12
"""4096 rows of 128 bytes: the 512 KiB chunk in which the store saves."""

ACCEPTED: Final = np.uint64(0)
_LEDGER_UNKNOWN: Final = np.uint64(Outcome.LEDGER_UNKNOWN)
_ACCOUNT_IN_ANOTHER_GROUP: Final = np.uint64(Outcome.ACCOUNT_IN_ANOTHER_GROUP)
_DEBIT_LEDGER: Final = np.uint64(Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER)
_ACCOUNT_UNKNOWN: Final = np.uint64(Outcome.ACCOUNT_UNKNOWN)
_ACCOUNT_VERSION_DIFFERS: Final = np.uint64(Outcome.ACCOUNT_VERSION_DIFFERS)
_ACCOUNT_CLOSED: Final = np.uint64(Outcome.ACCOUNT_CLOSED)
_ACCOUNT_NOT_EMPTY: Final = np.uint64(Outcome.ACCOUNT_NOT_EMPTY)
_LIMIT_BELOW_USE: Final = np.uint64(Outcome.LIMIT_BELOW_USE)
_ACCOUNT_ID_RESERVED: Final = np.uint64(Outcome.ACCOUNT_ID_RESERVED)


@helper
def raise_counter(accounts: Words, row: I64, word: I64, low: U64, high: U64) -> None:
    """Add to one of the four counters."""
    accounts[row, word], accounts[row, word + 1] = add(accounts[row, word], accounts[row, word + 1], low, high)


@helper
def lower_counter(accounts: Words, row: I64, word: I64, low: U64, high: U64) -> None:
    """Subtract from one of the four counters, which holds as much."""
    accounts[row, word], accounts[row, word + 1] = subtract(accounts[row, word], accounts[row, word + 1], low, high)


@helper
def touch_account(tables: Tables, row: I64) -> None:
    """Mark the chunk of this row as changed since the last checkpoint."""
    tables.dirty_accounts[row >> CHUNK_SHIFT] = 1


@helper
def move(tables: Tables, debited: I64, credited: I64, low: U64, high: U64) -> None:
    """Post an amount: the one step that moves money."""
    raise_counter(tables.accounts, debited, DEBITS_POSTED, low, high)
    raise_counter(tables.accounts, credited, CREDITS_POSTED, low, high)
    touch_account(tables, debited)
    touch_account(tables, credited)


@helper
def used(accounts: Words, row: I64, posted: I64, reserved: I64) -> tuple[U64, U64]:
    """Return posted + reserved of one side."""
    return add(accounts[row, posted], accounts[row, posted + 1], accounts[row, reserved], accounts[row, reserved + 1])


@helper
def overflows(accounts: Words, row: I64, posted: I64, reserved: I64, low: U64, high: U64) -> bool:
    """Whether the amount would lift this side to 2^127 or more."""
    if high >= TOP_BIT:
        return True
    used_low, used_high = used(accounts, row, posted, reserved)
    _, sum_high = add(used_low, used_high, low, high)
    return bool(sum_high >= TOP_BIT)


@helper
def backing(accounts: Words, row: I64, opposite: I64, limited: U64) -> tuple[U64, U64]:
    """Return what this side may use up: the other side's posted, and the overdraft limit if this side is limited."""
    low, high = accounts[row, opposite], accounts[row, opposite + 1]
    if accounts[row, FLAGS_WORD] & limited != ZERO:
        low, high = add(low, high, accounts[row, OVERDRAFT], accounts[row, OVERDRAFT + 1])
    return low, high


@helper
def available(accounts: Words, row: I64, posted: I64, reserved: I64, opposite: I64, limited: U64) -> tuple[U64, U64]:
    """Return what is available on this side, or 0 if it is overdrawn."""
    if accounts[row, FLAGS_WORD] & _POOLED != ZERO:
        _, low, high = _pool(accounts, row, posted, reserved, opposite, limited)
        return low, high
    low, high = backing(accounts, row, opposite, limited)
    used_low, used_high = used(accounts, row, posted, reserved)
    if less(low, high, used_low, used_high):
        return ZERO, ZERO
    return subtract(low, high, used_low, used_high)


@helper
def exceeds_limit(
    accounts: Words, row: I64, posted: I64, reserved: I64, opposite: I64, limited: U64, low: U64, high: U64
) -> bool:
    """Whether this side is limited and available is below the amount; sums are below 2^127 as `overflows` said no."""
    flags = accounts[row, FLAGS_WORD]
    if flags & limited == ZERO:
        return False
    if flags & _POOLED != ZERO:
        return _exceeds_pool(accounts, row, posted, reserved, opposite, limited, low, high)
    backing_low, backing_high = backing(accounts, row, opposite, limited)
    used_low, used_high = used(accounts, row, posted, reserved)
    needed_low, needed_high = add(used_low, used_high, low, high)
    return less(backing_low, backing_high, needed_low, needed_high)


@outlined
def _pool(accounts: Words, row: I64, posted: I64, reserved: I64, opposite: I64, limited: U64) -> tuple[bool, U64, U64]:
    """Return what head and share account of a bucket have together on this side: (whether below zero, how much if not).

    Each by itself may be below zero, and what money moved to and fro adds up on both sides: only differences are added.
    """
    head, share = row, np.int64(accounts[row, FLAGS_WORD] >> SHIFT_32) - 1
    if accounts[row, FLAGS_WORD] & SHARE != ZERO:
        head, share = share, head
    low, high = backing(accounts, head, opposite, limited)
    used_low, used_high = used(accounts, head, posted, reserved)
    lent_low, lent_high = accounts[share, opposite], accounts[share, opposite + 1]
    spent_low, spent_high = used(accounts, share, posted, reserved)
    head_lacks, share_lacks = less(low, high, used_low, used_high), less(lent_low, lent_high, spent_low, spent_high)
    if head_lacks:
        low, high = subtract(used_low, used_high, low, high)
    else:
        low, high = subtract(low, high, used_low, used_high)
    if share_lacks:
        lent_low, lent_high = subtract(spent_low, spent_high, lent_low, lent_high)
    else:
        lent_low, lent_high = subtract(lent_low, lent_high, spent_low, spent_high)
    return _sum(head_lacks, low, high, share_lacks, lent_low, lent_high)


@outlined
def _sum(a_lacks: bool, a_low: U64, a_high: U64, b_lacks: bool, b_low: U64, b_high: U64) -> tuple[bool, U64, U64]:
    """Add two signed amounts: (whether the sum is below zero, the sum if not; at most 2^128 - 1)."""
    if a_lacks == b_lacks:
        low, high = add(a_low, a_high, b_low, b_high)
        if less(low, high, a_low, a_high):
            low, high = FULL, FULL
        return a_lacks and low | high != ZERO, ZERO if a_lacks else low, ZERO if a_lacks else high
    if a_lacks:
        a_low, a_high, b_low, b_high = b_low, b_high, a_low, a_high
    if less(a_low, a_high, b_low, b_high):
        return True, ZERO, ZERO
    low, high = subtract(a_low, a_high, b_low, b_high)
    return False, low, high


@outlined
def _exceeds_pool(
    accounts: Words, row: I64, posted: I64, reserved: I64, opposite: I64, limited: U64, low: U64, high: U64
) -> bool:
    below, most_low, most_high = _pool(accounts, row, posted, reserved, opposite, limited)
    return bool(below or less(most_low, most_high, low, high))


@outlined
def _count(accounts: Words, head: I64, low: U64, high: U64) -> None:
    share = np.int64(accounts[head, FLAGS_WORD] >> SHIFT_32) - 1
    raise_counter(accounts, share, OVERDRAFT, low, high)


@helper
def count_given_back(tables: Tables, row: I64, low: U64, high: U64) -> None:
    """Count, of a bucket, what was reserved on its head and is not posted; it only grows."""
    if tables.accounts[row, FLAGS_WORD] & BUCKET != ZERO:
        _count(tables.accounts, row, low, high)
        touch_account(tables, np.int64(tables.accounts[row, FLAGS_WORD] >> SHIFT_32) - 1)


@outlined
def ledger_known(tables: Tables, ledger: U64) -> bool:
    """Whether the settings list this ledger."""
    low, high = 0, len(tables.ledgers)
    while low < high:
        middle = (low + high) // 2
        if tables.ledgers[middle] < ledger:
            low = middle + 1
        else:
            high = middle
    return bool(low < len(tables.ledgers) and tables.ledgers[low] == ledger)


@outlined
def refuse_create(tables: Tables, work: Work, at: I64, place: I64) -> U64:
    """Return the first reason to refuse a CREATE_ACCOUNT whose account does not exist, or `ACCEPTED`."""
    if not ledger_known(tables, work.batch[at, 14] & M32):
        return _LEDGER_UNKNOWN
    if place == ELSEWHERE:
        return _ACCOUNT_IN_ANOTHER_GROUP
    return _ACCOUNT_ID_RESERVED if work.batch[at, 0] == FULL else ACCEPTED


@outlined
def create_account(tables: Tables, rows: Words, at: I64, position: U64) -> None:
    """Append the account that the stored CREATE_ACCOUNT row `at` describes."""
    row = np.int64(tables.counters[ACCOUNT_COUNT])
    tables.counters[ACCOUNT_COUNT] += ONE
    account = tables.accounts[row]
    account[:] = ZERO
    account[0], account[1] = rows[at, 0], rows[at, 1]
    account[OVERDRAFT], account[OVERDRAFT + 1] = rows[at, 6], rows[at, 7]
    account[12] = rows[at, 13]
    account[LEDGER_WORD] = (rows[at, 14] & M32) | (ONE << SHIFT_32)
    account[FLAGS_WORD] = (rows[at, 15] & M16) | (((rows[at, 15] >> _SHIFT_24) & _M8) << _SHIFT_16)
    account[15] = position
    insert(tables.account_slots, hash_id(account[0], account[1], tables.counters[HASH_SEED]), row)
    touch_account(tables, row)


@outlined
def refuse_update(tables: Tables, work: Work, i: I64, row: I64) -> U64:
    """Return the first reason to refuse an UPDATE_ACCOUNT of the account at `row`, or `ACCEPTED`."""
    ledger = work.batch[i, 14] & M32
    if not ledger_known(tables, ledger):
        return _LEDGER_UNKNOWN
    if row == ELSEWHERE or (row >= 0 and not is_ours(tables, work.batch[i, 2], work.batch[i, 3])):
        return _ACCOUNT_IN_ANOTHER_GROUP  # a bucket is no account of its own
    if row == UNKNOWN:
        return _ACCOUNT_ID_RESERVED if work.batch[i, 2] == FULL else _ACCOUNT_UNKNOWN
    accounts, low, high = tables.accounts, work.batch[i, 6], work.batch[i, 7]
    if accounts[row, LEDGER_WORD] & M32 != ledger:
        return _DEBIT_LEDGER
    if accounts[row, LEDGER_WORD] >> SHIFT_32 != work.batch[i, 14] >> SHIFT_32:
        return _ACCOUNT_VERSION_DIFFERS
    if accounts[row, FLAGS_WORD] & CLOSED != ZERO:
        return _ACCOUNT_CLOSED
    if (work.batch[i, 15] >> _SHIFT_8) & CLOSED != ZERO and _holds_something(accounts, row):
        return _ACCOUNT_NOT_EMPTY
    lowered = less(low, high, accounts[row, OVERDRAFT], accounts[row, OVERDRAFT + 1])
    return _LIMIT_BELOW_USE if lowered and _limit_below_use(accounts, row, low, high) else ACCEPTED


@outlined
def _pool_holds_something(accounts: Words, head: I64) -> bool:
    """Whether a bucket has anything reserved, or a balance on its two accounts together."""
    share = np.int64(accounts[head, FLAGS_WORD] >> SHIFT_32) - 1
    reserved = ZERO
    for word in range(DEBITS_RESERVED, OVERDRAFT):
        reserved |= accounts[head, word] | accounts[share, word]
    # Modulo 2^128 both ways: what is equal stays equal.
    debit_low, debit_high = add(accounts[head, 2], accounts[head, 3], accounts[share, 2], accounts[share, 3])
    credit_low, credit_high = add(accounts[head, 4], accounts[head, 5], accounts[share, 4], accounts[share, 5])
    return bool(reserved | (debit_low ^ credit_low) | (debit_high ^ credit_high) != ZERO)


@helper
def _holds_something(accounts: Words, row: I64) -> bool:
    if accounts[row, FLAGS_WORD] & BUCKET != ZERO:
        return _pool_holds_something(accounts, row)
    reserved = accounts[row, 6] | accounts[row, 7] | accounts[row, 8] | accounts[row, 9]
    unequal = (accounts[row, 2] ^ accounts[row, 4]) | (accounts[row, 3] ^ accounts[row, 5])
    return bool(reserved | unequal != ZERO)


@outlined
def _limit_below_use(accounts: Words, row: I64, low: U64, high: U64) -> bool:
    """Whether the limited side uses more than the other side's posted and this overdraft limit."""
    flags, limited = accounts[row, FLAGS_WORD], DEBIT_LIMITED
    if flags & (DEBIT_LIMITED | CREDIT_LIMITED) == ZERO:
        return False
    posted, reserved, opposite = DEBITS_POSTED, DEBITS_RESERVED, CREDITS_POSTED
    if flags & CREDIT_LIMITED != ZERO:
        posted, reserved, opposite, limited = CREDITS_POSTED, CREDITS_RESERVED, DEBITS_POSTED, CREDIT_LIMITED
    lowered_low, lowered_high = subtract(accounts[row, OVERDRAFT], accounts[row, OVERDRAFT + 1], low, high)
    return exceeds_limit(accounts, row, posted, reserved, opposite, limited, lowered_low, lowered_high)


@outlined
def update_account(tables: Tables, rows: Words, at: I64, row: I64) -> None:
    """Let the accepted UPDATE_ACCOUNT row `at` take effect on the account at `row`."""
    account = tables.accounts[row]
    account[OVERDRAFT], account[OVERDRAFT + 1] = rows[at, 6], rows[at, 7]
    account[LEDGER_WORD] += ONE << SHIFT_32
    account[FLAGS_WORD] = (account[FLAGS_WORD] & _KEPT_FLAGS) | ((rows[at, 15] >> _SHIFT_8) & _LIFE)
    touch_account(tables, row)
