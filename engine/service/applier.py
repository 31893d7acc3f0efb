"""The apply thread: applies committed records in order, answers, then saves; runs what must see the book at rest.

`load → apply → save` on one thread, so the state needs no locks: reads of the book are jobs in the same queue, and a
job put after a barrier sees all that the barrier promised. Answers go out after apply and before save, in groups,
because a record is safe once it is in the log (docs/decisions/0002). A failure here ends the process: a record is never
skipped.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from engine.exit_codes import EngineStopped, ExitCode
from engine.service.batcher import Answer

T = TypeVar("T")
LOG: Final = logging.getLogger(__name__)

ANSWERS_PER_GROUP_MAX: Final = 8
"""Applied records whose answers wait for each other, at most; an empty queue ends a group at once."""
QUEUE_BYTES_MAX: Final = 64 << 20
"""Above this the log is asked to hand nothing over; below half of it, to go on."""
IDLE_S: Final = 0.25
"""An idle thread lets the state machine do its background work so often."""
_FAILED: Final = (
    "what follows log record {} could not be applied or saved ({!r}); report this, and restore or replace the replica"
)


class Committed(NamedTuple):
    """A record of the log, handed over by it."""

    log_index: int
    term: int
    record: bytes | memoryview


Job = Callable[[], None]


class Machine(Protocol):
    """What the thread drives: the group's state and its store."""

    @property
    def applied_index(self) -> int:
        """The log index of the last record applied."""

    def apply(self, log_index: int, term: int, record: bytes | memoryview) -> npt.NDArray[np.void]:
        """Apply one record in memory; one `RESULT` per row."""

    def save(self) -> None:
        """Save everything applied since the last call, in one synced transaction."""

    def rest(self) -> None:
        """Do what may wait until nothing else is to do."""


class Applier:
    """Owns the thread. Methods are called on the event loop's thread unless they say otherwise."""

    def __init__(
        self,
        machine: Machine,
        loop: asyncio.AbstractEventLoop,
        *,
        answered: Callable[[Iterable[Answer]], None],
        failed: Callable[[EngineStopped], None],
        group_records_max: int,
    ) -> None:
        self._machine, self._loop, self._answered, self._failed = machine, loop, answered, failed
        self._group_records_max = group_records_max
        self._queue: SimpleQueue[Committed | Job | None] = SimpleQueue()
        self._queued_bytes = 0
        self._paused = False
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to apply."""
        self._thread.start()

    async def stop(self) -> None:
        """Apply and save what is queued, then end the thread."""
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def put(self, log_index: int, term: int, record: bytes | memoryview) -> None:
        """Take one committed record, in log order: the log's `apply` callback."""
        self._queued_bytes += len(record)
        self._queue.put(Committed(log_index, term, record))
        if self.pause is not None and not self._paused and self._queued_bytes > QUEUE_BYTES_MAX:
            self._paused = True
            self.pause()

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job on the apply thread, after all records put so far; returns or raises what it does."""
        future: Future[T] = Future()
        self._queue.put(partial(_run_job, job, future))
        return await asyncio.wrap_future(future)

    # -- on the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except EngineStopped as stopped:
            self._loop.call_soon_threadsafe(self._failed, stopped)
        except Exception as error:
            LOG.exception("apply or save failed", extra={"log_index": self._machine.applied_index})
            message = _FAILED.format(self._machine.applied_index, error)
            self._loop.call_soon_threadsafe(self._failed, EngineStopped(ExitCode.APPLY_FAILED, message))

    def _turn(self) -> bool:
        """Apply one group, answer and save it; False once told to stop."""
        try:
            item = self._queue.get(timeout=IDLE_S)
        except Empty:
            self._machine.rest()
            return True
        going_on, applied, answers, handled_bytes = True, 0, list[Answer](), 0
        while item is not None:
            if isinstance(item, Committed):
                results = self._machine.apply(item.log_index, item.term, item.record)
                answers.append(Answer(item.log_index, results))
                applied, handled_bytes = applied + 1, handled_bytes + len(item.record)
            else:
                item()
            if len(answers) >= ANSWERS_PER_GROUP_MAX:
                answers, handled_bytes = self._answer(answers, handled_bytes)
            if applied >= self._group_records_max:
                break
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
        going_on = item is not None
        self._answer(answers, handled_bytes)
        if applied:
            self._machine.save()
        return going_on

    def _answer(self, answers: list[Answer], handled_bytes: int) -> tuple[list[Answer], int]:
        """Hand a group's answers to the loop; returns the empty next group."""
        if answers:
            self._loop.call_soon_threadsafe(self._told, answers, handled_bytes)
        return [], 0

    # -- on the loop

    def _told(self, answers: list[Answer], handled_bytes: int) -> None:
        self._queued_bytes -= handled_bytes
        if self._paused and self.resume is not None and self._queued_bytes < QUEUE_BYTES_MAX // 2:
            self._paused = False
            self.resume()
        self._answered(answers)


def _run_job(job: Callable[[], T], future: "Future[T]") -> None:
    """Run a job that somebody may still wait for. What must end the process is told to both."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except EngineStopped as stopped:
        future.set_exception(stopped)
        raise
    except Exception as error:
        future.set_exception(error)
