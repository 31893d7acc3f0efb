"""What passes between storage and the kernel: what is known about a batch's ids (load), and what was decided (save).

Rows of cross-group chains say in the three top bits of `leg` which step stored them (`engine.core.chains.word.Step`;
zero for all that is local). The first row of an id is that of a RESERVE, DECIDE or ABORT, or a local one, and it is the
one that `Known` is about; rows of COMMIT, HOLD, RELEASE and EXPIRE have the id of a leg that is on record already.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import StepAnswers
from engine.core.chains.step_record import Sides
from engine.core.records import Words

I64: Final = np.int64


class Known(NamedTuple):
    """What the store knows about the ids that a batch of n records mentions; m stored rows in all. Built by storage.

    Only stored transfers and UPDATE_ACCOUNTs count (outcomes, posted or refused), and, for a CREATE_ACCOUNT whose
    account is in the `Book`, the CREATE_ACCOUNT row that made it (its position is word 15 of the account's row). EXPIRE
    and SETTINGS rows never count. *Open* reservations are in the `Book`. Records of the same batch are not known yet:
    the kernel finds those by itself. Each stored row is in `rows` once, however many records name it, because the
    kernel sums up in `ended` and `reversed` as it goes.
    """

    id_row: npt.NDArray[np.int64]
    """Shape (n,): index into `rows` of the first stored record with this record's id; -1 if the id is new."""
    followed_row: npt.NDArray[np.int64]
    """Shape (n,): for COMMIT, RELEASE, REVERSE: index into `rows` of the stored record with the followed id; -1 if
    none, and for all other kinds. Filled for open reservations too."""
    rows: Words
    """Shape (m, 16): journal rows as stored (outcome, leg, timestamp set; the amount is what moved)."""
    positions: npt.NDArray[np.uint64]
    """Shape (m,): journal positions of `rows`."""
    requested: Words
    """Shape (m, 2): the amount asked for (low, high): differs from the row's for BALANCING and COMMIT of all."""
    chain_last: npt.NDArray[np.bool_]
    """Shape (m,): this row is the last leg of its chain, or stands alone: the next row of its block is not the next leg
    of the same step. (Not the LINKED flag: a chain that met a known id is stored without that leg.)"""
    ended: npt.NDArray[np.uint8]
    """Shape (m,): for a RESERVE that took effect and is no longer open: `Ended`; 0 otherwise. In a group that does not
    decide its chain it took effect when the word became HELD. Writable."""
    reversed: Words
    """Shape (m, 2): for a POST or COMMIT that took effect: sum of what was reversed of it so far, in its decider's log
    (local REVERSEs, and those of DECIDE; not those of RESERVE or COMMIT). Writable."""
    word: npt.NDArray[np.uint8]
    """Shape (m,): `engine.core.chains.word.State` of this group's word for the cross-group chain that the row is of;
    NONE for local rows. Writable."""
    digest: Words
    """Shape (m, 2): of that chain; zeros for local rows."""
    sides: npt.NDArray[np.uint16]
    """Shape (m, 2): the groups of the row's debit and credit account; for local rows, this group twice."""
    decider: npt.NDArray[np.uint16]
    """Shape (m,): of that chain; for local rows, this group."""


class Ended:
    """How a reservation ended (u8)."""

    OPEN: Final = 0
    COMMITTED: Final = 1
    RELEASED: Final = 2
    EXPIRED: Final = 3


RESULT: Final = np.dtype(
    [("position", "<u8"), ("timestamp", "<u8"), ("outcome", "<u2"), ("flags", "<u2"), ("group", "<u4")]
)
"""One answer, 24 bytes, in the order of the request; also the packed result on the wire. `position` is the journal
position of the stored record (2^64-1, with timestamp 0, where nothing is stored: a conflict, or a refused
CREATE_ACCOUNT)."""

NO_POSITION: Final = (1 << 64) - 1


class Applied(NamedTuple):
    """What one log record did: the journal block to append, and the answers."""

    rows: Words
    """Shape (k, 16): the journal rows in order: expiries first, then every record that stored an outcome."""
    requested_index: npt.NDArray[np.uint32]
    """Shape (r,): indices into `rows` whose requested amount differs from the amount that moved (sparse)."""
    requested_amount: Words
    """Shape (r, 2)."""
    results: npt.NDArray[np.void]
    """Shape (n,), dtype `RESULT`: one answer per record of the batch, in its order."""
    timestamp_ns: int
    """The record's time as applied: the header's, clamped to be after everything before it."""


class AppliedSteps(NamedTuple):
    """What one STEPS record did: the journal block to append, and the answers."""

    rows: Words
    """Shape (k, 16): the journal rows in order: expiries first, then those of every step that changed something."""
    requested_index: npt.NDArray[np.uint32]
    """Shape (r,): indices into `rows` whose requested amount differs from the amount in the row (sparse)."""
    requested_amount: Words
    """Shape (r, 2)."""
    extra: bytes
    """For the journal block: the payload (`engine.core.chains.step_record`) of the steps that changed something, for
    the rows behind the expiries, with the amounts as they became. b"" if there are none."""
    answers: StepAnswers
    """One for each step, in its order. Those of steps that changed something are complete, but EXPIRE's. The others
    have `ON_RECORD` set, and `position` is that of a stored row whose chain's word is the answer (`NO_POSITION`: this
    group has none); storage completes them, and EXPIRE's, as it answers ASK."""
    changed: npt.NDArray[np.bool_]
    """Shape (s,): the steps that changed something."""
    timestamp_ns: int
    """The record's time as applied: the header's, clamped to be after everything before it."""


def of_one_group(rows: int, group: int) -> tuple[npt.NDArray[np.uint8], Words, Sides, npt.NDArray[np.uint16]]:
    """Return the last four fields of `Known` for rows that are all local."""
    own = np.full((rows, 3), group, np.uint16)
    return np.zeros(rows, np.uint8), np.zeros((rows, 2), np.uint64), own[:, :2].copy(), own[:, 2].copy()


def nothing_known(records: int) -> Known:
    """Return what is known where no id was ever seen: for a first batch, and for tests."""
    none = np.full(records, -1, np.int64)
    return Known(none, none, *_NO_ROWS)


_NO_ROWS: Final = (
    np.empty((0, 16), np.uint64),
    np.empty(0, np.uint64),
    np.empty((0, 2), np.uint64),
    np.empty(0, np.bool_),
    np.empty(0, np.uint8),
    np.empty((0, 2), np.uint64),
    *of_one_group(0, 0),
)
"""The fields of `Known` but the first two, of no rows: nobody can change them, and a lone post has nothing else."""
