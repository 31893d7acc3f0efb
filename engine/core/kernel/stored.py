"""Stored records in the compiled kernel: those of the store (`Known`) and those that this batch has stored so far."""

from typing import Final

import numpy as np

from engine.core.chains.word import State
from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import M16, M32, SHIFT_32
from engine.core.kernel.arrays import ASKED_OTHERWISE, FIRST_POSITION, FIRST_TIMESTAMP, Tables, Work
from engine.core.kernel.u128 import FULL, I64, ONE, U8, U64, ZERO
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Flag, Kind

_M8: Final = np.uint64(0xFF)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_24: Final = np.uint64(24)
_SHIFT_48: Final = np.uint64(48)
_LEG_MASK: Final = np.uint64(0x1FFF)
_ELSEWHERE: Final = np.uint64(ResultFlag.DECIDED_ELSEWHERE)
_SHORT: Final = np.uint64(ResultFlag.SHORT)
_NONE: Final = np.uint8(State.NONE)
_U32_ONE: Final = np.uint32(1)
_LINKED: Final = np.uint64(Flag.LINKED)
_REPLAYED: Final = np.uint64(ResultFlag.REPLAYED)
_FIRST_ACCOUNT_KIND: Final = np.uint64(Kind.CREATE_ACCOUNT)
_UPDATE_ACCOUNT: Final = np.uint64(Kind.UPDATE_ACCOUNT)

_KIND: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_KIND)
_LEDGER: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_LEDGER)
_DEBIT_ACCOUNT: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT)
_CREDIT_ACCOUNT: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT)
_AMOUNT: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT)
_FOLLOWED_ID: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID)
_FLAGS: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_FLAGS)
_TIMEOUT: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_TIMEOUT)
_CODE: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_CODE)
_REFERENCE: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_REFERENCE)
_EFFECTIVE_AT: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT)
_CHAIN: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN)
_EXPECTED_VERSION: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_EXPECTED_VERSION)


@helper
def kind_of(meta: U64) -> U64:
    """Return the kind in word 15 of a record."""
    return (meta >> _SHIFT_16) & _M8


@helper
def flags_of(meta: U64) -> U64:
    """Return the flags in word 15 of a record."""
    return (meta >> _SHIFT_24) & _M8


@helper
def outcome_of(meta: U64) -> U64:
    """Return the outcome in word 15 of a stored record."""
    return (meta >> SHIFT_32) & M16


@helper
def leg_of(meta: U64) -> U64:
    """Return the leg in word 15 of a stored record."""
    return (meta >> _SHIFT_48) & _LEG_MASK


@helper
def stored_meta(work: Work, stored: I64) -> U64:
    """Return word 15 of a stored record."""
    known = len(work.known_rows)
    return work.known_rows[stored, 15] if stored < known else work.batch[stored - known, 15]


@helper
def stored_position(work: Work, stored: I64) -> U64:
    """Return the journal position of a stored record."""
    known = len(work.known_rows)
    if stored < known:
        return work.known_positions[stored]
    return work.counts[FIRST_POSITION] + np.uint64(stored - known)


@helper
def stored_word(work: Work, stored: I64) -> U8:
    """Return the `State` of the word for the chain of a stored record; NONE if it is local."""
    known = len(work.known_rows)
    if stored < known:
        return work.known_word[stored]
    return work.row_word[stored - known] if len(work.row_word) else _NONE


@helper
def stored_asked(work: Work, stored: I64) -> tuple[U64, U64]:
    """Return the amount that a stored record asked for."""
    known = len(work.known_rows)
    if stored < known:
        return work.known_requested[stored, 0], work.known_requested[stored, 1]
    return work.asked[stored - known, 0], work.asked[stored - known, 1]


@helper
def ends_chain(work: Work, stored: I64, at: I64) -> bool:
    """Whether a stored record is its chain's last leg, or alone; `at` rows of this batch are stored."""
    known = len(work.known_rows)
    if stored < known:
        return bool(work.known_last[stored])
    following = stored - known + 1
    return bool(following == at or leg_of(work.batch[following, 15]) == ZERO)


@helper
def find_in_batch(work: Work, digest: U64, low: U64, high: U64) -> I64:
    """Return the record that this batch has stored under the id, or -1."""
    mask = np.uint64(len(work.id_slots) - 1)
    slot = digest & mask
    while work.id_slots[slot] != 0:
        row = np.int64(work.id_slots[slot]) - 1
        if work.batch[row, 0] == low and work.batch[row, 1] == high:
            return row + len(work.known_rows)
        slot = (slot + ONE) & mask
    return np.int64(-1)


@helper
def list_in_batch(work: Work, digest: U64, at: I64) -> None:
    """Let `find_in_batch` find row `at`, unless it has one of that id already."""
    mask = np.uint64(len(work.id_slots) - 1)
    slot = digest & mask
    while work.id_slots[slot] != 0:
        slot = (slot + ONE) & mask
    work.id_slots[slot] = np.uint32(at + 1)


@helper
def answer(work: Work, i: I64, position: U64, timestamp_ns: U64, outcome: U64, group: U64) -> None:
    """Fill the result of record `i`; `outcome` carries the result's flags from bit 16 on."""
    work.results[i, 0] = position
    work.results[i, 1] = timestamp_ns
    work.results[i, 2] = outcome | (group << SHIFT_32)


@helper
def answer_replayed(work: Work, i: I64, stored: I64, group: U64) -> None:
    """Give the stored answer again."""
    known = len(work.known_rows)
    timestamp_ns = work.known_rows[stored, 13] if stored < known else work.batch[stored - known, 13]
    outcome = outcome_of(stored_meta(work, stored)) | (_REPLAYED << _SHIFT_16)
    answer(work, i, stored_position(work, stored), timestamp_ns, outcome, group)


@helper
def answer_unstored(work: Work, i: I64, outcome: U64, group: U64) -> None:
    """Answer a conflict, or a refused CREATE_ACCOUNT: nothing is stored."""
    answer(work, i, FULL, ZERO, outcome, group)


@helper
def answer_elsewhere(work: Work, i: I64, decider: I64) -> None:
    """Say which group decides; nothing is stored."""
    answer(work, i, FULL, ZERO, _ELSEWHERE << _SHIFT_16, np.uint64(decider))


@helper
def unlist_in_batch(work: Work, digest: U64, at: I64) -> None:
    """Take back the latest `list_in_batch`, of row `at`: nothing was put behind it."""
    mask = np.uint64(len(work.id_slots) - 1)
    slot = digest & mask
    while work.id_slots[slot] != np.uint32(at + 1):
        slot = (slot + ONE) & mask
    work.id_slots[slot] = np.uint32(0)


@helper
def answer_short(work: Work, i: I64, leg: I64, reason: U64, group: U64) -> None:
    """Say which leg of its unit a bucket is short for, and why; nothing is stored."""
    answer(work, i, np.uint64(leg), reason, _SHORT << _SHIFT_16, group)


@helper
def store(tables: Tables, work: Work, i: I64, at: I64, outcome: U64, leg: U64, group: U64) -> None:
    """Make record `i` the journal row `at` of the block, to be found by its id, and its answer."""
    store_row(tables, work, i, at, outcome, leg, group)
    list_in_batch(work, work.hashes[i], at)


@helper
def store_row(tables: Tables, work: Work, i: I64, at: I64, outcome: U64, leg: U64, group: U64) -> None:
    """As `store`, but not to be found by its id."""
    batch = work.batch
    if i != at:
        for word in range(16):
            batch[at, word] = batch[i, word]
    work.asked[at, 0], work.asked[at, 1] = batch[at, 6], batch[at, 7]
    timestamp_ns = work.counts[FIRST_TIMESTAMP] + np.uint64(at)
    batch[at, 13] = timestamp_ns
    batch[at, 15] = (batch[at, 15] & M32) | (outcome << SHIFT_32) | (leg << _SHIFT_48)
    answer(work, i, work.counts[FIRST_POSITION] + np.uint64(at), timestamp_ns, outcome, group)


@helper
def set_moved(work: Work, at: I64, low: U64, high: U64) -> None:
    """Let row `at` say what moved."""
    if work.batch[at, 6] != low or work.batch[at, 7] != high:
        work.batch[at, 6], work.batch[at, 7] = low, high
        work.counts[ASKED_OTHERWISE] = ONE


@outlined
def refuse_stored(work: Work, i: I64, at: I64, outcome: U64, group: U64) -> None:
    """Turn the stored row `at` of record `i` into a refusal: its chain was rolled back."""
    work.batch[at, 6], work.batch[at, 7] = work.asked[at, 0], work.asked[at, 1]
    work.batch[at, 15] = (work.batch[at, 15] & ~(M16 << SHIFT_32)) | (outcome << SHIFT_32)
    work.results[i, 2] = outcome | (group << SHIFT_32)


@outlined
def conflict(work: Work, i: I64, stored: I64) -> U64:
    """Compare record `i` with the stored record of its id: the first field that differs, as an outcome; 0 if none does.

    Fields in the order of the outcomes' numbers; of the chain only LINKED is seen here.
    """
    row, known = work.batch[i], len(work.known_rows)
    old = work.known_rows[stored] if stored < known else work.batch[stored - known]
    meta, old_meta = row[15], old[15]
    ledger_timeout = row[14] ^ old[14]
    flags = flags_of(meta) ^ flags_of(old_meta)
    asked_low, asked_high = stored_asked(work, stored)
    if kind_of(meta) != kind_of(old_meta):
        return _KIND
    if ledger_timeout & M32 != ZERO:
        return _LEDGER
    if row[2] != old[2] or row[3] != old[3]:
        return _DEBIT_ACCOUNT
    if row[4] != old[4] or row[5] != old[5]:
        return _CREDIT_ACCOUNT
    if row[6] != asked_low or row[7] != asked_high:
        return _AMOUNT
    if row[8] != old[8] or row[9] != old[9]:
        return _FOLLOWED_ID
    is_transfer = kind_of(meta) < _FIRST_ACCOUNT_KIND
    if flags & ~_LINKED != ZERO or (flags != ZERO and not is_transfer):
        return _FLAGS
    if ledger_timeout != ZERO:
        return _EXPECTED_VERSION if kind_of(meta) == _UPDATE_ACCOUNT else _TIMEOUT
    if (meta ^ old_meta) & M16 != ZERO:
        return _CODE
    if row[10] != old[10] or row[11] != old[11]:
        return _REFERENCE
    if row[12] != old[12]:
        return _EFFECTIVE_AT
    return _CHAIN if flags != ZERO else ZERO
