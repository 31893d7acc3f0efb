"""What passes between storage and the kernel: what is known about a batch's ids (load), and what was decided (save)."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

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
    """Shape (n,): index into `rows` of the stored record with this record's id; -1 if the id is new."""
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
    """Shape (m,): this row is the last leg of its chain, or stands alone: the next row of its block has leg 0, or there
    is none. (Not the LINKED flag: a chain that met a known id is stored without that leg.)"""
    ended: npt.NDArray[np.uint8]
    """Shape (m,): for a RESERVE that took effect and is no longer open: `Ended`; 0 otherwise. Writable."""
    reversed: Words
    """Shape (m, 2): for a POST or COMMIT that took effect: sum of what was reversed of it so far. Writable."""


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


def nothing_known(records: int) -> Known:
    """Return what is known where no id was ever seen: for a first batch, and for tests."""
    none = np.full(records, -1, np.int64)
    return Known(
        none,
        none.copy(),
        np.empty((0, 16), np.uint64),
        np.empty(0, np.uint64),
        np.empty((0, 2), np.uint64),
        np.empty(0, np.bool_),
        np.empty(0, np.uint8),
        np.empty((0, 2), np.uint64),
    )
