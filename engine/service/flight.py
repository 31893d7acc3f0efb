"""Log records on their way: proposed and not yet answered, each with whom its answers belong to (DESIGN §10)."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import StepAnswers
from engine.replication.interface import ReplicatedLog
from engine.rpc.faults import Fault, fate_unknown

RECORD_WAIT_S_MAX: Final = 60.0
"""A record whose fate the log has not told after so long is given up as unknown."""
SMALL_RECORDS_IN_FLIGHT_MAX: Final = 1
"""Records of one lane less than half full that may be in flight."""
FATE_UNKNOWN: Final = "the log could not say whether this was logged; retry the same ids"

Results: TypeAlias = "npt.NDArray[np.void] | StepAnswers"
"""What applying a record gave: for EVENTS one row of dtype `RESULT` per row, for STEPS one answer per step."""


def goes_now(in_flight: int, waiting: int, target: int) -> bool:
    """Whether what waits in a lane, if anything does, should be a record now: at rest at once, else if it half
    fills one.

    in_flight: how many of the lane's records are; waiting, target: in the same unit.
    """
    return in_flight < SMALL_RECORDS_IN_FLIGHT_MAX or waiting * 2 >= target


class Answer(NamedTuple):
    """What applying one log record gave."""

    log_index: int
    results: Results


class Ticket:
    """One log record on its way."""

    __slots__ = ("answered", "failed", "proposed_s", "record", "settled")

    def __init__(
        self, record: bytes, answered: Callable[[int, Results], None], failed: Callable[[Fault], None]
    ) -> None:
        """`answered` gets log index and results once the record is applied, or `failed` the fault of all of it."""
        self.record = record
        """Until the log has taken it."""
        self.answered = answered
        self.failed = failed
        self.proposed_s = 0.0
        self.settled = False


class Flight:
    """The records of one leader on their way. On the event loop's thread."""

    def __init__(self, log: ReplicatedLog, loop: asyncio.AbstractEventLoop, landed: Callable[[], None]) -> None:
        """`landed` is told when a place has become free because the log lost a record."""
        self._log, self._loop, self._landed = log, loop, landed
        self._tickets: deque[Ticket] = deque()
        self._by_index: dict[int, Ticket] = {}
        self.records = 0
        """Records proposed and not yet answered."""
        self.alone: Callable[[bytes], None] = _nobody
        """Given a record that is the only one on its way, once the log has sent and written what it had."""

    def propose(self, ticket: Ticket) -> None:
        """Hand a record to the log; raises `NotProposed`."""

        def proposed(log_index: int | None) -> None:
            if ticket.settled:
                return
            if log_index is None:
                self._settle(ticket)
                ticket.failed(fate_unknown(FATE_UNKNOWN))
                self._landed()
            else:
                self._by_index[log_index] = ticket

        ticket.proposed_s = self._loop.time()
        self._log.propose(ticket.record, proposed)
        self.records += 1
        self._tickets.append(ticket)
        while self._tickets[0].settled:
            self._tickets.popleft()
        if self.records == 1:
            self._loop.call_soon(self.alone, ticket.record)
        ticket.record = b""  # the log has it

    def answered(self, answers: Iterable[Answer]) -> None:
        """Hand the results of applied records on; records of other leaders are nobody's here."""
        for log_index, results in answers:
            ticket = self._by_index.pop(log_index, None)
            if ticket is not None:
                self._settle(ticket)
                ticket.answered(log_index, results)

    def give_up_overdue(self) -> None:
        """Free the places of records whose fate the log never told."""
        overdue_s = self._loop.time() - RECORD_WAIT_S_MAX
        while self._tickets and (self._tickets[0].settled or self._tickets[0].proposed_s < overdue_s):
            ticket = self._tickets.popleft()
            if not ticket.settled:
                self._settle(ticket)
                ticket.failed(fate_unknown(FATE_UNKNOWN))

    def _settle(self, ticket: Ticket) -> None:
        ticket.settled = True
        self.records -= 1


def _nobody(_: bytes) -> None:
    """Nobody prepares for it."""
