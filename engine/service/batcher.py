"""The batcher: many callers' rows and steps become log records of about 128 KiB, few of them in flight (DESIGN §10).

What arrives in one turn of the event loop goes together. At rest a record goes at once; while records are in flight,
a record that is not at least half full waits for one of them to come back, so that load makes records fuller, not more;
a backlog of bulk makes them up to four times as full.
Steps of chains that are under way go before new transfers, because they free what is reserved. Everything here is on
the event loop's thread.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from engine.config import LimitsConfig
from engine.core.chains.word import Step
from engine.core.log_record import RecordKind, encode_log_record
from engine.core.records import Words
from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import NotProposed, ReplicatedLog
from engine.rpc.faults import CallFailed, Fault, Reason, overloaded, unavailable
from engine.service.flight import Answer, Flight, Ticket
from engine.service.step_lane import StepLane, StepSubmission
from engine.service.submission import Caller, Submission
from engine.service.transfer_lane import TransferLane

LOG: Final = logging.getLogger(__name__)


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
        failed: Callable[[EngineStopped], None],
    ) -> None:
        """`clock_ns` is the leader's clock (UTC); `address_of` the API address of a replica of this group; `failed` is
        called with what must end the process."""
        self._failed = failed
        self._limits, self._clock_ns, self._loop, self._address_of = limits, clock_ns, loop, address_of
        self._flight = Flight(log, loop, self._pump_soon)
        self.steps = StepLane(limits, clock_ns=clock_ns, loop=loop)
        self._transfers = TransferLane(limits, clock_ns=clock_ns, loop=loop)
        self._held: Ticket | None = None
        """A record that the log had no room for."""
        self._pump_due = False
        self.refusal: Fault | None = None
        """Why writes are not admitted now; None: they are."""

    @property
    def in_flight(self) -> int:
        """Log records proposed and not yet answered."""
        return self._flight.records

    @property
    def waiting_rows(self) -> int:
        """Rows of transfers that wait to be logged."""
        return self._transfers.waiting_rows

    @property
    def refused_rows(self) -> int:
        """Rows of transfers that were not admitted since the process started."""
        return self._transfers.refused_rows

    @property
    def queue_age_s(self) -> float:
        """How long the oldest waiting submission of transfers has waited, seconds."""
        return self._transfers.age_s

    def prepare_with(self, prepare: Callable[[bytes], None]) -> None:
        """Have `prepare` called with each record that is on its way alone."""
        self._flight.alone = prepare

    async def post(self, words: Words, caller: Caller, deadline_s: float) -> Submission:
        """Log and apply valid rows, shape (n, 16); `deadline_s` is on the loop's clock.

        Returns once each row has its outcome or its fault; raises `CallFailed` if the rows were not admitted, and at
        the deadline where some are logged.
        """
        if self.refusal is not None:
            raise CallFailed(self.refusal)
        submission = self._transfers.admit(words, caller, deadline_s)
        self._pump_soon()
        # `asyncio.timeout_at` would cost several times as much.
        expiry = self._loop.call_at(deadline_s, self._transfers.expire, submission)
        try:
            return await submission.done
        finally:
            expiry.cancel()

    async def step(self, submission: StepSubmission) -> StepSubmission:
        """Log and apply steps. Returns once each has its answer; raises `CallFailed` if one has none.

        A disk that is nearly full refuses what reserves, not what frees.
        """
        begins = (submission.record.steps["step"] == Step.RESERVE).any()
        if self.refusal is not None and (begins or self.refusal.reason != Reason.DISK_NEARLY_FULL):
            raise CallFailed(self.refusal)
        self.steps.admit(submission)
        self._pump_soon()
        return await submission.done

    def propose_alone(self, kind: RecordKind, extra: bytes = b"") -> bool:
        """Propose a record without rows (a tick, or settings); whether the log took it."""
        record = encode_log_record(kind, b"", timestamp_ns=self._clock_ns(), callers=[], extra=extra)
        try:
            self._flight.propose(Ticket(record, _nobody_asked, _nobody_asked))
        except NotProposed as refused:
            LOG.info("an empty record was not proposed: %s", refused)
            return False
        return True

    def answered(self, answers: Iterable[Answer]) -> None:
        """Hand the results of applied records to their callers; records of other leaders are nobody's here."""
        try:
            self._flight.answered(answers)
        except Exception as error:
            self._broke(error)
        self._pump()

    def give_up_waiting(self, fault: Fault) -> None:
        """End everything that is not logged yet with this fault (a stop, or another leader)."""
        if self._held is not None:
            held, self._held = self._held, None
            held.failed(fault)
        self.steps.give_up_waiting(fault)
        self._transfers.give_up_waiting(fault)

    def give_up_overdue(self) -> None:
        """Free the places of records whose fate the log never told."""
        self._flight.give_up_overdue()

    async def drained(self, within_s: float) -> bool:
        """Wait until nothing waits or is in flight; False if that takes longer than `within_s`."""
        until_s = self._loop.time() + within_s
        while self.steps.waits or self._transfers.waits or self._held or self.in_flight:
            if self._loop.time() > until_s:
                return False
            await asyncio.sleep(0.005)
        return True

    # -- from the lanes into the log

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        try:
            while self._flight.records < self._limits.log_records_in_flight_max:
                ticket = self._next_record()
                if ticket is None or not self._proposed(ticket):
                    return
        except Exception as error:
            self._broke(error)

    def _broke(self, error: Exception) -> None:
        """A leader that proposes nothing more, or answers nobody, must not go on leading: end, and let others lead."""
        LOG.exception("the batcher broke")
        self._failed(EngineStopped(ExitCode.FAILED, f"the batcher broke, which is a bug: {error!r}; start it again"))

    def _next_record(self) -> Ticket | None:
        """Return the record that was held back, or fill one: steps before transfers."""
        held, self._held = self._held, None
        return held or self.steps.next_record() or self._transfers.next_record()

    def _proposed(self, ticket: Ticket) -> bool:
        """Propose a filled record; False if the log takes none now."""
        try:
            self._flight.propose(ticket)
        except NotProposed as refused:
            if refused.full and self.in_flight:
                self._held = ticket  # whatever comes back next tries again
                return False
            fault = self._not_proposed(refused)
            ticket.failed(fault)
            self.give_up_waiting(fault)
            return False
        return True

    def _not_proposed(self, refused: NotProposed) -> Fault:
        if refused.full:
            return overloaded(str(refused))
        leader = self._address_of(refused.leader) if refused.leader else ""
        return unavailable(Reason.NOT_LEADER, str(refused), leader=leader)


def _nobody_asked(*_: object) -> None:
    """What becomes of an empty record is nobody's."""
