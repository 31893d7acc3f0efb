"""The fast implementation of the rules: a log record's batch applied to a book (DESIGN §6), and journal rows replayed.

`apply_events` and `apply_settings` are pure functions of (book, record, what is known): they cannot refuse a record,
only answer it. What must not be raises `EngineStopped(APPLY_FAILED)` before it could fork the state.
"""

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.kernel.apply import apply_batch, scan_batch
from engine.core.kernel.arrays import (
    ASKED_OTHERWISE,
    COUNTS,
    DEADLINE_COUNT,
    FIRST_POSITION,
    FIRST_TIMESTAMP,
    INCONSISTENT,
    LAST_TIMESTAMP,
    NEXT_POSITION,
    RECORD_TIME,
    Work,
)
from engine.core.kernel.replay import replay
from engine.core.kernel.reservations import expire_due
from engine.core.kernel.undo import UNDO_PER_LEG, UNDO_WORDS
from engine.core.known import RESULT, Applied, Known
from engine.core.outcomes import Outcome
from engine.core.records import RECORD_WORDS, Kind, Words
from engine.core.settings import Settings, check_change
from engine.exit_codes import ExitCode, require

Scalar = TypeVar("Scalar", bound=np.generic)

_TIMESTAMP_MAX: Final = 1 << 63
_EXPIRY_ROWS: Final = 1024
_NO_ROWS: Final[Words] = np.empty((0, RECORD_WORDS), np.uint64)
_AS_ASKED: Final = (np.empty(0, np.uint32), np.empty((0, 2), np.uint64))
_SETTINGS_META: Final = (Outcome.POSTED << 32) | (Kind.SETTINGS << 16)


class Ready(NamedTuple):
    """An EVENTS batch with all that judging it takes. The book knows nothing of it yet."""

    work: Work
    unknown: int
    """Records of kinds that no caller may send."""
    creates: int
    """Accounts that it makes, at most."""
    reserves: int
    """Reservations that it makes, at most."""


def make_ready(batch: Words, known: Known) -> Ready:
    """Lay out a batch, shape (n, 16), C-contiguous and writable, for `apply_ready`. It is not changed, nor is `known`;
    both must be true still when it is applied."""
    unknown, creates, reserves, longest = scan_batch(batch)
    return Ready(work_on(batch, known, longest), unknown, creates, reserves)


def apply_events(book: Book, batch: Words, known: Known, timestamp_ns: int) -> Applied:
    """Apply one EVENTS record: expire what is due at its time, then judge its records in order.

    `batch`, shape (n, 16), C-contiguous and writable, turns into the journal rows in place; `Applied.rows` may be a
    view of it. `known` says what the store has of its ids; `known.ended` and `known.reversed` are written to.
    `timestamp_ns` is the header's; what was applied is in the answer, clamped to be after the last journal row. The
    records are valid (`engine.core.validation`). Raises `EngineStopped(APPLY_FAILED)` on a kind that no caller may
    send, and if `known` lacks what the book refers to.
    """
    return apply_ready(book, make_ready(batch, known), timestamp_ns)


def apply_ready(book: Book, ready: Ready, timestamp_ns: int) -> Applied:
    """Apply one EVENTS record that was made ready: see `apply_events`."""
    work = ready.work
    require(ready.unknown == 0, ExitCode.APPLY_FAILED, UNKNOWN_KIND)
    time_ns = record_time(book, timestamp_ns)
    expired = expire(book, time_ns)
    book.ensure_room(ready.creates, ready.reserves)
    begin(book, work, time_ns, len(expired))
    stored = apply_batch(book.tables, work)
    require(work.counts[INCONSISTENT] == 0, ExitCode.APPLY_FAILED, KNOWN_LACKS)
    rows = work.batch[:stored] if not len(expired) else np.concatenate((expired, work.batch[:stored]))
    advance(book, rows)
    index, amount = asked_otherwise(work, stored, len(expired))
    return Applied(rows, index, amount, np.frombuffer(work.results, RESULT), time_ns)


def apply_settings(book: Book, settings: Settings, timestamp_ns: int) -> Applied:
    """Apply one SETTINGS record: a single journal row marks it, and there is nobody to answer.

    Raises `EngineStopped(APPLY_FAILED)` if `settings.check_change` finds fault: check before proposing.
    """
    fault = check_change(book.settings, settings)
    require(fault is None, ExitCode.APPLY_FAILED, f"the logged settings cannot follow those in force: {fault}")
    time_ns = record_time(book, timestamp_ns)
    rows = np.zeros((1, RECORD_WORDS), np.uint64)
    rows[0, 13], rows[0, 15] = time_ns, _SETTINGS_META
    book.adopt_settings(settings)
    advance(book, rows)
    return Applied(rows, np.empty(0, np.uint32), np.empty((0, 2), np.uint64), np.empty(0, RESULT), time_ns)


def replay_rows(book: Book, rows: Words, timestamp_ns: int) -> None:
    """Roll the book forward over consecutive journal rows, from `book.next_position` on, without judging them.

    `timestamp_ns` is the applied time of their block. For the row of a SETTINGS record, call `apply_settings` with that
    time instead. Raises `EngineStopped(DATA_DAMAGED)` at a row that cannot follow; the book is of no use then.
    """
    writable = np.array(rows, np.uint64, order="C")
    in_time = not len(rows) or timestamp_ns <= int(writable[0, 13])
    kinds = (writable[:, 15] >> np.uint64(16)) & np.uint64(0xFF)
    made = int((kinds == Kind.CREATE_ACCOUNT).sum()) + 2 * int((kinds == Kind.BUCKET).sum())
    book.ensure_room(made, int((kinds == Kind.RESERVE).sum()))
    fitting = replay(book.tables, writable) if in_time else 0
    if fitting != len(rows):
        position = book.next_position
        require(
            False, ExitCode.DATA_DAMAGED, f"journal row {position} does not follow: restore or replace this replica"
        )


def warm_up() -> None:
    """Load or compile the kernel, so that the first record does not pay for it. Importing this module has done it."""
    book = Book(0)
    replay_rows(book, np.empty((0, RECORD_WORDS), np.uint64), 0)


UNKNOWN_KIND: Final = "a log record holds kinds that this engine does not know: upgrade it"
KNOWN_LACKS: Final = "the store does not know what the book refers to: restore or replace this replica"


def record_time(book: Book, timestamp_ns: int) -> int:
    """Clamp the header's time: after every journal row, whatever the leader's clock did."""
    time_ns = max(timestamp_ns, int(book.tables.counters[LAST_TIMESTAMP]) + 1)
    require(time_ns < _TIMESTAMP_MAX, ExitCode.APPLY_FAILED, "the leader's clock is beyond the year 2262: set it right")
    return time_ns


def expire(book: Book, time_ns: int) -> Words:
    """Expire what is due; return the EXPIRE rows, shape (e, 16)."""
    parts, total, tables = [], 0, book.tables
    while tables.counters[DEADLINE_COUNT] and tables.deadlines[0, 0] <= time_ns:
        room = min(_EXPIRY_ROWS, book.expiries_per_record_max - total)
        part = np.empty((room, RECORD_WORDS), np.uint64)
        written = expire_due(tables, part, np.uint64(time_ns), np.uint64(time_ns + total))
        parts.append(part[:written])
        total += written
        if written < _EXPIRY_ROWS:
            break
    return np.concatenate(parts) if parts else _NO_ROWS


def work_on(batch: Words, known: Known, longest: int) -> Work:
    """Return the arrays of one batch whose longest chain has so many legs; `begin` tells them where they stand."""
    records = len(batch)
    if len(known.rows):
        known = _plain_known(known)
    return Work(
        batch,
        np.empty((records, 3), np.uint64),
        known.id_row,
        known.followed_row,
        known.rows,
        known.positions,
        known.requested,
        known.chain_last,
        known.ended,
        known.reversed,
        np.empty(records, np.uint64),
        np.empty(records, np.int64),
        np.zeros(records, np.int64),
        np.empty(records, np.int64),
        np.empty((records, 2), np.uint64),
        np.zeros(records, np.uint8),
        np.zeros((records, 2), np.uint64),
        np.zeros(1 << (2 * records + 1).bit_length(), np.uint32),
        np.empty((UNDO_PER_LEG * longest, UNDO_WORDS), np.uint64),
        np.zeros(COUNTS, np.uint64),
        known.word,
        known.digest,
        known.sides,
        known.decider,
        np.empty(0, np.uint8),
        np.empty(0, np.int64),
        np.empty((0, 2), np.uint16),
    )


def begin(book: Book, work: Work, time_ns: int, expired: int) -> None:
    """Tell the arrays of a batch its time and where its rows go: behind so many expired reservations."""
    counts = work.counts
    counts[RECORD_TIME] = time_ns
    counts[FIRST_POSITION] = int(book.tables.counters[NEXT_POSITION]) + expired
    counts[FIRST_TIMESTAMP] = time_ns + expired


def _plain_known(known: Known) -> Known:
    """Return what is known as the kernel takes it; where nothing is, it is so already."""
    return known._replace(
        id_row=plain(known.id_row, np.int64),
        followed_row=plain(known.followed_row, np.int64),
        rows=plain(known.rows, np.uint64),
        positions=plain(known.positions, np.uint64),
        requested=plain(known.requested, np.uint64),
        chain_last=plain(known.chain_last, np.bool_),
        digest=plain(known.digest, np.uint64),
        sides=plain(known.sides, np.uint16),
        decider=plain(known.decider, np.uint16),
    )


def plain(array: npt.NDArray[Scalar], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Return the array as the kernel was compiled for: a read-only one is another type to it, and is copied."""
    if array.flags.carray and array.dtype == dtype:
        return array
    return np.array(array, dtype, order="C")


def advance(book: Book, rows: Words) -> None:
    """Move the book's time and position behind the rows."""
    if len(rows):
        book.tables.counters[LAST_TIMESTAMP] = rows[-1, 13]
        book.tables.counters[NEXT_POSITION] += np.uint64(len(rows))


def asked_otherwise(work: Work, stored: int, expired: int) -> tuple[npt.NDArray[np.uint32], Words]:
    """Return the rows whose amount moved is not the one asked for, as `Applied` has them."""
    if not work.counts[ASKED_OTHERWISE]:
        return _AS_ASKED
    differs = np.flatnonzero((work.batch[:stored, 6:8] != work.asked[:stored]).any(axis=1))
    return (differs + expired).astype(np.uint32), work.asked[differs]
