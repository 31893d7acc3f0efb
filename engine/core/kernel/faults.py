"""The faults of a request's records, compiled (`engine.core.validation` is the way in)."""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from engine.core.compiled import entry, helper
from engine.core.faults import Fault
from engine.core.kernel.arrays import U64_NUMBER, WORDS_TYPE, U64Array
from engine.core.kernel.u128 import FULL, I64, ONE, TOP_BIT, U64, ZERO
from engine.core.placement import hash_id
from engine.core.records import AccountFlag, Flag, Kind, Words

_RESERVE: Final = np.uint64(Kind.RESERVE)
_COMMIT: Final = np.uint64(Kind.COMMIT)
_RELEASE: Final = np.uint64(Kind.RELEASE)
_REVERSE: Final = np.uint64(Kind.REVERSE)
_POST: Final = np.uint64(Kind.POST)
_CREATE_ACCOUNT: Final = np.uint64(Kind.CREATE_ACCOUNT)
_UPDATE_ACCOUNT: Final = np.uint64(Kind.UPDATE_ACCOUNT)

_LINKED: Final = np.uint64(Flag.LINKED)
_BALANCING: Final = np.uint64(Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
_COMMIT_FLAGS: Final = np.uint64(Flag.LINKED | Flag.KEEP_REST)
_OTHER_FLAGS: Final = np.uint64(Flag.LINKED | Flag.FORCE)
_LIMITS: Final = np.uint64(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS)
_FROZEN: Final = np.uint64(AccountFlag.FROZEN)
_CLOSED: Final = np.uint64(AccountFlag.CLOSED)
_ACCOUNT_FLAGS: Final = _LIMITS | _FROZEN | _CLOSED

_M8: Final = np.uint64(0xFF)
_M16: Final = np.uint64(0xFFFF)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_24: Final = np.uint64(24)
_SHIFT_32: Final = np.uint64(32)
_SHIFT_48: Final = np.uint64(48)

_NONE: Final = int(Fault.NONE)
_KIND_UNKNOWN: Final = int(Fault.KIND_UNKNOWN)
_TIMESTAMP_NOT_ZERO: Final = int(Fault.TIMESTAMP_NOT_ZERO)
_OUTCOME_NOT_ZERO: Final = int(Fault.OUTCOME_NOT_ZERO)
_LEG_NOT_ZERO: Final = int(Fault.LEG_NOT_ZERO)
_ID_ZERO: Final = int(Fault.ID_ZERO)
_ID_ALL_ONES: Final = int(Fault.ID_ALL_ONES)
_DEBIT_ACCOUNT_ZERO: Final = int(Fault.DEBIT_ACCOUNT_ZERO)
_DEBIT_ACCOUNT_ALL_ONES: Final = int(Fault.DEBIT_ACCOUNT_ALL_ONES)
_CREDIT_ACCOUNT_ZERO: Final = int(Fault.CREDIT_ACCOUNT_ZERO)
_CREDIT_ACCOUNT_ALL_ONES: Final = int(Fault.CREDIT_ACCOUNT_ALL_ONES)
_ACCOUNTS_SAME: Final = int(Fault.ACCOUNTS_SAME)
_AMOUNT_ZERO: Final = int(Fault.AMOUNT_ZERO)
_AMOUNT_UNEXPECTED: Final = int(Fault.AMOUNT_UNEXPECTED)
_FOLLOWED_MISSING: Final = int(Fault.FOLLOWED_MISSING)
_FOLLOWED_UNEXPECTED: Final = int(Fault.FOLLOWED_UNEXPECTED)
_FOLLOWED_ITSELF: Final = int(Fault.FOLLOWED_ITSELF)
_FLAG_UNKNOWN: Final = int(Fault.FLAG_UNKNOWN)
_BALANCING_BOTH: Final = int(Fault.BALANCING_BOTH)
_BALANCING_OF_WRONG_KIND: Final = int(Fault.BALANCING_OF_WRONG_KIND)
_TIMEOUT_UNEXPECTED: Final = int(Fault.TIMEOUT_UNEXPECTED)
_ACCOUNT_LIMITED_BOTH_WAYS: Final = int(Fault.ACCOUNT_LIMITED_BOTH_WAYS)
_ACCOUNT_FLAG_RESERVED: Final = int(Fault.ACCOUNT_FLAG_RESERVED)
_ACCOUNT_CLOSED_AT_CREATION: Final = int(Fault.ACCOUNT_CLOSED_AT_CREATION)
_ACCOUNT_LIMIT_IN_UPDATE: Final = int(Fault.ACCOUNT_LIMIT_IN_UPDATE)
_OVERDRAFT_TOO_LARGE: Final = int(Fault.OVERDRAFT_TOO_LARGE)
_DEBIT_ACCOUNT_UNEXPECTED: Final = int(Fault.DEBIT_ACCOUNT_UNEXPECTED)
_CREDIT_ACCOUNT_UNEXPECTED: Final = int(Fault.CREDIT_ACCOUNT_UNEXPECTED)
_EFFECTIVE_AT_UNEXPECTED: Final = int(Fault.EFFECTIVE_AT_UNEXPECTED)
_EXPECTED_VERSION_ZERO: Final = int(Fault.EXPECTED_VERSION_ZERO)
_CHAIN_OPEN: Final = int(Fault.CHAIN_OPEN)
_ID_TWICE_IN_CHAIN: Final = int(Fault.ID_TWICE_IN_CHAIN)
_BALANCING_IN_CHAIN: Final = int(Fault.BALANCING_IN_CHAIN)
_CHAIN_INVALID: Final = int(Fault.CHAIN_INVALID)


@helper
def _kind(row: U64Array) -> U64:
    return (row[15] >> _SHIFT_16) & _M8


@helper
def _flags(row: U64Array) -> U64:
    return (row[15] >> _SHIFT_24) & _M8


@helper
def _is_zero(row: U64Array, word: I64) -> bool:
    return bool(row[word] | row[word + 1] == ZERO)


@helper
def _is_all_ones(row: U64Array, word: I64) -> bool:
    return bool(row[word] & row[word + 1] == FULL)


@helper
def _frame_fault(row: U64Array) -> I64:
    """Faults of the fields that all kinds share."""
    kind = _kind(row)
    if not (_POST <= kind <= _REVERSE or kind == _CREATE_ACCOUNT or kind == _UPDATE_ACCOUNT):
        return _KIND_UNKNOWN
    if row[13] != ZERO:
        return _TIMESTAMP_NOT_ZERO
    if (row[15] >> _SHIFT_32) & _M16 != ZERO:
        return _OUTCOME_NOT_ZERO
    if row[15] >> _SHIFT_48 != ZERO:
        return _LEG_NOT_ZERO
    if _is_zero(row, 0):
        return _ID_ZERO
    return _ID_ALL_ONES if _is_all_ones(row, 0) else _NONE


@helper
def _places_fault(row: U64Array) -> I64:
    if _is_zero(row, 2):
        return _DEBIT_ACCOUNT_ZERO
    if _is_all_ones(row, 2):
        return _DEBIT_ACCOUNT_ALL_ONES
    if _is_zero(row, 4):
        return _CREDIT_ACCOUNT_ZERO
    if _is_all_ones(row, 4):
        return _CREDIT_ACCOUNT_ALL_ONES
    return _ACCOUNTS_SAME if row[2] == row[4] and row[3] == row[5] else _NONE


@helper
def _amount_fault(row: U64Array) -> I64:
    if _kind(row) == _RELEASE:
        return _NONE if _is_zero(row, 6) else _AMOUNT_UNEXPECTED
    return _AMOUNT_ZERO if _is_zero(row, 6) else _NONE


@helper
def _followed_fault(row: U64Array) -> I64:
    if _kind(row) <= _RESERVE:
        return _NONE if _is_zero(row, 8) else _FOLLOWED_UNEXPECTED
    if _is_zero(row, 8):
        return _FOLLOWED_MISSING
    return _FOLLOWED_ITSELF if row[8] == row[0] and row[9] == row[1] else _NONE


@helper
def _flags_fault(row: U64Array) -> I64:
    kind, flags = _kind(row), _flags(row)
    known = _OTHER_FLAGS
    if kind == _COMMIT:
        known = _COMMIT_FLAGS
    elif kind == _RELEASE:
        known = _LINKED
    if flags & ~(known | _BALANCING) != ZERO:
        return _FLAG_UNKNOWN
    if flags & _BALANCING == _BALANCING:
        return _BALANCING_BOTH
    if flags & _BALANCING != ZERO and kind != _POST:
        return _BALANCING_OF_WRONG_KIND
    return _TIMEOUT_UNEXPECTED if kind != _RESERVE and row[14] >> _SHIFT_32 != ZERO else _NONE


@helper
def _transfer_fault(row: U64Array) -> I64:
    fault = _places_fault(row)
    if fault == _NONE:
        fault = _amount_fault(row)
    if fault == _NONE:
        fault = _followed_fault(row)
    return fault if fault != _NONE else _flags_fault(row)


@helper
def _account_flags_fault(row: U64Array) -> I64:
    flags, creates = _flags(row), _kind(row) == _CREATE_ACCOUNT
    if creates and row[14] >> _SHIFT_32 != ZERO:
        return _TIMEOUT_UNEXPECTED
    if flags & _LIMITS == _LIMITS:
        return _ACCOUNT_LIMITED_BOTH_WAYS
    if flags & ~_ACCOUNT_FLAGS != ZERO:
        return _ACCOUNT_FLAG_RESERVED
    if creates and flags & _CLOSED != ZERO:
        return _ACCOUNT_CLOSED_AT_CREATION
    return _ACCOUNT_LIMIT_IN_UPDATE if not creates and flags & _LIMITS != ZERO else _NONE


@helper
def _account_fault(row: U64Array) -> I64:
    creates = _kind(row) == _CREATE_ACCOUNT
    if not creates and _is_zero(row, 2):
        return _DEBIT_ACCOUNT_ZERO
    if not creates and _is_all_ones(row, 2):
        return _DEBIT_ACCOUNT_ALL_ONES
    if not _is_zero(row, 8):
        return _FOLLOWED_UNEXPECTED
    fault = _account_flags_fault(row)
    if fault != _NONE:
        return fault
    if row[7] >= TOP_BIT:
        return _OVERDRAFT_TOO_LARGE
    if creates and not _is_zero(row, 2):
        return _DEBIT_ACCOUNT_UNEXPECTED
    if not _is_zero(row, 4):
        return _CREDIT_ACCOUNT_UNEXPECTED
    if row[12] != ZERO:
        return _EFFECTIVE_AT_UNEXPECTED
    return _EXPECTED_VERSION_ZERO if not creates and row[14] >> _SHIFT_32 == ZERO else _NONE


@helper
def _own_fault(row: U64Array) -> I64:
    fault = _frame_fault(row)
    if fault != _NONE:
        return fault
    return _transfer_fault(row) if _kind(row) <= _REVERSE else _account_fault(row)


@helper
def _is_repeated(batch: Words, start: I64, i: I64, slots: npt.NDArray[np.uint32], seed: U64) -> bool:
    """List the id of leg `i`; return whether its chain had it already. Slots of earlier chains count as empty."""
    mask = np.uint64(len(slots) - 1)
    slot = hash_id(batch[i, 0], batch[i, 1], seed) & mask
    while np.int64(slots[slot]) > start:
        other = np.int64(slots[slot]) - 1
        if batch[other, 0] == batch[i, 0] and batch[other, 1] == batch[i, 1]:
            return True
        slot = (slot + ONE) & mask
    slots[slot] = np.uint32(i + 1)
    return False


@helper
def _judge_chain(
    batch: Words, start: I64, end: I64, slots: npt.NDArray[np.uint32], seed: U64, faults: npt.NDArray[np.uint16]
) -> None:
    """Add the faults of a chain as such, and spread whatever fault it has over all its legs."""
    last, faulty = batch[end - 1], False
    for i in range(start, end):
        if faults[i] == _NONE and i == end - 1 and _flags(last) & _LINKED != ZERO:
            faults[i] = _CHAIN_OPEN
        repeated = _is_repeated(batch, start, i, slots, seed)
        if faults[i] == _NONE and repeated:
            faults[i] = _ID_TWICE_IN_CHAIN
        if faults[i] == _NONE and _flags(batch[i]) & _BALANCING != ZERO:
            faults[i] = _BALANCING_IN_CHAIN
        faulty |= faults[i] != _NONE or (i == end - 1 and _flags(last) & _LINKED != ZERO)
    for i in range(start, end):
        if faulty and faults[i] == _NONE:
            faults[i] = _CHAIN_INVALID


_READ_ONLY_WORDS: Final = types.Array(types.uint64, 2, "C", readonly=True)
_SLOTS: Final = types.Array(types.uint32, 1, "C")
_FAULTS: Final = types.Array(types.uint16, 1, "C")


@entry([(words, _SLOTS, U64_NUMBER, _FAULTS) for words in (WORDS_TYPE, _READ_ONLY_WORDS)])
def find_faults(batch: Words, slots: npt.NDArray[np.uint32], seed: U64, faults: npt.NDArray[np.uint16]) -> None:
    """Fill `faults`, shape (n,). `slots`: zeros, a power of two above 2n. Legs are transfers, by kind below 64."""
    start = np.int64(0)
    for i in range(len(batch)):
        row = batch[i]
        faults[i] = _own_fault(row)
        is_transfer = _kind(row) < _CREATE_ACCOUNT
        goes_on = is_transfer and _flags(row) & _LINKED != ZERO
        followed = i + 1 < len(batch) and _kind(batch[i + 1]) < _CREATE_ACCOUNT
        if not (goes_on and followed):
            if goes_on or i > start:
                _judge_chain(batch, start, i + 1, slots, seed, faults)
            start = np.int64(i + 1)
