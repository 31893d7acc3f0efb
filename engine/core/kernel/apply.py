"""The compiled loop over one batch: look up its accounts, then judge, store and execute its records in order."""

from typing import Final

import numpy as np

from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.accounts import ACCEPTED, create_account, refuse_create
from engine.core.kernel.arrays import (
    ACCOUNT_COUNT,
    FIRST_POSITION,
    GROUP,
    HASH_SEED,
    INCONSISTENT,
    TABLES_TYPE,
    WORDS_TYPE,
    WORK_TYPE,
    Tables,
    Work,
)
from engine.core.kernel.buckets import apply_bucket
from engine.core.kernel.chain import (
    answer_known,
    answer_unit_elsewhere,
    apply_new,
    decider_elsewhere,
    look_for_ids,
    unit_end,
)
from engine.core.kernel.stored import answer_replayed, answer_unstored, conflict, flags_of, kind_of, store_row
from engine.core.kernel.tables import find_account, find_home
from engine.core.kernel.u128 import I64, ONE, ZERO
from engine.core.outcomes import Outcome
from engine.core.placement import hash_id
from engine.core.records import Flag, Kind, Words

_CREATE_ACCOUNT: Final = np.uint64(Kind.CREATE_ACCOUNT)
_BUCKET: Final = np.uint64(Kind.BUCKET)
_LINKED: Final = np.uint64(Flag.LINKED)
_POST: Final = np.uint64(Kind.POST)
_RESERVE: Final = np.uint64(Kind.RESERVE)
_REVERSE: Final = np.uint64(Kind.REVERSE)
_ACCOUNT_CREATED: Final = np.uint64(Outcome.ACCOUNT_CREATED)
_POSITION_WORD: Final = 15
_BLOCK: Final = 512
"""Records whose accounts are looked up together, before they are judged: the look-ups wait for memory side by side, and
what they fetch is still in the cache when it is needed."""


@entry((WORDS_TYPE,))
def scan_batch(batch: Words) -> tuple[I64, I64, I64, I64]:
    """Return (records of unknown kind, accounts made at most, RESERVEs, legs of the longest chain) of a batch."""
    unknown = creates = reserves = longest = legs = 0
    for i in range(len(batch)):
        meta = batch[i, 15]
        kind = kind_of(meta)
        creates += kind == _CREATE_ACCOUNT
        creates += 2 * (kind == _BUCKET)
        reserves += kind == _RESERVE
        unknown += not (_POST <= kind <= _REVERSE or _CREATE_ACCOUNT <= kind <= _BUCKET)
        legs = legs + 1
        longest = max(longest, legs)
        if flags_of(meta) & _LINKED == ZERO or kind > _REVERSE:
            legs = 0
    return unknown, creates, reserves, longest


@helper
def _look_up(tables: Tables, work: Work, start: I64, end: I64) -> None:
    """Find the accounts of records start..end-1, and hash their ids."""
    batch, seed = work.batch, tables.counters[HASH_SEED]
    for i in range(start, end):
        work.hashes[i] = hash_id(batch[i, 0], batch[i, 1], seed)
        kind = kind_of(batch[i, 15])
        if kind == _CREATE_ACCOUNT:
            work.debit_rows[i] = find_home(tables, batch[i, 0], batch[i, 1])
            continue
        work.debit_rows[i] = find_account(tables, batch[i, 2], batch[i, 3])
        if kind < _CREATE_ACCOUNT:
            work.credit_rows[i] = find_account(tables, batch[i, 4], batch[i, 5])


@outlined
def _look_up_new(tables: Tables, work: Work, start: I64, end: I64) -> None:
    """Look again for accounts that were not there yet when their block was looked up."""
    batch = work.batch
    for i in range(start, end):
        kind = kind_of(batch[i, 15])
        if kind == _CREATE_ACCOUNT:
            work.debit_rows[i] = find_home(tables, batch[i, 0], batch[i, 1])
        elif work.debit_rows[i] < 0:
            work.debit_rows[i] = find_account(tables, batch[i, 2], batch[i, 3])
        if kind < _CREATE_ACCOUNT and work.credit_rows[i] < 0:
            work.credit_rows[i] = find_account(tables, batch[i, 4], batch[i, 5])


@outlined
def _apply_create(tables: Tables, work: Work, i: I64, at: I64) -> I64:
    """Create one account, or answer for the one of that id; return the next row. A refusal stores nothing."""
    group, account = tables.counters[GROUP], work.debit_rows[i]
    if account < 0:
        refusal = refuse_create(tables, work, i, account)
        if refusal != ACCEPTED:
            answer_unstored(work, i, refusal, group)
            return at
        store_row(tables, work, i, at, _ACCOUNT_CREATED, ZERO, group)
        create_account(tables, work.batch, at, work.counts[FIRST_POSITION] + np.uint64(at))
        return at + 1
    stored = _stored_create(tables, work, i, account)
    different = conflict(work, i, stored)
    if different != ZERO:
        answer_unstored(work, i, different, group)
    else:
        answer_replayed(work, i, stored, group)
    return at


@helper
def _stored_create(tables: Tables, work: Work, i: I64, account: I64) -> I64:
    """Return the stored CREATE_ACCOUNT that made the account at this row."""
    position = tables.accounts[account, _POSITION_WORD]
    if position >= work.counts[FIRST_POSITION]:
        return np.int64(position - work.counts[FIRST_POSITION]) + len(work.known_rows)
    if work.id_row[i] < 0:
        work.counts[INCONSISTENT] = ONE
        return np.int64(0)
    return work.id_row[i]


@entry((TABLES_TYPE, WORK_TYPE))
def apply_batch(tables: Tables, work: Work) -> I64:
    """Apply the batch in place; return how many rows of it are journal rows now, the first ones."""
    # Not plain zeros: each helper would be compiled once more for the literal 0.
    i = at = looked_up = np.int64(0)
    records = np.int64(len(work.batch))
    accounts_before = tables.counters[ACCOUNT_COUNT]
    while i < records and work.counts[INCONSISTENT] == ZERO:
        end = unit_end(work, i)
        if end > looked_up:
            before, looked_up = looked_up, min(max(end, looked_up + _BLOCK), records)
            _look_up(tables, work, before, looked_up)
        if tables.counters[ACCOUNT_COUNT] != accounts_before:
            _look_up_new(tables, work, i, end)
        if kind_of(work.batch[i, 15]) == _CREATE_ACCOUNT:
            at = _apply_create(tables, work, i, at)
        elif kind_of(work.batch[i, 15]) == _BUCKET:
            at = apply_bucket(tables, work, i, at)
        else:
            known = look_for_ids(work, i, end)
            decider = decider_elsewhere(tables, work, i, end, known)
            if decider >= 0:
                answer_unit_elsewhere(work, i, end, decider)
            else:
                at = answer_known(tables, work, i, end, at) if known else apply_new(tables, work, i, end, at)
        i = end
    return at
