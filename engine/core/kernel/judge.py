"""Judging one transfer in the compiled kernel: the first reason to refuse it, by `outcomes.PRECEDENCE`.

Judging changes nothing. The places come first (ledger, group, accounts), then what is followed, then the accounts'
state.
"""

from typing import Final

import numpy as np

from engine.core.chains.word import State
from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import (
    ACCEPTED,
    BUCKET,
    CLOSED,
    CREDIT_LIMITED,
    CREDITS_POSTED,
    CREDITS_RESERVED,
    DEBIT_LIMITED,
    DEBITS_POSTED,
    DEBITS_RESERVED,
    FLAGS_WORD,
    FROZEN,
    LEDGER_WORD,
    M32,
    TRANSIT,
    available,
    exceeds_limit,
    ledger_known,
    overflows,
    refuse_update,
)
from engine.core.kernel.arrays import ELSEWHERE, HASH_SEED, NOT_RUN, RECORD_TIME, UNKNOWN, Tables, Work
from engine.core.kernel.reservations import (
    COMMITTED,
    CREDIT,
    DEADLINE,
    DEBIT,
    LEDGER,
    OPEN,
    RELEASED,
    REMAINING,
    decided_here,
)
from engine.core.kernel.stored import find_in_batch, flags_of, kind_of, outcome_of, stored_meta, stored_word
from engine.core.kernel.tables import find_reservation
from engine.core.kernel.u128 import FULL, I64, ONE, U8, U64, ZERO, less, subtract
from engine.core.outcomes import Outcome
from engine.core.placement import hash_id
from engine.core.records import Flag, Kind, Words

POST: Final = np.uint64(Kind.POST)
RESERVE: Final = np.uint64(Kind.RESERVE)
COMMIT: Final = np.uint64(Kind.COMMIT)
RELEASE: Final = np.uint64(Kind.RELEASE)
REVERSE: Final = np.uint64(Kind.REVERSE)
UPDATE_ACCOUNT: Final = np.uint64(Kind.UPDATE_ACCOUNT)
_BALANCING: Final = np.uint64(Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
_BALANCING_DEBIT: Final = np.uint64(Flag.BALANCING_DEBIT)
_FORCE: Final = np.uint64(Flag.FORCE)
SHORT: Final = np.uint64(1 << 16)
"""Set beside a reason that only this group's bucket has: others may suffice."""
_LAST_EFFECTIVE: Final = np.uint64(9)
_RESERVED_WORD: Final = np.uint8(State.RESERVED)
_RELEASED_WORD: Final = np.uint8(State.RELEASED)

_LEDGER_UNKNOWN: Final = np.uint64(Outcome.LEDGER_UNKNOWN)
_ACCOUNT_IN_ANOTHER_GROUP: Final = np.uint64(Outcome.ACCOUNT_IN_ANOTHER_GROUP)
_ACCOUNT_ID_RESERVED: Final = np.uint64(Outcome.ACCOUNT_ID_RESERVED)
_DEBIT_UNKNOWN: Final = np.uint64(Outcome.DEBIT_ACCOUNT_UNKNOWN)
_CREDIT_UNKNOWN: Final = np.uint64(Outcome.CREDIT_ACCOUNT_UNKNOWN)
_DEBIT_LEDGER: Final = np.uint64(Outcome.DEBIT_ACCOUNT_OF_ANOTHER_LEDGER)
_CREDIT_LEDGER: Final = np.uint64(Outcome.CREDIT_ACCOUNT_OF_ANOTHER_LEDGER)
_FOLLOWED_MISSING: Final = np.uint64(Outcome.FOLLOWED_MISSING)
_FOLLOWED_KIND: Final = np.uint64(Outcome.FOLLOWED_OF_WRONG_KIND)
_FOLLOWED_LEDGER: Final = np.uint64(Outcome.FOLLOWED_OF_ANOTHER_LEDGER)
_FOLLOWED_DEBIT: Final = np.uint64(Outcome.FOLLOWED_DEBIT_ACCOUNT_DIFFERS)
_FOLLOWED_CREDIT: Final = np.uint64(Outcome.FOLLOWED_CREDIT_ACCOUNT_DIFFERS)
_ALREADY_COMMITTED: Final = np.uint64(Outcome.RESERVATION_ALREADY_COMMITTED)
_ALREADY_RELEASED: Final = np.uint64(Outcome.RESERVATION_ALREADY_RELEASED)
_EXPIRED: Final = np.uint64(Outcome.RESERVATION_EXPIRED)
_EXCEEDS_RESERVATION: Final = np.uint64(Outcome.AMOUNT_EXCEEDS_RESERVATION)
_EXCEEDS_ORIGINAL: Final = np.uint64(Outcome.AMOUNT_EXCEEDS_ORIGINAL)
_DEBIT_CLOSED: Final = np.uint64(Outcome.DEBIT_ACCOUNT_CLOSED)
_CREDIT_CLOSED: Final = np.uint64(Outcome.CREDIT_ACCOUNT_CLOSED)
_DEBIT_FROZEN: Final = np.uint64(Outcome.DEBIT_ACCOUNT_FROZEN)
_CREDIT_FROZEN: Final = np.uint64(Outcome.CREDIT_ACCOUNT_FROZEN)
_DEBIT_OVERFLOW: Final = np.uint64(Outcome.DEBIT_ACCOUNT_OVERFLOW)
_CREDIT_OVERFLOW: Final = np.uint64(Outcome.CREDIT_ACCOUNT_OVERFLOW)
_INSUFFICIENT_FUNDS: Final = np.uint64(Outcome.INSUFFICIENT_FUNDS)
_CREDIT_LIMIT_EXCEEDED: Final = np.uint64(Outcome.CREDIT_LIMIT_EXCEEDED)


@helper
def judge(tables: Tables, work: Work, i: I64, decides: bool) -> tuple[U64, U64, U64, I64]:
    """Judge record `i`: (refusal, perhaps with `SHORT`, or `ACCEPTED`; amount to move low, high; target).

    The target of a COMMIT or RELEASE is its reservation's row; of a REVERSE, the stored original. decides: the group's
    log has the last word on it; always, but for cross-group chains. Of those, a leg that this group does not run has no
    account rows (`NOT_RUN`): only its decider judges it, by what it follows.
    """
    kind, target = kind_of(work.batch[i, 15]), np.int64(-1)
    low, high = work.batch[i, 6], work.batch[i, 7]
    if kind == UPDATE_ACCOUNT:
        return refuse_update(tables, work, i, work.debit_rows[i]), low, high, target
    refusal, runs = ACCEPTED, work.debit_rows[i] != NOT_RUN
    if runs:
        refusal = _refuse_places(tables, work, i)
    if refusal == ACCEPTED and kind > RESERVE and (runs or decides):
        refusal, low, high, target = _judge_followed(tables, work, i, decides)
    if refusal == ACCEPTED and kind != RELEASE and runs:
        refusal = _refuse_state(tables, work, i)
    if refusal == ACCEPTED and kind != COMMIT and kind != RELEASE and runs:
        asked_low, asked_high = low, high
        low, high = _balanced(tables, work, i, low, high)
        refusal = _refuse_amount(tables, work, i, low, high)
        if low != asked_low or high != asked_high:
            refusal = _short_of_balance(tables, work, i, refusal)
    return refusal, low, high, target


@helper
def _refuse_places(tables: Tables, work: Work, i: I64) -> U64:
    debit, credit, ledger = work.debit_rows[i], work.credit_rows[i], work.batch[i, 14] & M32
    if debit >= 0 and credit >= 0:
        differs = (tables.accounts[debit, LEDGER_WORD] ^ ledger) | (tables.accounts[credit, LEDGER_WORD] ^ ledger)
        if differs & M32 == ZERO:
            return ACCEPTED  # the ledger is known: accounts are made in known ledgers, and no ledger is ever removed
    return _refuse_bad_places(tables, work, i)


@outlined
def _refuse_bad_places(tables: Tables, work: Work, i: I64) -> U64:
    debit, credit, ledger = work.debit_rows[i], work.credit_rows[i], work.batch[i, 14] & M32
    if not ledger_known(tables, ledger):
        return _LEDGER_UNKNOWN
    if kind_of(work.batch[i, 15]) > RESERVE and _is_missing(tables, work, i):
        return _FOLLOWED_MISSING  # before the map is asked: a follower goes where its original is
    if (debit == UNKNOWN and work.batch[i, 2] == FULL) or (credit == UNKNOWN and work.batch[i, 4] == FULL):
        return _ACCOUNT_ID_RESERVED
    if debit == ELSEWHERE or credit == ELSEWHERE:
        return _ACCOUNT_IN_ANOTHER_GROUP
    if debit == UNKNOWN:
        return _DEBIT_UNKNOWN
    if credit == UNKNOWN:
        return _CREDIT_UNKNOWN
    return _DEBIT_LEDGER if tables.accounts[debit, LEDGER_WORD] & M32 != ledger else _CREDIT_LEDGER


@helper
def _is_missing(tables: Tables, work: Work, i: I64) -> bool:
    if kind_of(work.batch[i, 15]) != REVERSE and find_reservation(tables, work.batch[i, 8], work.batch[i, 9]) >= 0:
        return False
    return not _took_effect(work, i, find_followed(tables, work, i))


@outlined
def _judge_followed(tables: Tables, work: Work, i: I64, decides: bool) -> tuple[U64, U64, U64, I64]:
    if kind_of(work.batch[i, 15]) == REVERSE:
        return _judge_reversed(tables, work, i, decides)
    row = find_reservation(tables, work.batch[i, 8], work.batch[i, 9])
    if row < 0:
        return _refuse_ended(tables, work, i), ZERO, ZERO, row
    return _judge_open(tables, work, i, row)


@helper
def _judge_open(tables: Tables, work: Work, i: I64, row: I64) -> tuple[U64, U64, U64, I64]:
    """Judge by what is left here. Where another group decides it has at most as much left, and knows all that is known
    here before it decides this: what is refused here would be refused there."""
    reservation, follower = tables.reservations[row], work.batch[i]
    low, high, refusal = follower[6], follower[7], ACCEPTED
    here = decided_here(tables, row)
    if (reservation[LEDGER] ^ follower[14]) & M32 != ZERO:
        refusal = _FOLLOWED_LEDGER
    elif reservation[DEBIT] != follower[2] or reservation[DEBIT + 1] != follower[3]:
        refusal = _FOLLOWED_DEBIT
    elif reservation[CREDIT] != follower[4] or reservation[CREDIT + 1] != follower[5]:
        refusal = _FOLLOWED_CREDIT
    elif reservation[OPEN] != ONE:
        refusal = _why_ended(np.uint8(reservation[OPEN] - ONE))
    elif here and reservation[DEADLINE] != ZERO and reservation[DEADLINE] <= work.counts[RECORD_TIME]:
        refusal = _EXPIRED  # due, but beyond what one record expires
    elif low & high == FULL:
        if here:
            low, high = reservation[REMAINING], reservation[REMAINING + 1]
    elif less(reservation[REMAINING], reservation[REMAINING + 1], low, high):
        refusal = _EXCEEDS_RESERVATION
    return refusal, low, high, row


@helper
def find_followed(tables: Tables, work: Work, i: I64) -> I64:
    """Return the stored record that record `i` follows, or -1."""
    if work.followed_row[i] >= 0:
        return work.followed_row[i]
    low, high = work.batch[i, 8], work.batch[i, 9]
    return find_in_batch(work, hash_id(low, high, tables.counters[HASH_SEED]), low, high)


@outlined
def _refuse_original(work: Work, i: I64, stored: I64, kinds_fit: bool) -> U64:
    """Whether the original's ledger and accounts are the follower's."""
    if not kinds_fit:
        return _FOLLOWED_KIND
    follower, known = work.batch[i], len(work.known_rows)
    original = work.known_rows[stored] if stored < known else work.batch[stored - known]
    if (original[14] ^ follower[14]) & M32 != ZERO:
        return _FOLLOWED_LEDGER
    if original[2] != follower[2] or original[3] != follower[3]:
        return _FOLLOWED_DEBIT
    if original[4] != follower[4] or original[5] != follower[5]:
        return _FOLLOWED_CREDIT
    return ACCEPTED


@helper
def _took_effect(work: Work, i: I64, stored: I64) -> bool:
    """Whether record `i` can follow the stored one; a hold of a cross-group chain, once its decider's word is known."""
    if stored < 0 or outcome_of(stored_meta(work, stored)) > _LAST_EFFECTIVE:
        return False
    word = stored_word(work, stored)
    return bool(word != _RELEASED_WORD and (word != _RESERVED_WORD or kind_of(work.batch[i, 15]) == REVERSE))


@helper
def _why_ended(ended: U8) -> U64:
    if ended == COMMITTED:
        return _ALREADY_COMMITTED
    # Not ended when its batch was loaded, and gone now: it expired at this record's time.
    return _ALREADY_RELEASED if ended == RELEASED else _EXPIRED


@outlined
def _refuse_ended(tables: Tables, work: Work, i: I64) -> U64:
    """Say why there is no open reservation of the followed id."""
    stored = find_followed(tables, work, i)
    if not _took_effect(work, i, stored):
        return _FOLLOWED_MISSING
    refusal = _refuse_original(work, i, stored, kind_of(stored_meta(work, stored)) == RESERVE)
    if refusal != ACCEPTED:
        return refusal
    known = len(work.known_rows)
    return _why_ended(work.known_ended[stored] if stored < known else work.ended[stored - known])


@outlined
def _judge_reversed(tables: Tables, work: Work, i: I64, decides: bool) -> tuple[U64, U64, U64, I64]:
    low, high = work.batch[i, 6], work.batch[i, 7]
    stored = find_followed(tables, work, i)
    if not _took_effect(work, i, stored):
        return _FOLLOWED_MISSING, low, high, stored
    kind = kind_of(stored_meta(work, stored))
    refusal = _refuse_original(work, i, stored, kind == POST or kind == COMMIT)
    if refusal == ACCEPTED and decides:
        left_low, left_high = _left_to_reverse(work, stored)
        if less(left_low, left_high, low, high):
            refusal = _EXCEEDS_ORIGINAL
    return refusal, low, high, stored


@helper
def _left_to_reverse(work: Work, stored: I64) -> tuple[U64, U64]:
    known = len(work.known_rows)
    rows, sums, at = work.known_rows, work.known_reversed, stored
    if stored >= known:
        rows, sums, at = work.batch, work.reversed, stored - known
    return subtract(rows[at, 6], rows[at, 7], sums[at, 0], sums[at, 1])


@helper
def _refuse_state(tables: Tables, work: Work, i: I64) -> U64:
    debit = tables.accounts[work.debit_rows[i], FLAGS_WORD]
    credit = tables.accounts[work.credit_rows[i], FLAGS_WORD]
    if (debit | credit) & (CLOSED | FROZEN) == ZERO:
        return ACCEPTED
    if debit & CLOSED != ZERO:
        return _DEBIT_CLOSED
    if credit & CLOSED != ZERO:
        return _CREDIT_CLOSED
    return _DEBIT_FROZEN if debit & FROZEN != ZERO else _CREDIT_FROZEN


@helper
def _balanced(tables: Tables, work: Work, i: I64, low: U64, high: U64) -> tuple[U64, U64]:
    """Cut the amount of a balancing transfer down to what is available."""
    flags, accounts = flags_of(work.batch[i, 15]), tables.accounts
    if flags & _BALANCING == ZERO:
        return low, high
    balanced = work.debit_rows[i] if flags & _BALANCING_DEBIT != ZERO else work.credit_rows[i]
    if accounts[balanced, FLAGS_WORD] & TRANSIT != ZERO:
        return low, high  # that account's group does
    if flags & _BALANCING_DEBIT != ZERO:
        debit = work.debit_rows[i]
        most = available(accounts, debit, DEBITS_POSTED, DEBITS_RESERVED, CREDITS_POSTED, DEBIT_LIMITED)
    else:
        credit = work.credit_rows[i]
        most = available(accounts, credit, CREDITS_POSTED, CREDITS_RESERVED, DEBITS_POSTED, CREDIT_LIMITED)
    return most if less(most[0], most[1], low, high) else (low, high)


@helper
def _debit_overflows(accounts: Words, row: I64, low: U64, high: U64) -> bool:
    return overflows(accounts, row, DEBITS_POSTED, DEBITS_RESERVED, low, high)


@helper
def _credit_overflows(accounts: Words, row: I64, low: U64, high: U64) -> bool:
    return overflows(accounts, row, CREDITS_POSTED, CREDITS_RESERVED, low, high)


@helper
def _refuse_amount(tables: Tables, work: Work, i: I64, low: U64, high: U64) -> U64:
    """Judge bounds and limits. A REVERSE debits its credit account, and credits its debit account."""
    accounts = tables.accounts
    if kind_of(work.batch[i, 15]) != REVERSE:
        debited, credited = work.debit_rows[i], work.credit_rows[i]
        if _debit_overflows(accounts, debited, low, high):
            return _DEBIT_OVERFLOW
        if _credit_overflows(accounts, credited, low, high):
            return _CREDIT_OVERFLOW
    else:
        debited, credited = work.credit_rows[i], work.debit_rows[i]
        if _credit_overflows(accounts, credited, low, high):
            return _DEBIT_OVERFLOW
        if _debit_overflows(accounts, debited, low, high):
            return _CREDIT_OVERFLOW
    if flags_of(work.batch[i, 15]) & _FORCE != ZERO:
        return ACCEPTED
    if exceeds_limit(accounts, debited, DEBITS_POSTED, DEBITS_RESERVED, CREDITS_POSTED, DEBIT_LIMITED, low, high):
        return _short_if_bucket(accounts, debited, _INSUFFICIENT_FUNDS)
    if exceeds_limit(accounts, credited, CREDITS_POSTED, CREDITS_RESERVED, DEBITS_POSTED, CREDIT_LIMITED, low, high):
        return _short_if_bucket(accounts, credited, _CREDIT_LIMIT_EXCEEDED)
    return ACCEPTED


@outlined
def _short_if_bucket(accounts: Words, row: I64, reason: U64) -> U64:
    return reason | SHORT if accounts[row, FLAGS_WORD] & BUCKET != ZERO else reason


@outlined
def _short_of_balance(tables: Tables, work: Work, i: I64, refusal: U64) -> U64:
    """A bucket that covers a balancing transfer in part is short: other groups may have the rest."""
    row, reason = work.debit_rows[i], _INSUFFICIENT_FUNDS
    if flags_of(work.batch[i, 15]) & _BALANCING_DEBIT == ZERO:
        row, reason = work.credit_rows[i], _CREDIT_LIMIT_EXCEEDED
    return reason | SHORT if tables.accounts[row, FLAGS_WORD] & BUCKET != ZERO else refusal
