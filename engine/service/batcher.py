"""The batcher: many callers' rows become log records of about 128 KiB, few of them in flight (DESIGN §10).

Rows that arrive in one turn of the event loop go together. At rest a record goes at once; while records are in flight,
a record that is not at least half full waits for one of them to come back, so that load makes records fuller, not more.
Everything here is on the event loop's thread.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.config import LimitsConfig
from engine.core.limits import LOG_RECORD_BYTES_MAX, LOG_RECORD_CALLERS_MAX
from engine.core.log_record import Caller as RecordCaller
from engine.core.log_record import RecordKind, encode_log_record
from engine.core.records import RECORD_BYTES, Words
from engine.replication.interface import NotProposed, ReplicatedLog
from engine.rpc.faults import (
    CallFailed,
    Fault,
    Reason,
    deadline_passed,
    fate_unknown,
    overloaded,
    unavailable,
)
from engine.service.admission import AdmissionQueue
from engine.service.submission import Caller, MissingRows, Submission, words_of_results

LOG: Final = logging.getLogger(__name__)

SMALL_RECORDS_IN_FLIGHT_MAX: Final = 1
"""Records less than half full that may be in flight."""
RECORD_WAIT_S_MAX: Final = 60.0
"""A record whose fate the log has not told after so long is given up as unknown."""
LOG_RECORD_ROWS_MAX: Final = LOG_RECORD_BYTES_MAX // RECORD_BYTES
_DEADLINE_PASSED: Final = "the deadline passed before this was logged; retry with a longer one"
_FATE_UNKNOWN: Final = "the log could not say whether this was logged; retry the same ids"


class Part(NamedTuple):
    """A run of a submission's rows within one log record."""

    submission: Submission
    first_row: int
    record_row: int
    rows: int


class Ticket:
    """A log record on its way: whose rows it has, and where its answers go."""

    __slots__ = ("parts", "proposed_s", "settled")

    def __init__(self, parts: list[Part], proposed_s: float) -> None:
        self.parts = parts
        self.proposed_s = proposed_s
        self.settled = False


class Answer(NamedTuple):
    """What applying one log record gave."""

    log_index: int
    results: npt.NDArray[np.void]
    """Dtype `RESULT`, one per row of the record."""


class Batcher:
    """Admits submissions, proposes log records, hands answers back."""

    def __init__(
        self,
        log: ReplicatedLog,
        limits: LimitsConfig,
        *,
        clock_ns: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        address_of: Callable[[str], str],
    ) -> None:
        """`clock_ns` is the leader's clock (UTC); `address_of` the API address of a replica of this group."""
        self._log, self._limits, self._clock_ns, self._loop, self._address_of = log, limits, clock_ns, loop, address_of
        self._queue = AdmissionQueue(
            bytes_max=limits.admission_queue_bytes_max,
            age_s_max=limits.queue_age_ms_max / 1000,
            live_rows_max=limits.live_batch_transfers_max,
        )
        self._rows_target = max(1, limits.log_record_bytes_target // RECORD_BYTES)
        self._tickets: deque[Ticket] = deque()
        self._by_index: dict[int, Ticket] = {}
        self._held: tuple[bytes, Ticket] | None = None
        self._in_flight = 0
        self._pump_due = False
        self.refusal: Fault | None = None
        """Why writes are not admitted now; None: they are."""

    @property
    def in_flight(self) -> int:
        """Log records proposed and not yet answered."""
        return self._in_flight

    @property
    def queue_age_s(self) -> float:
        """How long the oldest waiting submission has waited, seconds."""
        return self._queue.age_s(self._loop.time())

    async def post(self, words: Words, caller: Caller, deadline_s: float) -> Submission:
        """Log and apply valid rows, shape (n, 16); `deadline_s` is on the loop's clock.

        Returns once each row has its outcome or its fault; raises `CallFailed` if the rows were not admitted.
        """
        if self.refusal is not None:
            raise CallFailed(self.refusal)
        done: asyncio.Future[Submission] = self._loop.create_future()
        now_s = self._loop.time()
        submission = Submission(
            words, caller, done, first_seen_ns=self._clock_ns(), arrived_s=now_s, deadline_s=deadline_s
        )
        self._queue.admit(submission, now_s)
        self._pump_soon()
        return await done

    def propose_alone(self, kind: RecordKind, extra: bytes = b"") -> bool:
        """Propose a record without rows (a tick, or settings); whether the log took it."""
        record = encode_log_record(kind, b"", timestamp_ns=self._clock_ns(), callers=[], extra=extra)
        try:
            self._propose(record, Ticket([], self._loop.time()))
        except NotProposed as refused:
            LOG.info("an empty record was not proposed: %s", refused)
            return False
        return True

    def answered(self, answers: Iterable[Answer]) -> None:
        """Hand the results of applied records to their callers; records of other leaders are nobody's here."""
        for log_index, results in answers:
            ticket = self._by_index.pop(log_index, None)
            if ticket is not None:
                self._settle(ticket)
                for part in ticket.parts:
                    _hand_back(part, log_index, results)
        self._pump()

    def give_up_waiting(self, fault: Fault) -> None:
        """End everything that is not logged yet with this fault (a stop, or another leader)."""
        if self._held is not None:
            (_, ticket), self._held = self._held, None
            self._fail(ticket, fault)
        for submission in self._queue.drain():
            submission.give_up(fault)

    def give_up_overdue(self) -> None:
        """Free the places of records whose fate the log never told."""
        overdue_s = self._loop.time() - RECORD_WAIT_S_MAX
        while self._tickets and (self._tickets[0].settled or self._tickets[0].proposed_s < overdue_s):
            ticket = self._tickets.popleft()
            if not ticket.settled:
                self._settle(ticket)
                self._fail(ticket, fate_unknown(_FATE_UNKNOWN))

    async def drained(self, within_s: float) -> bool:
        """Wait until nothing waits or is in flight; False if that takes longer than `within_s`."""
        until_s = self._loop.time() + within_s
        while self._queue or self._held or self._in_flight:
            if self._loop.time() > until_s:
                return False
            await asyncio.sleep(0.005)
        return True

    # -- from the queue into the log

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        while self._may_propose():
            record, ticket = self._held or self._next_record()
            self._held = None
            if ticket.parts and not self._proposed(record, ticket):
                return

    def _may_propose(self) -> bool:
        if self._in_flight >= self._limits.log_records_in_flight_max:
            return False
        if self._held is not None:
            return True
        if not self._queue:
            return False
        return self._in_flight < SMALL_RECORDS_IN_FLIGHT_MAX or self._queue.waiting_rows * 2 >= self._rows_target

    def _proposed(self, record: bytes, ticket: Ticket) -> bool:
        """Propose a filled record; False if the log takes none now."""
        try:
            self._propose(record, ticket)
        except NotProposed as refused:
            if refused.full and self._in_flight:
                self._held = (record, ticket)  # whatever comes back next tries again
                return False
            fault = self._not_proposed(refused)
            self._fail(ticket, fault)
            self.give_up_waiting(fault)
            return False
        return True

    def _propose(self, record: bytes, ticket: Ticket) -> None:
        def proposed(log_index: int | None) -> None:
            if ticket.settled:
                return
            if log_index is None:
                self._settle(ticket)
                self._fail(ticket, fate_unknown(_FATE_UNKNOWN))
                self._pump_soon()
            else:
                self._by_index[log_index] = ticket

        ticket.proposed_s = self._loop.time()
        self._log.propose(record, proposed)
        self._in_flight += 1
        self._tickets.append(ticket)
        while self._tickets[0].settled:
            self._tickets.popleft()

    def _not_proposed(self, refused: NotProposed) -> Fault:
        if refused.full:
            return overloaded(str(refused))
        leader = self._address_of(refused.leader) if refused.leader else ""
        return unavailable(Reason.NOT_LEADER, str(refused), leader=leader)

    def _next_record(self) -> tuple[bytes, Ticket]:
        """Fill a record from the lanes; its ticket has no parts if all that waited had expired."""
        parts: list[Part] = []
        rows = 0
        for lane in self._queue.lanes_in_turn():
            rows = self._fill(lane, parts, rows)
        if not parts:
            return b"", Ticket([], 0.0)
        return self._encode(parts), Ticket(parts, 0.0)

    def _fill(self, lane: "deque[Submission]", parts: list[Part], rows: int) -> int:
        """Take rows off one lane until the record is full; returns the rows in it."""
        now_s = self._loop.time()
        while lane and rows < self._rows_target and len(parts) < LOG_RECORD_CALLERS_MAX:
            submission = lane[0]
            if self._is_dropped(submission, now_s):
                lane.popleft()
                continue
            first, taken = submission.take(self._rows_target - rows)
            if not taken:  # a chain that does not fit behind what is there
                if rows and rows + submission.first_chain_rows() > LOG_RECORD_ROWS_MAX:
                    return self._rows_target
                first, taken = submission.take(submission.first_chain_rows())
            parts.append(Part(submission, first, rows, taken))
            submission.in_flight += 1
            self._queue.waiting_rows -= taken
            rows += taken
            if not submission.waiting_rows:
                lane.popleft()
        return rows

    def _is_dropped(self, submission: Submission, now_s: float) -> bool:
        """Whether nobody waits for the rest of a submission any more: expired work is not logged."""
        if not submission.done.cancelled() and now_s < submission.deadline_s:
            return False
        self._queue.waiting_rows -= submission.give_up(deadline_passed(_DEADLINE_PASSED))
        return True

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

    def _settle(self, ticket: Ticket) -> None:
        ticket.settled = True
        self._in_flight -= 1

    def _fail(self, ticket: Ticket, fault: Fault) -> None:
        for submission, first_row, _, rows in ticket.parts:
            submission.missing.append(MissingRows(first_row, rows, fault))
            submission.in_flight -= 1
            submission.settle()


def _hand_back(part: Part, log_index: int, results: npt.NDArray[np.void]) -> None:
    submission, first_row, record_row, rows = part
    submission.result_words[first_row : first_row + rows] = words_of_results(results)[record_row : record_row + rows]
    submission.log_index = max(submission.log_index, log_index)
    submission.in_flight -= 1
    submission.settle()
