"""Steps on their way to one group: what waits at the same time, of whatever callers, is sent together.

Every step may be repeated (DESIGN §7), so that a request is sent until it is answered or nobody waits for it any more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from engine.core.chains.step_answers import StepAnswers, split_answers
from engine.core.chains.step_record import StepRecord, join_steps
from engine.rpc.faults import INVALID_ARGUMENT, CallFailed, Fault, Logged, Reason, fate_unknown, overloaded, unavailable
from engine.rpc.link_frames import Metadata
from engine.rpc.steps import ON_RECORD

REQUESTS_IN_FLIGHT_MAX: Final = 8
"""Requests to one group at a time; what comes meanwhile waits, and goes together."""
FRESH_REQUESTS_MAX: Final = 4
"""Of these, so many with first steps: under load chains wait here, where nothing is reserved for them, and those that
are on record come to their end soon."""
FRESH_ROWS_MAX: Final = 10_000
"""No request of first steps is begun while those on their way have so many rows."""
REQUEST_ROWS_TARGET: Final = 3072
"""A request is closed at about so many rows; what one caller sends at once is never cut, so that it is below what a
group takes (`engine.service.peers.STEPS_MAX`)."""
WAITING_ROWS_MAX: Final = 1 << 17
"""Rows that wait for one group; beyond it callers are told so, and nothing of theirs is sent."""
PAUSE_S_MIN: Final = 0.01
PAUSE_S_MAX: Final = 0.2

logger = logging.getLogger(__name__)


class SentAs(NamedTuple):
    """What one request says of all its steps."""

    caller: Metadata
    placement_epoch: int
    """By which the chains were laid out; `engine.rpc.steps.ON_RECORD` where some group has them on record."""
    attempt: int = 1


class Replies(NamedTuple):
    """What a group answered to the steps of one `ask`."""

    answers: StepAnswers
    log_index: int
    """0 if nothing was logged."""


Send = Callable[[StepRecord, SentAs, float], Awaitable[Replies]]
"""Sends one request to the group by a deadline on the loop's clock; raises `CallFailed`."""


class _Asked:
    """Steps that wait for their answers."""

    __slots__ = ("answered", "deadline_s", "is_sent", "record", "sent_as")

    def __init__(self, record: StepRecord, sent_as: SentAs, deadline_s: float) -> None:
        self.record, self.sent_as, self.deadline_s = record, sent_as, deadline_s
        self.answered: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        self.is_sent = False

    @property
    def is_later(self) -> bool:
        """Whether some group has these chains on record."""
        return self.sent_as.placement_epoch == ON_RECORD


class Lane:
    """The way to one group."""

    def __init__(self, group: int, send: Send) -> None:
        """`send` is called with up to `REQUESTS_IN_FLIGHT_MAX` requests at a time."""
        self.group = group
        self._send = send
        self._fresh: deque[_Asked] = deque()
        self._later: deque[_Asked] = deque()
        """Steps of chains that are on record: they go before first steps."""
        self._waiting_rows = 0
        self._requests: set[asyncio.Task[None]] = set()
        self._fresh_requests = self._fresh_rows = 0
        self._flushing = False

    async def ask(self, record: StepRecord, sent_as: SentAs, deadline_s: float) -> Replies:
        """Send steps, and return what the group answers to them; `deadline_s` is on the loop's clock.

        Raises `CallFailed`, which says whether anything may have been logged.
        """
        if self._waiting_rows and self._waiting_rows + len(record.rows) > WAITING_ROWS_MAX:
            raise CallFailed(overloaded(f"{self._waiting_rows} steps wait for group {self.group}; slow down"))
        asked = _Asked(record, sent_as, deadline_s)
        (self._later if asked.is_later else self._fresh).append(asked)
        self._waiting_rows += len(record.rows)
        self._flush_soon()
        try:
            async with asyncio.timeout_at(deadline_s):
                return await asked.answered
        except TimeoutError:
            raise CallFailed(self._out_of_time(asked.is_sent)) from None

    async def insist(self, record: StepRecord, sent_as: SentAs, deadline_s: float) -> Replies:
        """Send steps until they are answered; raises `CallFailed` at the deadline, or where repeating cannot help."""
        loop, pause_s = asyncio.get_running_loop(), PAUSE_S_MIN
        while True:
            try:
                return await self.ask(record, sent_as, deadline_s)
            except CallFailed as failed:
                helps = failed.fault.retry_after_ms is not None and failed.fault.reason != Reason.PLACEMENT_STALE
                if not helps or loop.time() + pause_s >= deadline_s:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
            sent_as = sent_as._replace(attempt=sent_as.attempt + 1)

    async def close(self) -> None:
        """Wait for the requests that are on their way."""
        while self._requests:
            await asyncio.wait(self._requests)

    def _flush_soon(self) -> None:
        """Not at once: what else is asked in this turn of the loop shall go along."""
        if not self._flushing and len(self._requests) < REQUESTS_IN_FLIGHT_MAX:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while len(self._requests) < REQUESTS_IN_FLIGHT_MAX and (waiting := self._next_lane()):
            together = self._next_request(waiting)
            if together:
                self._count_fresh(together, +1)
                task = asyncio.create_task(self._request(together))
                self._requests.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._flush_soon()

    def _next_lane(self) -> deque[_Asked] | None:
        if self._later:
            return self._later
        has_place = self._fresh_requests < FRESH_REQUESTS_MAX and self._fresh_rows < FRESH_ROWS_MAX
        return self._fresh if self._fresh and has_place else None

    def _count_fresh(self, together: list[_Asked], sign: int) -> None:
        if not together[0].is_later:
            self._fresh_requests += sign
            self._fresh_rows += sign * sum(len(asked.record.rows) for asked in together)

    def _next_request(self, waiting: deque[_Asked]) -> list[_Asked]:
        """Take what goes into one request: of one caller, and laid out by one placement."""
        together: list[_Asked] = []
        rows = 0
        while waiting and rows < REQUEST_ROWS_TARGET:
            asked = waiting[0]
            if together and asked.sent_as != together[0].sent_as:
                break
            waiting.popleft()
            self._waiting_rows -= len(asked.record.rows)
            if not asked.answered.done():  # else its deadline has passed
                asked.is_sent = True
                together.append(asked)
                rows += len(asked.record.rows)
        return together

    async def _request(self, together: list[_Asked]) -> None:
        try:
            await self._deliver(together)
        finally:
            self._count_fresh(together, -1)

    async def _deliver(self, together: list[_Asked]) -> None:
        record = together[0].record if len(together) == 1 else join_steps([asked.record for asked in together])
        try:
            replies = await self._send(record, together[0].sent_as, max(asked.deadline_s for asked in together))
        except CallFailed as failed:
            if failed.fault.code == INVALID_ARGUMENT and len(together) > 1:
                for asked in together:  # what is wrong with one of them is no matter of the others
                    await self._deliver([asked])
            else:
                _fail(together, failed)
        except Exception:
            logger.exception("steps for group %d could not be sent", self.group)
            _fail(together, CallFailed(fate_unknown(f"steps for group {self.group} could not be sent")))
        else:
            _answer(together, replies)

    def _out_of_time(self, is_sent: bool) -> Fault:
        if is_sent:
            return fate_unknown(f"group {self.group} did not answer within the deadline; ask again with the same ids")
        words = f"group {self.group} was not reached within the deadline; try again shortly"
        return unavailable(Reason.GROUP_UNREACHABLE, words, logged=Logged.NO)


def _answer(together: list[_Asked], replies: Replies) -> None:
    parts = [replies.answers]
    if len(together) > 1:
        parts = split_answers(replies.answers, [len(asked.record.steps) for asked in together])
    for asked, part in zip(together, parts, strict=True):
        if not asked.answered.done():
            asked.answered.set_result(Replies(part, replies.log_index))


def _fail(together: list[_Asked], failed: CallFailed) -> None:
    for asked in together:
        if not asked.answered.done():
            asked.answered.set_exception(CallFailed(failed.fault))
