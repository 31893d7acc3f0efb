"""Buckets in the compiled kernel: BUCKET makes a group's head and share account of a split account (decision 12)."""

from typing import Final

import numpy as np

from engine.core.compiled import outlined
from engine.core.kernel.accounts import (
    ACCEPTED,
    BUCKET,
    CLOSED,
    CREDIT_LIMITED,
    DEBIT_LIMITED,
    FLAGS_WORD,
    LEDGER_WORD,
    M16,
    M32,
    SHARE,
    SHIFT_32,
    ledger_known,
    touch_account,
)
from engine.core.kernel.arrays import ACCOUNT_COUNT, ELSEWHERE, FIRST_POSITION, GROUP, HASH_SEED, UNKNOWN, Tables, Work
from engine.core.kernel.stored import answer, answer_unstored, flags_of, store_row
from engine.core.kernel.tables import delete, find_account_anywhere, insert, is_ours
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.placement import hash_id
from engine.core.records import Words

_SHIFT_16: Final = np.uint64(16)
_SHARE_KIND: Final = np.uint64(2)
_LIMITS: Final = DEBIT_LIMITED | CREDIT_LIMITED
_MADE: Final = np.uint64(Outcome.BUCKET_MADE)
_REPLAYED: Final = np.uint64(ResultFlag.REPLAYED << 16)
_LEDGER_UNKNOWN: Final = np.uint64(Outcome.LEDGER_UNKNOWN)
_INTERNAL: Final = np.uint64(Outcome.ACCOUNT_IS_INTERNAL)
_UNKNOWN: Final = np.uint64(Outcome.ACCOUNT_UNKNOWN)
_OTHER_LEDGER: Final = np.uint64(Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER)
_CLOSED: Final = np.uint64(Outcome.ACCOUNT_CLOSED)


@outlined
def apply_bucket(tables: Tables, work: Work, i: I64, at: I64) -> I64:
    """Make a bucket, or bring its flags up to date; return the next row. A refusal stores nothing, nor does what
    changes nothing: the bucket is its own idempotency key."""
    group, account = tables.counters[GROUP], work.debit_rows[i]
    refusal = _refuse(tables, work, i, account)
    if refusal != ACCEPTED:
        answer_unstored(work, i, refusal, group)
        return at
    if (
        account >= 0
        and tables.accounts[account, FLAGS_WORD] & BUCKET != ZERO
        and not _is_newer(tables, work, i, account)
    ):
        share = tables.accounts[partner_of(tables, account)]
        answer(work, i, share[15], share[12], _MADE | _REPLAYED, group)
        return at
    store_row(tables, work, i, at, _MADE, ZERO, group)
    make_bucket(tables, work.batch, at, work.counts[FIRST_POSITION] + np.uint64(at))
    return at + 1


@outlined
def _refuse(tables: Tables, work: Work, i: I64, account: I64) -> U64:
    ledger = work.batch[i, 14] & M32
    if not ledger_known(tables, ledger):
        return _LEDGER_UNKNOWN
    if work.batch[i, 2] == FULL:
        return _INTERNAL
    if account == ELSEWHERE:
        return ACCEPTED
    if account == UNKNOWN:
        return _UNKNOWN
    if tables.accounts[account, LEDGER_WORD] & M32 != ledger:
        return _OTHER_LEDGER
    return _CLOSED if tables.accounts[account, FLAGS_WORD] & (CLOSED | BUCKET) == CLOSED else ACCEPTED


@outlined
def _is_newer(tables: Tables, work: Work, i: I64, head: I64) -> bool:
    """Whether a BUCKET says something new of a head that is not at home."""
    version = tables.accounts[head, LEDGER_WORD] >> SHIFT_32
    return bool(not is_ours(tables, work.batch[i, 2], work.batch[i, 3]) and version < work.batch[i, 14] >> SHIFT_32)


@outlined
def partner_of(tables: Tables, row: I64) -> I64:
    """Return the row of the bucket's other account."""
    return np.int64(tables.accounts[row, FLAGS_WORD] >> SHIFT_32) - 1


@outlined
def make_bucket(tables: Tables, rows: Words, at: I64, position: U64) -> None:
    """Let the stored BUCKET row `at` take effect."""
    low, high, timestamp_ns = rows[at, 2], rows[at, 3], rows[at, 13]
    ledger, code = rows[at, 14] & M32, rows[at, 15] & M16
    flags = flags_of(rows[at, 15]) << _SHIFT_16
    head = find_account_anywhere(tables, low, high)
    if head >= 0 and tables.accounts[head, FLAGS_WORD] & BUCKET != ZERO:
        kept = tables.accounts[head, FLAGS_WORD] & ~(M16 << _SHIFT_16)
        tables.accounts[head, FLAGS_WORD] = kept | flags | BUCKET
        tables.accounts[head, LEDGER_WORD] = ledger | (rows[at, 14] & ~M32)
        touch_account(tables, head)
        return
    if head < 0:
        head = _append(tables, low, high, timestamp_ns, position)
        tables.accounts[head, LEDGER_WORD], tables.accounts[head, FLAGS_WORD] = rows[at, 14], code | flags
    group, own = tables.counters[GROUP], tables.counters[ACCOUNT_COUNT]
    share = _append(tables, FULL, _SHARE_KIND | (group << _SHIFT_16) | (own << SHIFT_32), timestamp_ns, position)
    limits = tables.accounts[head, FLAGS_WORD] & (_LIMITS | M16)
    tables.accounts[share, LEDGER_WORD] = (tables.accounts[head, LEDGER_WORD] & M32) | (ONE << SHIFT_32)
    tables.accounts[share, FLAGS_WORD] = limits | SHARE | ((np.uint64(head) + ONE) << SHIFT_32)
    tables.accounts[head, FLAGS_WORD] |= BUCKET | ((np.uint64(share) + ONE) << SHIFT_32)
    touch_account(tables, head)


@outlined
def _append(tables: Tables, low: U64, high: U64, timestamp_ns: U64, position: U64) -> I64:
    row = np.int64(tables.counters[ACCOUNT_COUNT])
    tables.counters[ACCOUNT_COUNT] += ONE
    account = tables.accounts[row]
    account[:] = ZERO
    account[0], account[1], account[12], account[15] = low, high, timestamp_ns, position
    insert(tables.account_slots, hash_id(low, high, tables.counters[HASH_SEED]), row)
    touch_account(tables, row)
    return row


@outlined
def drop_accounts(tables: Tables, kept: I64) -> None:
    """Take back the accounts made last, down to so many: a step that turned out short stores nothing that could make
    them again."""
    while np.int64(tables.counters[ACCOUNT_COUNT]) > kept:
        tables.counters[ACCOUNT_COUNT] -= ONE
        row = np.int64(tables.counters[ACCOUNT_COUNT])
        delete(tables.account_slots, tables.accounts, row, tables.counters[HASH_SEED])
        tables.accounts[row, :] = ZERO
