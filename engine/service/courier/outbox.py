"""The courier's way to one group: orders that wait for it go together, one request at a time (DESIGN §7).

A group that does not answer is tried with a few orders at most until it does, so that the chains that touch it keep
nobody else waiting.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from engine import failpoints
from engine.core.chains.plan import ChainDamaged
from engine.core.chains.step_answers import SHORT, AnswersDamaged, StepAnswers, words_of
from engine.core.chains.step_record import StepRecord, steps_of
from engine.core.chains.word import Order, Word
from engine.failpoints import Failpoint
from engine.rpc.faults import CallFailed

LOG: Final = logging.getLogger(__name__)

REQUEST_ORDERS_MAX: Final = 1024
REQUEST_ROWS_MAX: Final = 8190
"""A request is closed before more rows; one chain alone may have as many."""
PROBE_ORDERS_MAX: Final = 16
"""Orders that a group gets at a time while it has not answered the last ones."""

Send = Callable[[StepRecord], Awaitable[StepAnswers]]
"""Sends steps to the group and returns its answers; raises `CallFailed`."""


class Errand(NamedTuple):
    """An order, and who waits for the group's word."""

    order: Order
    time_ns: int
    """Of the step: see `engine.core.chains.step_record.STEP`."""
    learn: Callable[["Errand", Word | None, bool], None]
    """Whether the group's bucket of a split account is short, and it has logged nothing, comes last."""
    fail: Callable[["Errand"], None]


class Outbox:
    """Orders for one group. On the event loop's thread."""

    def __init__(self, group: int, send: Send) -> None:
        self.group, self._send = group, send
        self._waiting: deque[Errand] = deque()
        self._sending: asyncio.Task[None] | None = None
        self.answers = True
        """Whether the group answered the last request."""

    def put(self, errand: Errand) -> None:
        """Let an order wait for the next request; it fails at once while the group does not answer and has enough."""
        if not self.answers and len(self._waiting) >= PROBE_ORDERS_MAX:
            errand.fail(errand)
            return
        self._waiting.append(errand)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name=f"orders for group {self.group}")

    def close(self) -> None:
        """Send nothing more."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # what else is put in this turn of the loop goes along
        while self._waiting:
            together = self._next_request()
            try:
                answered = await self._words(together)
            except (CallFailed, AnswersDamaged, ChainDamaged) as failed:
                LOG.info("group %d did not answer the courier: %s", self.group, failed)
                self._give_up(together)
                continue
            except Exception:  # whatever it was, the chains of this request must not stay in flight for ever
                LOG.exception("steps for group %d could not be sent", self.group)
                self._give_up(together)
                continue
            self.answers = True
            for errand, (word, is_short) in zip(together, answered, strict=True):
                errand.learn(errand, word, is_short)

    def _give_up(self, together: list[Errand]) -> None:
        """What waits longer would wait in vain."""
        self.answers = False
        failed, self._waiting = [*together, *self._waiting], deque()
        for errand in failed:
            errand.fail(errand)

    def _next_request(self) -> list[Errand]:
        orders_max = REQUEST_ORDERS_MAX if self.answers else PROBE_ORDERS_MAX
        together, rows = [self._waiting.popleft()], 0
        rows = together[0].order.chain.legs
        while self._waiting and len(together) < orders_max:
            rows += self._waiting[0].order.chain.legs
            if rows > REQUEST_ROWS_MAX:
                break
            together.append(self._waiting.popleft())
        return together

    async def _words(self, together: list[Errand]) -> list[tuple[Word | None, bool]]:
        orders = [errand.order for errand in together]
        failpoints.reach(Failpoint.COURIER_BEFORE_SENT)
        answers = await self._send(steps_of(orders, [errand.time_ns for errand in together]))
        failpoints.reach(Failpoint.COURIER_AFTER_SENT)
        if len(answers.answers) != len(orders):
            raise AnswersDamaged(f"{len(orders)} steps got {len(answers.answers)} answers")
        short = (answers.answers["flags"] & SHORT) != 0
        return list(zip(words_of(answers, [order.chain for order in orders], self.group), short.tolist(), strict=True))
