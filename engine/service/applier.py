"""The apply thread: applies committed records in order, answers, then saves; runs what must see the book at rest.

`load → apply → save` in one thread at a time, so the state needs no locks: reads of the book are jobs in the same
queue, and a job put after a barrier sees all that the barrier promised. Answers go out after apply and before save, in
groups, because a record is safe once it is in the log (docs/decisions/0002). A failure here ends the process: a record
is never skipped.

While the thread has nothing to do, the loop applies a small record by itself, loads it while the log waits for others,
and packs it once its answer is on its way; where nobody waits for answers, small records wait for each other
(docs/decisions/0015).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Protocol, TypeVar

from engine.exit_codes import EngineStopped, ExitCode
from engine.service.flight import Answer, Results
from engine.service.handover import Handover
from engine.service.held import Held

T = TypeVar("T")
LOG: Final = logging.getLogger(__name__)

ANSWERS_PER_GROUP_MAX: Final = 8
"""Applied records whose answers wait for each other, at most; an empty queue ends a group at once."""
QUEUE_BYTES_MAX: Final = 64 << 20
"""Above this the log is asked to hand nothing over; below half of it, to go on."""
SAVE_EVERY_S: Final = 0.02
"""Applied records are saved together for so long: they are safe in the log, and a save costs as much as several."""
SAVE_BYTES_MIN: Final = 1 << 20
"""Less than this, which the log can deliver again in a moment, may wait until"""
SAVE_S_MAX: Final = 0.25
"""the oldest of it is so old: a save would keep the thread, and a core, from the next answer."""
IDLE_S: Final = 0.25
"""An idle thread lets the state machine do its background work so often."""
HERE_BYTES_MAX: Final = 4096
"""A record of at most so many bytes may be applied in the loop's thread: handing it over, and its answer back, takes
longer than applying it;"""
HERE_S_MAX: Final = 0.002
"""unless one took longer than this, as where it had to wait for the disk:"""
HERE_AGAIN_RECORDS: Final = 16
"""then so many small ones go to the other thread first."""
_FAILED: Final = (
    "what follows log record {} could not be applied or saved ({!r}); report this, and restore or replace the replica"
)


class Committed(NamedTuple):
    """A record of the log, handed over by it."""

    log_index: int
    term: int
    record: bytes | memoryview


Job = Callable[[], None]


class _Unpacked(NamedTuple):
    """A record whose answers are known, before the machine may be used for anything else."""

    committed: Committed
    results: Results
    took_s: float


class _Nothing(Enum):
    """The queue is empty."""

    NOTHING = "nothing"


_NOTHING: Final = _Nothing.NOTHING


class Machine(Protocol):
    """What the thread drives: the group's state and its store."""

    @property
    def applied_index(self) -> int:
        """The log index of the last record applied."""

    @property
    def state_hash(self) -> bytes:
        """The running hash at `applied_index`."""

    def apply(self, log_index: int, term: int, record: bytes | memoryview) -> Results:
        """Apply one record in memory; one `RESULT` per row, or the answers to its steps."""

    def prepare(self, record: bytes | memoryview) -> None:
        """Load a record that may be applied next; changes nothing."""

    def judge(self, log_index: int, term: int, record: bytes | memoryview) -> Results:
        """The first half of `apply`, which has the results; `pack` must come next."""

    def pack(self) -> None:
        """The second half of `apply`."""

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
        self._queued, self._done = 0, 0
        """Items put into the queue, counted on the loop; items done with, counted by the thread."""
        self._turn_lock = threading.Lock()
        """Held by whichever thread has the machine; by the loop until what it judged is packed."""
        self._unpacked: _Unpacked | None = None
        self._held = Held[Committed](loop, self._hand_over)
        self._hurries, self._slow_for = False, 0
        self._queued_bytes = 0
        self._paused = False
        self._unsaved, self._unsaved_bytes, self._save_at_s, self._handled_bytes = 0, 0, 0.0, 0
        self._handover = Handover(machine.applied_index, loop)
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None
        self.saved: Callable[[], None] = _nobody
        """Told on the apply thread after each save."""
        self.applied: Callable[[float, Results], None] | None = None
        """Told on the apply thread how many seconds each record took, and what its callers are told."""
        self.note_state_hash: Callable[[int, bytes], None] | None = None
        """Told, on the loop and in log order, where the running hash stands behind each record."""

    def start(self) -> None:
        """Begin to apply."""
        self._thread.start()

    async def stop(self) -> None:
        """Apply and save what is queued, then end the thread."""
        self._held.release()
        self._hand_over(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def put(self, log_index: int, term: int, record: bytes | memoryview) -> None:
        """Take one committed record, in log order: the log's `apply` callback."""
        self._queued_bytes += len(record)
        committed = Committed(log_index, term, record)
        if not self._hurries:
            self._held.add(committed)
        elif not self._applied_here(committed):
            self._hand_over(committed)
        self._handover.reached(log_index)
        if self.pause is not None and not self._paused and self._queued_bytes > QUEUE_BYTES_MAX:
            self._paused = True
            self.pause()

    def prepare(self, record: bytes) -> None:
        """Take a record that was proposed by itself, and look up what it needs while the log waits for others: `put`
        will bring this very object, if it is committed."""
        if len(record) > HERE_BYTES_MAX or self._queued != self._done or self._slow_for:
            return
        if not self._turn_lock.acquire(blocking=False):
            return
        began_s = time.perf_counter()
        try:
            self._machine.prepare(record)
        except Exception as error:
            self._failed(self._ended_by(error))
        finally:
            self._turn_lock.release()
        self._note_slowness(time.perf_counter() - began_s)

    def hurry(self, hurries: bool) -> None:
        """Note whether anybody waits for the answers: whether this replica leads. Before that is known, nobody does."""
        self._held.release()
        self._hurries = hurries

    def jumped_to(self, log_index: int) -> None:
        """Note that a snapshot brought the state to `log_index`: what it covers is not handed over any more."""
        self._handover.reached(log_index)

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job on the apply thread, after all records put so far; returns or raises what it does."""
        future: Future[T] = Future()
        self._held.release()
        self._hand_over(partial(_run_job, job, future))
        return await asyncio.wrap_future(future)

    async def handed_over(self, log_index: int) -> None:
        """Return once all records up to `log_index` were put: a job put from then on sees them."""
        await self._handover.until(log_index)

    def applied_through(self, handed_index: int) -> int:
        """Return up to which log index nothing is left to apply, where the log has handed over all up to
        `handed_index`: its no-ops, such as those of barriers, never come here."""
        applied = self._machine.applied_index
        return max(applied, handed_index) if applied >= self._handover.log_index else applied

    def _hand_over(self, item: "Committed | Job | None") -> None:
        self._queued += 1
        self._queue.put(item)

    # -- on the loop, in place of the thread

    def _applied_here(self, committed: Committed) -> bool:
        """Apply a small record at once, if the thread is at rest and records were applied quickly of late."""
        self._pack_here()
        if len(committed.record) > HERE_BYTES_MAX or self._queued != self._done:
            return False
        if self._slow_for:
            self._slow_for -= 1
            return False
        if not self._turn_lock.acquire(blocking=False):  # it saves
            return False
        self._judge_here(committed)
        return True

    def _judge_here(self, committed: Committed) -> None:
        """Find the answers, and have them told before the record is packed: they stay true whatever comes of that."""
        began_s = time.perf_counter()
        try:
            results = self._machine.judge(*committed)
        except Exception as error:
            self._turn_lock.release()
            self._loop.call_soon(self._failed, self._ended_by(error))
            return
        self._unpacked = _Unpacked(committed, results, time.perf_counter() - began_s)
        # Not at once: who proposed the record is about to be told where it is.
        self._loop.call_soon(self._tell_here, Answer(committed.log_index, results))

    def _tell_here(self, answer: Answer) -> None:
        try:
            self._answered((answer,))
        finally:
            self._loop.call_soon(self._pack_here)  # behind who waited for the answer, and sends it

    def _pack_here(self) -> None:
        """Finish what was judged here, if that is still to do, and let go of the machine."""
        if self._unpacked is None:
            return
        (committed, results, judging_s), self._unpacked = self._unpacked, None
        began_s = time.perf_counter()
        try:
            self._machine.pack()
            took_s = judging_s + time.perf_counter() - began_s
            self._count(committed, results, took_s)
        except Exception as error:
            self._loop.call_soon(self._failed, self._ended_by(error))
            return
        finally:
            self._turn_lock.release()
        self._note_slowness(took_s)
        self._note(((self._machine.applied_index, self._machine.state_hash),), len(committed.record))
        if self._unsaved >= self._group_records_max:
            self._hand_over(_nobody)

    def _note_slowness(self, took_s: float) -> None:
        if took_s > HERE_S_MAX:
            self._slow_for = HERE_AGAIN_RECORDS

    # -- on the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:
            self._loop.call_soon_threadsafe(self._failed, self._ended_by(error))

    def _turn(self) -> bool:
        """Apply and answer what is queued, save when it is time; False once told to stop."""
        item = self._next()
        with self._turn_lock:
            return self._work_on(item)

    def _work_on(self, item: "Committed | Job | _Nothing | None") -> bool:
        done = 0
        answers: list[Answer] = []
        hashes: list[tuple[int, bytes]] = []
        while isinstance(item, Committed) or callable(item):
            if isinstance(item, Committed):
                answers.append(Answer(item.log_index, self._apply(item)))
                hashes.append((self._machine.applied_index, self._machine.state_hash))
            else:
                item()
            done += 1
            if len(answers) >= ANSWERS_PER_GROUP_MAX or self._unsaved >= self._group_records_max:
                break
            item = self._at_once()
        if answers:
            handled_bytes, self._handled_bytes = self._handled_bytes, 0
            self._loop.call_soon_threadsafe(self._told, answers, hashes, handled_bytes)
        if item is None or self._save_is_due():
            self._unsaved = 0
            self._machine.save()
            self.saved()
        elif item is _NOTHING and not self._unsaved and not done:
            self._machine.rest()
        self._done += done
        return item is not None

    def _save_is_due(self) -> bool:
        overdue = self._unsaved > 0 and time.monotonic() >= self._save_at_s
        return overdue or self._unsaved >= self._group_records_max

    def _next(self) -> "Committed | Job | _Nothing | None":
        """Wait for something to do, no longer than saving can wait."""
        wait_s = max(0.0, self._save_at_s - time.monotonic()) if self._unsaved else IDLE_S
        try:
            return self._queue.get(timeout=wait_s)
        except Empty:
            return _NOTHING

    def _at_once(self) -> "Committed | Job | _Nothing | None":
        try:
            return self._queue.get_nowait()
        except Empty:
            return _NOTHING

    def _ended_by(self, error: Exception) -> EngineStopped:
        """Return what ends the process after `error`."""
        if isinstance(error, EngineStopped):
            return error
        LOG.exception("apply or save failed", extra={"log_index": self._machine.applied_index}, exc_info=error)
        return EngineStopped(ExitCode.APPLY_FAILED, _FAILED.format(self._machine.applied_index, error))

    def _apply(self, committed: Committed) -> Results:
        started_s = time.perf_counter()
        results = self._machine.apply(*committed)
        self._count(committed, results, time.perf_counter() - started_s)
        self._handled_bytes += len(committed.record)
        return results

    def _count(self, committed: Committed, results: Results, took_s: float) -> None:
        """Note that a record is applied, and when it must be saved. By whoever has the machine."""
        if not self._unsaved:
            self._save_at_s, self._unsaved_bytes = time.monotonic() + SAVE_S_MAX, 0
        self._unsaved += 1
        before, self._unsaved_bytes = self._unsaved_bytes, self._unsaved_bytes + len(committed.record)
        if before < SAVE_BYTES_MIN <= self._unsaved_bytes:
            self._save_at_s -= SAVE_S_MAX - SAVE_EVERY_S
        if self.applied is not None:
            self.applied(took_s, results)

    # -- on the loop

    def _told(self, answers: list[Answer], hashes: list[tuple[int, bytes]], handled_bytes: int) -> None:
        self._note(hashes, handled_bytes)
        self._answered(answers)

    def _note(self, hashes: Iterable[tuple[int, bytes]], handled_bytes: int) -> None:
        if self.note_state_hash is not None:
            for log_index, state_hash in hashes:
                self.note_state_hash(log_index, state_hash)
        self._queued_bytes -= handled_bytes
        if self._paused and self.resume is not None and self._queued_bytes < QUEUE_BYTES_MAX // 2:
            self._paused = False
            self.resume()


def _nobody() -> None:
    """Nobody wants to know."""


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
