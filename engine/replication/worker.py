"""Where blocking work runs: in one thread beside the event loop, or at once where there is no loop."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from engine.exit_codes import EngineStopped, ExitCode

Job = Callable[[], None]
"""Blocking work; raises `EngineStopped` only."""
Done = Callable[[EngineStopped | None], None]
"""Told once its job is over, on the loop's thread."""

WAIT_S_MAX: Final = 60.0
"""The longest that the loop waits for the disk, when it must wait (a vote); then the disk counts as failed."""
BRIEF_S_MAX: Final = 0.002
"""A job that took longer was not brief."""
SLOW_S_MIN: Final = 0.01
"""One that took so long is a sign of more to come, not of a busy machine."""
BRIEF_JOBS_TO_TRUST: Final = 16
"""At the start, and after a slow job, so many brief ones in a row are to be seen before one may hold up the loop;"""
BRIEF_JOBS_TO_FORGIVE: Final = 2
"""after one that was merely not brief, so many."""
REST_S_MIN: Final = 0.001
"""A disk that was at work until less than this ago is busy: the loop has better things to do than to wait for it."""


class Worker(Protocol):
    """Runs jobs one at a time, in the order in which they were submitted."""

    def submit(self, job: Job, done: Done, *, brief: bool = False) -> None:
        """Run `job` off the loop, then `done` on it. A `brief` one may run at once: `done` is then called from here."""

    def wait(self) -> None:
        """Block until every job submitted is over and its `done` was called, here and now."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back on the loop's thread, later, never from inside this call."""

    def stop(self) -> None:
        """Finish what was submitted and end."""


class Pace:
    """How quickly jobs were done lately: whether the loop may wait for the next one.

    Handing a small write to a thread and back costs more than a good disk takes for it (docs/decisions/0010), and
    at rest the loop has nothing else to do. After a slow job the thread has them all until the disk is trusted anew.
    """

    def __init__(self) -> None:
        """Nothing is known, so nothing is trusted."""
        self._untrusted, self._ended_s = BRIEF_JOBS_TO_TRUST, 0.0

    def may_wait(self) -> bool:
        """Whether a brief job is brief enough, and the disk at rest."""
        return not self._untrusted and time.monotonic() - self._ended_s >= REST_S_MIN

    def run(self, job: Job) -> EngineStopped | None:
        """Run a job and note how long it took; its failure is a value."""
        began_s = time.monotonic()
        failure = _failure_of(job)
        self._ended_s = time.monotonic()
        self._untrusted = self._doubt_after(self._ended_s - began_s)
        return failure

    def _doubt_after(self, took_s: float) -> int:
        """Return how many brief jobs are to be seen after one that took so long."""
        if took_s <= BRIEF_S_MAX:
            return max(0, self._untrusted - 1)
        return max(self._untrusted, BRIEF_JOBS_TO_TRUST if took_s >= SLOW_S_MIN else BRIEF_JOBS_TO_FORGIVE)


class ThreadWorker:
    """One thread. Its Python work is taking a job and posting its end: the job itself is system calls without the
    GIL. Brief jobs run in the loop's thread while that is quicker (`Pace`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str = "log-sync") -> None:
        """Starts the thread; `loop` is where `done` is called."""
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self._over: queue.SimpleQueue[tuple[Done, EngineStopped | None]] = queue.SimpleQueue()
        self._outstanding = 0
        self._pace = Pace()
        # A daemon: a disk that never answers must not keep a process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done, *, brief: bool = False) -> None:
        """As `Worker.submit`. The number of jobs is bounded by the log: one group, one spare, one recycling."""
        if brief and not self._outstanding and self._pace.may_wait():
            return done(self._pace.run(job))
        self._outstanding += 1
        return self._jobs.put((job, done))

    def wait(self) -> None:
        """As `Worker.wait`; raise SYNC_FAILED if the disk does not answer within `WAIT_S_MAX`."""
        while self._outstanding:
            try:
                self._finish(self._over.get(timeout=WAIT_S_MAX))
            except queue.Empty:
                message = f"the disk did not answer for {WAIT_S_MAX:.0f} s; look at its health, then start again"
                raise EngineStopped(ExitCode.SYNC_FAILED, message) from None

    def call_soon(self, callback: Callable[[], None]) -> None:
        """As `Worker.call_soon`."""
        self._loop.call_soon(callback)

    def stop(self) -> None:
        """As `Worker.stop`; gives a disk that hangs `WAIT_S_MAX`, no longer."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(WAIT_S_MAX)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            self._over.put((done, self._pace.run(job)))
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed; `wait` still finds what is over
                continue

    def _deliver(self) -> None:
        while True:
            try:
                item = self._over.get_nowait()
            except queue.Empty:
                return
            self._finish(item)

    def _finish(self, item: tuple[Done, EngineStopped | None]) -> None:
        done, failure = item
        self._outstanding -= 1
        done(failure)


class ImmediateWorker:
    """Runs each job in `submit`: for offline commands, and for simulations that decide by themselves what happens
    when."""

    def __init__(self) -> None:
        """Nothing to start."""
        self._soon: list[Callable[[], None]] = []

    def submit(self, job: Job, done: Done, *, brief: bool = False) -> None:
        """As `Worker.submit`, before it returns."""
        done(_failure_of(job))

    def wait(self) -> None:
        """Nothing is ever outstanding."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Keep it for `run_soon`."""
        self._soon.append(callback)

    def run_soon(self) -> None:
        """Call what was left for later."""
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    def stop(self) -> None:
        """Nothing to end."""


def _failure_of(job: Job) -> EngineStopped | None:
    try:
        job()
    except EngineStopped as stopped:
        return stopped
    except Exception as error:  # a bug in the log's thread must end the process, not the thread
        return EngineStopped(ExitCode.FAILED, f"the log's thread failed: {error!r}; report this and start again")
    return None
