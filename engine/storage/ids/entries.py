"""The two families of entries that known ids are kept in, as u64 words; the first word orders them.

==========  =======  ==============================================================================================
family      words    meaning
==========  =======  ==============================================================================================
`IDS`       0        fingerprint: seeded hash of the transfer's id, never 0
            1        journal position of the stored row
`FOLLOWED`  0        fingerprint of the id of the transfer that is followed
            1,2      that id
            3,4      sum of what was reversed of it; of a reservation, what its expiry gave back
            5        position of its last follower << 8 | `Ended` as its followers leave it (0: a REVERSE)
==========  =======  ==============================================================================================

A transfer has one entry of `IDS`, for ever, and a cross-group chain that was secured here another one, under the
chain's id, for the first row of its COMMIT, HOLD or RELEASE. Those of `FOLLOWED` add up, however many there are for an
id, and the greatest `Ended` tells how a reservation ended: there is at most one RELEASED or EXPIRED, and then it was
not its COMMITs that ended it, whatever order they came in. Only followers that took effect, in a group that runs them
or decides, and EXPIRE rows, make one; REVERSEs where they are decided.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.chains.word import Step
from engine.core.known import Ended
from engine.core.placement import hash_id
from engine.core.records import FOLLOWERS, Kind, Words
from engine.storage.compiled import entry, helper


class Family(IntEnum):
    """Format of the store: append members, never renumber."""

    IDS = 1
    FOLLOWED = 2


WIDTH: Final = {Family.IDS: 2, Family.FOLLOWED: 6}
"""u64 words of one entry."""

POSITION_SHIFT: Final = np.uint64(8)
ENDED_MASK: Final = np.uint64(0xFF)

_BYTE: Final = np.uint64(0xFF)
_STEP_SHIFT: Final = np.uint64(61)
_KIND_SHIFT: Final = np.uint64(16)
_OUTCOME_SHIFT: Final = np.uint64(32)
_OUTCOME_MASK: Final = np.uint64(0xFFFF)
_EFFECT_MAX: Final = np.uint64(9)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_REVERSE: Final = np.uint64(Kind.REVERSE)
_RELEASE: Final = np.uint64(Kind.RELEASE)
_EXPIRE: Final = np.uint64(Kind.EXPIRE)
_CREATE: Final = np.uint64(Kind.CREATE_ACCOUNT)
_UPDATE: Final = np.uint64(Kind.UPDATE_ACCOUNT)
_FIRST_FOLLOWER: Final = np.uint64(Kind.COMMIT)
_LAST_FOLLOWER: Final = np.uint64(Kind.REVERSE)
_COMMITTED: Final = np.uint64(Ended.COMMITTED)
_RELEASED: Final = np.uint64(Ended.RELEASED)
_EXPIRED: Final = np.uint64(Ended.EXPIRED)
_FIRST_CALLER: Final = np.uint64(Kind.POST)
_STEP_NONE: Final = np.uint64(Step.NONE)
_STEP_RESERVE: Final = np.uint64(Step.RESERVE)
_STEP_DECIDE: Final = np.uint64(Step.DECIDE)
_STEP_ABORT: Final = np.uint64(Step.ABORT)

if frozenset(range(Kind.COMMIT, Kind.REVERSE + 1)) != FOLLOWERS or min(FOLLOWERS) != Kind.RESERVE + 1:
    raise AssertionError("the followers are the kinds COMMIT to REVERSE, behind POST and RESERVE")


@helper
def fingerprint(low: np.uint64, high: np.uint64, seed: np.uint64) -> np.uint64:
    """Hash an id; 0 is kept for "no entry"."""
    key = hash_id(low, high, seed)
    return key if key != _ZERO else _ONE


@helper
def _has_own_id(kind: np.uint64) -> bool:
    return bool((kind >= _FIRST_CALLER and kind <= _LAST_FOLLOWER) or kind == _UPDATE)


@helper
def _is_first(meta: np.uint64) -> bool:
    """Whether a row is local, or of a step that may be the first of its chain here."""
    step = meta >> _STEP_SHIFT
    return bool(step in (_STEP_NONE, _STEP_RESERVE, _STEP_DECIDE, _STEP_ABORT))


@entry("UniTuple(i8, 2)(u8[:, ::1], u8, u8[::1], u8[::1])")
def fingerprints(
    batch: Words, seed: np.uint64, own: npt.NDArray[np.uint64], followed: npt.NDArray[np.uint64]
) -> tuple[int, int]:
    """Fill `own` and `followed`, shape (n,), with the fingerprints of a batch's ids, 0 where a kind has none of that
    sort; return the numbers of followers and of CREATE_ACCOUNTs."""
    followers, creates = 0, 0
    for row in range(len(batch)):
        kind = (batch[row, 15] >> _KIND_SHIFT) & _BYTE
        own[row] = fingerprint(batch[row, 0], batch[row, 1], seed) if _has_own_id(kind) else _ZERO
        followed[row] = _ZERO
        if kind >= _FIRST_FOLLOWER and kind <= _LAST_FOLLOWER:
            followed[row] = fingerprint(batch[row, 8], batch[row, 9], seed)
            followers += 1
        creates += int(kind == _CREATE)
    return followers, creates


@entry("void(u8[:, ::1], u8, u8[::1])")
def fingerprints_of(ids: Words, seed: np.uint64, keys: npt.NDArray[np.uint64]) -> None:
    """Fill `keys`, shape (n,), with the fingerprints of ids of shape (n, 2)."""
    for number in range(len(ids)):
        keys[number] = fingerprint(ids[number, 0], ids[number, 1], seed)


@entry("i8(u8[:, ::1], u8, u8, u8[:, ::1])")
def id_entries(rows: Words, first_position: np.uint64, seed: np.uint64, entries: Words) -> int:
    """Write the `IDS` entries of one block's rows into `entries`, shape (>= k, 2); return their number."""
    count = 0
    for row in range(len(rows)):
        if _has_own_id((rows[row, 15] >> _KIND_SHIFT) & _BYTE) and _is_first(rows[row, 15]):
            entries[count, 0] = fingerprint(rows[row, 0], rows[row, 1], seed)
            entries[count, 1] = first_position + np.uint64(row)
            count += 1
    return count


@entry("i8(u8[:, ::1], u8, u8, u8[:, ::1])")
def followed_entries(rows: Words, first_position: np.uint64, seed: np.uint64, entries: Words) -> int:
    """Write the `FOLLOWED` entries of one block's rows, one for each follower that took effect and each EXPIRE, into
    `entries`, shape (>= k, 6); return their number."""
    count = 0
    for row in range(len(rows)):
        kind = (rows[row, 15] >> _KIND_SHIFT) & _BYTE
        outcome = (rows[row, 15] >> _OUTCOME_SHIFT) & _OUTCOME_MASK
        step = rows[row, 15] >> _STEP_SHIFT
        expires = kind == _EXPIRE
        follows = kind >= _FIRST_FOLLOWER and kind <= _LAST_FOLLOWER and outcome >= _ONE and outcome <= _EFFECT_MAX
        if step == _STEP_RESERVE or (kind == _REVERSE and step not in (_STEP_NONE, _STEP_DECIDE)):
            follows = False
        if not expires and not follows:
            continue
        low, high = (rows[row, 0], rows[row, 1]) if expires else (rows[row, 8], rows[row, 9])
        entry = entries[count]
        entry[0], entry[1], entry[2], entry[3], entry[4] = fingerprint(low, high, seed), low, high, _ZERO, _ZERO
        ended = _COMMITTED
        if expires:
            ended = _EXPIRED
            entry[3], entry[4] = rows[row, 6], rows[row, 7]
        elif kind == _RELEASE:
            ended = _RELEASED
        elif kind == _REVERSE:
            ended = _ZERO
            entry[3], entry[4] = rows[row, 6], rows[row, 7]
        entry[5] = ((first_position + np.uint64(row)) << POSITION_SHIFT) | ended
        count += 1
    return count
