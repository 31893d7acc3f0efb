"""From the admission queue into EVENTS records: many callers' rows, never cutting a chain (DESIGN §10)."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import numpy as np

from engine.config import LimitsConfig
from engine.core.limits import LOG_RECORD_BYTES_MAX, LOG_RECORD_CALLERS_MAX
from engine.core.log_record import Caller as RecordCaller
from engine.core.log_record import RecordKind, encode_log_record
from engine.core.records import RECORD_BYTES, Words
from engine.rpc.faults import CallFailed, Fault, deadline_passed, fate_unknown
from engine.service.admission import AdmissionQueue
from engine.service.flight import Results, Ticket, goes_now
from engine.service.submission import Caller, MissingRows, Submission

BULK_RECORDS_TOGETHER: Final = 4
"""Under a backlog of bulk alone a record takes as many rows as so many would: each costs every replica something, and
nobody is near who would notice the wait (docs/decisions/0016)."""
BACKLOG_RECORDS: Final = 4
"""So many records' rows that wait are a backlog: less than one full batch."""
LOG_RECORD_ROWS_MAX: Final = LOG_RECORD_BYTES_MAX // RECORD_BYTES
_DEADLINE_PASSED: Final = "the deadline passed before this was logged; retry with a longer one"
_NOT_ANSWERED: Final = "no answer before the deadline; retry the same ids"


class Part(msgspec.Struct, frozen=True):
    """A run of a submission's rows within one log record."""

    submission: Submission
    first_row: int
    record_row: int
    rows: int


class TransferLane:
    """Submissions that wait, and the records that are filled from them."""

    def __init__(self, limits: LimitsConfig, *, clock_ns: Callable[[], int], loop: asyncio.AbstractEventLoop) -> None:
        """`clock_ns` is the leader's clock (UTC)."""
        self._clock_ns, self._loop = clock_ns, loop
        self._queue = AdmissionQueue(
            bytes_max=limits.admission_queue_bytes_max,
            age_s_max=limits.queue_age_ms_max / 1000,
            live_rows_max=limits.live_batch_transfers_max,
        )
        self._rows_target = max(1, limits.log_record_bytes_target // RECORD_BYTES)
        together = min(BULK_RECORDS_TOGETHER * self._rows_target, LOG_RECORD_ROWS_MAX // 2)
        self._backlog_rows_target = max(self._rows_target, together)
        self._rows_in_flight_max = limits.log_records_in_flight_max * self._rows_target
        self._in_flight = self._rows_in_flight = 0

    @property
    def age_s(self) -> float:
        """How long the oldest waiting submission has waited, seconds."""
        return self._queue.age_s(self._loop.time())

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be logged."""
        return self._queue.waiting_rows

    @property
    def refused_rows(self) -> int:
        """Rows that were not admitted since the process started."""
        return self._queue.refused_rows

    @property
    def waits(self) -> bool:
        """Whether anything waits to be logged."""
        return bool(self._queue)

    def admit(self, words: Words, caller: Caller, deadline_s: float) -> Submission:
        """Let rows wait; raises `CallFailed` (RESOURCE_EXHAUSTED) where too much does already."""
        done: asyncio.Future[Submission] = self._loop.create_future()
        now_s = self._loop.time()
        submission = Submission(
            words, caller, done, first_seen_ns=self._clock_ns(), arrived_s=now_s, deadline_s=deadline_s
        )
        self._queue.admit(submission, now_s)
        return submission

    def expire(self, submission: Submission) -> None:
        """The deadline of a submission has come: if nothing of it is logged, nothing will be."""
        if submission.done.done():
            return
        if submission.waiting_rows == submission.count:
            self._queue.waiting_rows -= submission.give_up(deadline_passed(_DEADLINE_PASSED))
        else:
            submission.done.set_exception(CallFailed(fate_unknown(_NOT_ANSWERED)))

    def next_record(self) -> Ticket | None:
        """Fill a record if one should go now."""
        queue = self._queue
        while (queue.live or queue.bulk) and self._is_ready():
            parts: list[Part] = []
            rows, target = 0, self._rows_of_next()
            for lane in queue.lanes_in_turn():
                rows = self._fill(lane, parts, rows, target) if lane else rows
            if parts:  # not all that waited had expired
                self._in_flight += 1
                self._rows_in_flight += rows
                return Ticket(
                    self._encode(parts), partial(self._answered, parts, rows), partial(self._lost, parts, rows)
                )
        return None

    def give_up_waiting(self, fault: Fault) -> None:
        """End everything that waits with this fault."""
        for submission in self._queue.drain():
            submission.give_up(fault)

    def _is_ready(self) -> bool:
        """Whether a record should go now. Bulk alone waits while as many rows are in flight as records of the target
        size would have: fuller ones must not put more before the next live post."""
        if not self._queue.live and self._rows_in_flight >= self._rows_in_flight_max:
            return False
        return goes_now(self._in_flight, self._queue.waiting_rows, self._rows_target)

    def _rows_of_next(self) -> int:
        """Return how many rows make the next record full."""
        is_backlog = self._queue.waiting_rows >= BACKLOG_RECORDS * self._rows_target and not self._queue.live
        return self._backlog_rows_target if is_backlog else self._rows_target

    def _fill(self, lane: "deque[Submission]", parts: list[Part], rows: int, target: int) -> int:
        """Take rows off one lane until the record is full; returns the rows in it."""
        now_s = self._loop.time()
        while lane and rows < target and len(parts) < LOG_RECORD_CALLERS_MAX:
            submission = lane[0]
            if now_s >= submission.deadline_s or submission.done.cancelled():
                # Nobody waits for the rest of it any more: expired work is not logged.
                self._queue.waiting_rows -= submission.give_up(deadline_passed(_DEADLINE_PASSED))
                lane.popleft()
                continue
            first, taken = submission.take(target - rows)
            if not taken:  # a chain that does not fit behind what is there
                if rows and rows + submission.first_chain_rows() > LOG_RECORD_ROWS_MAX:
                    return target
                first, taken = submission.take(submission.first_chain_rows())
            parts.append(Part(submission, first, rows, taken))
            submission.in_flight += 1
            self._queue.waiting_rows -= taken
            rows += taken
            if submission.next_row == submission.count:
                lane.popleft()
        return rows

    def _encode(self, parts: list[Part]) -> bytes:
        pieces = [part.submission.rows_bytes(part.first_row, part.rows) for part in parts]
        callers = [
            RecordCaller(
                part.record_row,
                part.rows,
                part.submission.caller.identity,
                part.submission.first_seen_ns,
                part.submission.caller.attempt,
            )
            for part in parts
        ]
        rows = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return encode_log_record(RecordKind.EVENTS, rows, timestamp_ns=self._clock_ns(), callers=callers)

    # -- back from the log

    def _answered(self, parts: list[Part], rows: int, log_index: int, results: Results) -> None:
        self._landed(rows)
        if isinstance(results, np.ndarray):
            for part in parts:
                packed = results[part.record_row : part.record_row + part.rows].tobytes()
                part.submission.take_results(part.first_row, packed, log_index)

    def _lost(self, parts: list[Part], rows: int, fault: Fault) -> None:
        self._landed(rows)
        for part in parts:
            submission = part.submission
            submission.missing.append(MissingRows(part.first_row, part.rows, fault))
            submission.in_flight -= 1
            submission.settle()

    def _landed(self, rows: int) -> None:
        self._in_flight -= 1
        self._rows_in_flight -= rows
