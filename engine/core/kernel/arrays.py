"""What the compiled kernel works on: the book's arrays (`Tables`) and one batch's arrays (`Work`), with their types."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from engine.core.records import Words

U64Array = npt.NDArray[np.uint64]

# Words of `Tables.counters`.
ACCOUNT_COUNT: Final = 0
RESERVATION_COUNT: Final = 1
"""Open reservations."""
RESERVATION_HIGH: Final = 2
"""Rows of the reservation table in use or free: all below this number."""
FREE_COUNT: Final = 3
DEADLINE_COUNT: Final = 4
LAST_TIMESTAMP: Final = 5
"""Of the last journal row."""
NEXT_POSITION: Final = 6
HASH_SEED: Final = 7
GROUP: Final = 8
CHAIN_COUNT: Final = 9
"""Open chains: secured here, waiting for their decider's word."""
CHAIN_HIGH: Final = 10
CHAIN_FREE_COUNT: Final = 11
COUNTERS: Final = 12

# Words of `Work.counts`.
RECORD_TIME: Final = 0
FIRST_POSITION: Final = 1
"""Journal position of the batch's row 0: behind the expiries."""
FIRST_TIMESTAMP: Final = 2
UNDO_COUNT: Final = 3
INCONSISTENT: Final = 4
"""Set where `Known` and the book contradict each other; apply then ends the process."""
ASKED_OTHERWISE: Final = 5
"""Rows whose amount moved differs from the one asked for (a hint: never too low)."""
COUNTS: Final = 6


class Tables(NamedTuple):
    """The book's arrays; the layouts are in `engine.core.book`."""

    accounts: Words
    account_slots: U64Array
    reservations: Words
    reservation_slots: U64Array
    free_reservations: U64Array
    deadlines: U64Array
    slot_is_ours: npt.NDArray[np.bool_]
    ledgers: U64Array
    dirty_accounts: npt.NDArray[np.uint8]
    dirty_reservations: npt.NDArray[np.uint8]
    counters: U64Array
    chains: Words
    chain_slots: U64Array
    free_chains: U64Array


class Work(NamedTuple):
    """One batch of n records: what is known about it, and what becomes of it.

    A *stored* record is named by one i64: below m, a row of `known_rows`; from m on, m + the row of `batch` that it
    became. Row `at` of `batch` is the journal row; as every record becomes at most one row, `at` never passes the
    record that is being read, and the batch turns into the journal block in place.
    """

    batch: Words
    results: U64Array
    """Shape (n, 3): `known.RESULT` as words."""
    id_row: npt.NDArray[np.int64]
    followed_row: npt.NDArray[np.int64]
    known_rows: Words
    known_positions: U64Array
    known_requested: U64Array
    known_last: npt.NDArray[np.bool_]
    known_ended: npt.NDArray[np.uint8]
    known_reversed: U64Array
    hashes: U64Array
    """Shape (n,): of the records' ids."""
    debit_rows: npt.NDArray[np.int64]
    """Shape (n,): row of the debit account (CREATE_ACCOUNT: of the account), or `UNKNOWN`, or `ELSEWHERE`."""
    credit_rows: npt.NDArray[np.int64]
    stored: npt.NDArray[np.int64]
    """Shape (n,): the stored record with this id, or -1."""
    asked: U64Array
    """Shape (n, 2), by row: the amount asked for."""
    ended: npt.NDArray[np.uint8]
    """Shape (n,), by row: `Ended` of the RESERVEs among them."""
    reversed: U64Array
    """Shape (n, 2), by row: sum of what was reversed of it."""
    id_slots: npt.NDArray[np.uint32]
    """Hash table of the ids stored by this batch: row + 1, or 0."""
    undo: U64Array
    counts: U64Array
    known_word: npt.NDArray[np.uint8]
    known_digest: U64Array
    known_sides: npt.NDArray[np.uint16]
    known_decider: npt.NDArray[np.uint16]
    row_word: npt.NDArray[np.uint8]
    """Shape (n,), by row: `word.State` of the cross-group chain that it is of. Of EVENTS: empty, as all is local."""
    row_step: npt.NDArray[np.int64]
    """Shape (n,), by row: the number of the step that stored it. Of EVENTS: empty."""
    sides: npt.NDArray[np.uint16]
    """Shape (n, 2), by record, then by row. Of EVENTS: empty."""


class Steps(NamedTuple):
    """What the steps of one STEPS record are, and what becomes of them; s steps of n rows."""

    steps: U64Array
    """Shape (s, 8): `step_record.STEP` as words."""
    given_back: U64Array
    """Shape (n, 2), by record, then by row."""
    answers: U64Array
    """Shape (s, 6): `step_answers.ANSWER` as words."""
    changed: npt.NDArray[np.bool_]
    """Shape (s,)."""
    nets: U64Array
    """Scratch: per account of one chain, its row, what it takes (low, high) and what it brings; then per ledger."""
    net_slots: npt.NDArray[np.uint32]
    """Scratch: hash table of the accounts' rows; zeros between chains."""


UNKNOWN: Final = np.int64(-1)
"""An account that this group should have, and has not."""
ELSEWHERE: Final = np.int64(-2)
"""An account whose slot belongs to another group."""
NOT_RUN: Final = np.int64(-3)
"""A side of a leg that this group does not run at all."""

_U64_1: Final = types.Array(types.uint64, 1, "C")
_U64_2: Final = types.Array(types.uint64, 2, "C")
_I64_1: Final = types.Array(types.int64, 1, "C")
_U32_1: Final = types.Array(types.uint32, 1, "C")
_U16_1: Final = types.Array(types.uint16, 1, "C")
_U16_2: Final = types.Array(types.uint16, 2, "C")
_U8_1: Final = types.Array(types.uint8, 1, "C")
_BOOL_1: Final = types.Array(types.boolean, 1, "C")

WORDS_TYPE: Final = _U64_2
U64_TYPE: Final = _U64_1
I64_TYPE: Final = _I64_1
U64_NUMBER: Final = types.uint64
I64_NUMBER: Final = types.int64
TABLES_TYPE: Final = types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        *(_U64_2, _U64_1, _U64_2, _U64_1, _U64_1, _U64_2, _BOOL_1, _U64_1, _U8_1, _U8_1, _U64_1),
        *(_U64_2, _U64_1, _U64_1),
    ],
    Tables,
)
WORK_TYPE: Final = types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        *(_U64_2, _U64_2, _I64_1, _I64_1, _U64_2, _U64_1, _U64_2, _BOOL_1, _U8_1, _U64_2),
        *(_U64_1, _I64_1, _I64_1, _I64_1, _U64_2, _U8_1, _U64_2, _U32_1, _U64_2, _U64_1),
        *(_U8_1, _U64_2, _U16_2, _U16_1, _U8_1, _I64_1, _U16_2),
    ],
    Work,
)
STEPS_TYPE: Final = types.NamedTuple([_U64_2, _U64_2, _U64_2, _BOOL_1, _U64_2, _U32_1], Steps)  # type: ignore[no-untyped-call]
