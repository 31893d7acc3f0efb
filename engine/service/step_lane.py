"""From a queue of their own into STEPS records: the steps of many callers, ahead of new transfers (DESIGN §7, §10).

Steps free what is reserved, so they never wait behind new work; the queue is bounded by bytes and by age all the same.
A submission may be cut between any two steps, because each is heard by itself.

Bytes are those of payload version 1. A record of plain steps is written in version 2, a quarter shorter; where they are
large batches it may take the place of two others, since what a record costs by itself is much of what its steps do.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import failpoints
from engine.config import LimitsConfig
from engine.core.chains.step_answers import StepAnswers, join_answers, split_answers
from engine.core.chains.step_record import STEP, STEP_AMOUNT, StepRecord, encode_steps, join_steps, step_words
from engine.core.chains.word import Step
from engine.core.kernel.step_payload import RUN_WORDS
from engine.core.limits import LOG_RECORD_BYTES_MAX, LOG_RECORD_CALLERS_MAX
from engine.core.log_record import CALLER, RecordKind, encode_log_record
from engine.core.log_record import Caller as RecordCaller
from engine.core.records import RECORD_BYTES
from engine.failpoints import Failpoint
from engine.rpc.faults import CallFailed, Fault, Logged, deadline_passed, fate_unknown, overloaded
from engine.service.flight import FATE_UNKNOWN, Results, Ticket, goes_now
from engine.service.submission import Caller

STEPS_TOGETHER: Final = 5
"""A record may have so many times as many steps as one of the target size has transfers, if they fit: what a record
costs by itself, on each replica, is twice as much. So what a large batch sends one way makes one record, not one and a
scrap of the next."""
ROW_BYTES: Final = RECORD_BYTES + 4
"""A row with its sides."""
STEP_BYTES: Final = STEP.itemsize + ROW_BYTES
"""A step of one row,"""
PLAIN_STEP_BYTES: Final = RECORD_BYTES + 16
"""and a plain one, with its digest, as it is logged among others."""
PLAIN_RECORDS_TOGETHER: Final = 2
"""Records that one of plain steps may take the place of, if they fit: what two large batches send one way."""
PLAIN_BYTES_MAX: Final = (LOG_RECORD_BYTES_MAX - (96 << 10)) // PLAIN_STEP_BYTES * STEP_BYTES
_DEADLINE_PASSED: Final = "the deadline passed before these steps were logged; send them again"

BEFORE: Final = {
    Step.RESERVE: Failpoint.NODE_BEFORE_RESERVE_LOGGED,
    Step.DECIDE: Failpoint.NODE_BEFORE_DECIDE_LOGGED,
    Step.COMMIT: Failpoint.NODE_BEFORE_COMMIT_LOGGED,
    Step.RELEASE: Failpoint.NODE_BEFORE_RELEASE_LOGGED,
    Step.ABORT: Failpoint.NODE_BEFORE_ABORT_LOGGED,
    Step.HOLD: Failpoint.NODE_BEFORE_HOLD_LOGGED,
    Step.EXPIRE: Failpoint.NODE_BEFORE_EXPIRE_LOGGED,
}
AFTER: Final = {
    Step.RESERVE: Failpoint.NODE_AFTER_RESERVE_LOGGED,
    Step.DECIDE: Failpoint.NODE_AFTER_DECIDE_LOGGED,
    Step.COMMIT: Failpoint.NODE_AFTER_COMMIT_LOGGED,
    Step.RELEASE: Failpoint.NODE_AFTER_RELEASE_LOGGED,
    Step.ABORT: Failpoint.NODE_AFTER_ABORT_LOGGED,
    Step.HOLD: Failpoint.NODE_AFTER_HOLD_LOGGED,
    Step.EXPIRE: Failpoint.NODE_AFTER_EXPIRE_LOGGED,
}


class StepSubmission:
    """The steps of one call on their way; `done` is resolved once each has its answer, or fails with `CallFailed`."""

    __slots__ = (
        "_ends",
        "answers",
        "arrived_s",
        "caller",
        "deadline_s",
        "done",
        "first_seen_ns",
        "is_plain",
        "log_index",
        "next_step",
        "queued_bytes",
        "record",
        "records",
    )

    def __init__(self, record: StepRecord, caller: Caller, deadline_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """At least one step; `deadline_s` is on the loop's clock."""
        self.record, self.caller, self.deadline_s = record, caller, deadline_s
        self.done: asyncio.Future[StepSubmission] = loop.create_future()
        self.arrived_s = 0.0
        self.first_seen_ns = 0
        self.next_step = 0
        self.records = 0
        """Log records that may have some of the steps."""
        self.is_plain = record.compact and not len(record.amounts) and _is_one_run(record)
        """All steps are plain, move what they ask for, and make one run: `PLAIN_STEP_BYTES` each is all they take."""
        self.log_index = 0
        """At which the last of the steps is applied."""
        self.answers: dict[int, StepAnswers] = {}
        """By the step with which each run of answers begins."""
        sizes = STEP.itemsize + ROW_BYTES * record.steps["rows"].astype(np.int64)
        self._ends = np.cumsum(sizes + STEP_AMOUNT.itemsize * _amounts_by_step(record))
        self.queued_bytes = int(self._ends[-1])
        """Bytes of the steps that are not yet in a log record, as the queue counts them."""

    @property
    def waits(self) -> bool:
        """Whether steps are left to be logged."""
        return self.next_step < len(self.record.steps)

    @property
    def next_bytes(self) -> int:
        """Bytes of the next step that waits."""
        return int(self._ends[self.next_step]) - self._bytes_before(self.next_step)

    def take(self, bytes_max: int) -> "tuple[int, StepRecord]":
        """Take the next steps, at least one: which is the first, and the steps."""
        first = self.next_step
        fit = int(np.searchsorted(self._ends, self._bytes_before(first) + bytes_max, "right"))
        self.next_step = min(max(fit, first + 1), len(self.record.steps))
        self.records += 1
        self.queued_bytes -= self._bytes_before(self.next_step) - self._bytes_before(first)
        return first, slice_steps(self.record, first, self.next_step)

    def whole_answer(self) -> StepAnswers:
        """Return the answers in the order of the steps."""
        return join_answers([self.answers[first] for first in sorted(self.answers)])

    def settle(self, first: int, answers: StepAnswers, log_index: int) -> None:
        """Note what some of the steps were answered."""
        self.answers[first] = answers
        self.log_index = max(self.log_index, log_index)
        answered = sum(len(part.answers) for part in self.answers.values())
        if answered == len(self.record.steps) and not self.done.done():
            self.done.set_result(self)

    def fail(self, fault: Fault) -> None:
        """End with a fault, and take nothing more; sent again, what was logged answers for itself."""
        if self.records and fault.logged is Logged.NO:
            fault = fate_unknown(FATE_UNKNOWN)
        self.next_step = len(self.record.steps)
        if not self.done.done():
            self.done.set_exception(CallFailed(fault))

    def _bytes_before(self, step: int) -> int:
        return int(self._ends[step - 1]) if step else 0


class _Part(NamedTuple):
    """A run of a submission's steps within one log record."""

    submission: StepSubmission
    first: int
    record: StepRecord


class StepLane:
    """Submissions of steps that wait, and the records that are filled from them. On the event loop's thread."""

    def __init__(self, limits: LimitsConfig, *, clock_ns: Callable[[], int], loop: asyncio.AbstractEventLoop) -> None:
        """`clock_ns` is the leader's clock (UTC)."""
        self._clock_ns, self._loop = clock_ns, loop
        self._bytes_max, self._age_s_max = limits.step_queue_bytes_max, limits.queue_age_ms_max / 1000
        steps_target = STEPS_TOGETHER * max(1, limits.log_record_bytes_target // RECORD_BYTES)
        self._bytes_target = min(steps_target * STEP_BYTES, LOG_RECORD_BYTES_MAX * 3 // 4)
        self._plain_target = min(PLAIN_RECORDS_TOGETHER * self._bytes_target, PLAIN_BYTES_MAX)
        self._queue: deque[StepSubmission] = deque()
        self._waiting_bytes = 0
        self._in_flight = 0

    @property
    def waits(self) -> bool:
        """Whether anything waits to be logged."""
        return bool(self._queue)

    @property
    def age_s(self) -> float:
        """How long the oldest waiting submission has waited, seconds."""
        return self._loop.time() - self._queue[0].arrived_s if self._queue else 0.0

    @property
    def waiting_bytes(self) -> int:
        """Bytes of steps that wait to be logged."""
        return self._waiting_bytes

    def admit(self, submission: StepSubmission) -> None:
        """Let steps wait; raises `CallFailed` (RESOURCE_EXHAUSTED) where too much does already."""
        now_s = self._loop.time()
        if self._waiting_bytes + submission.queued_bytes > self._bytes_max:
            raise CallFailed(overloaded(f"{self._waiting_bytes} bytes of steps wait to be logged, as many as may"))
        if self._queue and now_s - self._queue[0].arrived_s > self._age_s_max:
            age_ms = int((now_s - self._queue[0].arrived_s) * 1000)
            raise CallFailed(overloaded(f"steps wait {age_ms} ms to be logged, longer than allowed; slow down"))
        submission.arrived_s, submission.first_seen_ns = now_s, self._clock_ns()
        self._queue.append(submission)
        self._waiting_bytes += submission.queued_bytes

    def next_record(self) -> Ticket | None:
        """Fill a record if one should go now."""
        while self._queue and self._is_ready():
            parts = self._fill()
            if parts:  # not all that waited had expired
                self._in_flight += 1
                joined = parts[0].record if len(parts) == 1 else join_steps([part.record for part in parts])
                _reach(BEFORE, joined.steps["step"])
                return Ticket(self._encode(parts, joined), partial(self._answered, parts), partial(self._lost, parts))
        return None

    def give_up_waiting(self, fault: Fault) -> None:
        """End everything that waits with this fault."""
        waiting, self._queue, self._waiting_bytes = self._queue, deque(), 0
        for submission in waiting:
            submission.fail(fault)

    def _is_ready(self) -> bool:
        target = self._plain_target if self._queue[0].is_plain else self._bytes_target
        return goes_now(self._in_flight, self._waiting_bytes, target)

    def _fill(self) -> list[_Part]:
        parts: list[_Part] = []
        plain, room, now_s = True, self._plain_target, self._loop.time()
        while self._queue and room > 0 and len(parts) < LOG_RECORD_CALLERS_MAX:
            submission = self._queue[0]
            if plain and not submission.is_plain:
                plain, room = False, room - self._plain_target + self._bytes_target
            if submission.done.done() or now_s >= submission.deadline_s:
                submission.fail(deadline_passed(_DEADLINE_PASSED))
            elif parts and submission.next_bytes > room:
                break
            else:
                before = submission.queued_bytes
                parts.append(_Part(submission, *submission.take(room)))
                self._waiting_bytes -= before - submission.queued_bytes
                room -= before - submission.queued_bytes + _caller_bytes(submission)
            if not submission.waits:
                self._waiting_bytes -= submission.queued_bytes  # not zero, if it failed half-way
                self._queue.popleft()
        return parts

    def _encode(self, parts: list[_Part], joined: StepRecord) -> bytes:
        callers, row = [], 0
        for submission, _, record in parts:
            caller = submission.caller
            callers.append(
                RecordCaller(row, len(record.rows), caller.identity, submission.first_seen_ns, caller.attempt)
            )
            row += len(record.rows)
        rows = np.ascontiguousarray(joined.rows).data.cast("B")
        extra = encode_steps(joined._replace(compact=True))
        return encode_log_record(RecordKind.STEPS, rows, timestamp_ns=self._clock_ns(), callers=callers, extra=extra)

    # -- back from the log

    def _answered(self, parts: list[_Part], log_index: int, results: Results) -> None:
        self._in_flight -= 1
        if isinstance(results, StepAnswers):
            _reach(AFTER, np.concatenate([part.record.steps["step"] for part in parts]))
            runs = split_answers(results, [len(part.record.steps) for part in parts])
            for part, answers in zip(parts, runs, strict=True):
                part.submission.settle(part.first, answers, log_index)

    def _lost(self, parts: list[_Part], fault: Fault) -> None:
        self._in_flight -= 1
        for part in parts:
            part.submission.records -= fault.logged is Logged.NO
            part.submission.fail(fault)


def _is_one_run(record: StepRecord) -> bool:
    words = step_words(record.steps)
    differ = (words[:, _SHARED] ^ words[0, _SHARED]) & _SHARED_MASK
    return not differ.any() and bool((record.sides == record.sides[0]).all())


_SHARED: Final = slice(4, 7)
"""Words of `STEP`: time; rows and decider, above the number of the row; reason, legs and step."""
_SHARED_MASK: Final = np.array([~0, ~0xFFFF_FFFF, ~0], np.int64).view(np.uint64)


def _caller_bytes(submission: StepSubmission) -> int:
    """Return what a caller's entry and run take of a record, in the measure in which a plain step is `STEP_BYTES`."""
    taken = CALLER.size + len(submission.caller.identity.encode()) + 8 * RUN_WORDS
    return taken * STEP_BYTES // PLAIN_STEP_BYTES + 1


def slice_steps(record: StepRecord, first: int, last: int) -> StepRecord:
    """Return steps first..last-1 with their rows, as a payload of its own."""
    if not first and last == len(record.steps):
        return record
    first_row = int(record.steps["first_row"][first])
    last_row = int(record.steps["first_row"][last]) if last < len(record.steps) else len(record.rows)
    steps = record.steps[first:last].copy()
    steps["first_row"] -= np.uint32(first_row)
    from_amount, to_amount = np.searchsorted(record.amounts["row"], (first_row, last_row))
    amounts = record.amounts[from_amount:to_amount].copy()
    amounts["row"] -= np.uint32(first_row)
    return StepRecord(record.rows[first_row:last_row], steps, record.sides[first_row:last_row], amounts)


def _amounts_by_step(record: StepRecord) -> npt.NDArray[np.int64]:
    """Return how many entries of the amounts each step has, shape (s,)."""
    of_step = np.searchsorted(record.steps["first_row"], record.amounts["row"], "right") - 1
    return np.bincount(of_step, minlength=len(record.steps))


def _reach(points: dict[Step, Failpoint], steps: npt.NDArray[np.uint8]) -> None:
    if failpoints.is_armed():
        for step in np.unique(steps).tolist():
            failpoints.reach(points.get(step))
