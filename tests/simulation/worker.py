"""The log's thread, simulated: a job takes effect after some virtual time, or partly if the replica dies before."""

import asyncio
import random
from collections import deque
from collections.abc import Callable

from engine.exit_codes import EngineStopped
from engine.replication.worker import Done, Job
from tests.simulation.disk import Crash, SimulatedDisk

BRIEF_DELAY_S_MAX = 0.002
AT_ONCE = 0.3
"""How often a brief job runs before `submit` returns."""


class SimulatedWorker:
    """See `engine.replication.worker.Worker`. `delay_s` is how long the disk takes for one job, at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop, disk: SimulatedDisk, dice: random.Random) -> None:
        self._loop, self._disk, self._dice = loop, disk, dice
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.delay_s = 0.002
        self.dead = False

    def submit(self, job: Job, done: Done, *, brief: bool = False) -> None:
        self._require_life()
        self._jobs.append((job, done))
        if brief and len(self._jobs) == 1 and self.delay_s <= BRIEF_DELAY_S_MAX and self._dice.random() < AT_ONCE:
            self._run_one()
        self._wake()

    def wait(self) -> None:
        self._require_life()
        while self._jobs:
            self._run_one()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(lambda: None if self.dead else callback())

    def stop(self) -> None:
        self.wait()

    def crash(self) -> None:
        """Whatever was under way reaches the disk in part: its first few operations."""
        self.dead = True
        if self._timer is not None:
            self._timer.cancel()
        if self._jobs:
            self._disk.fuse = self._dice.randrange(4)
            try:
                self._jobs[0][0]()
            except (Crash, EngineStopped):
                pass
            finally:
                self._disk.fuse = None
        self._jobs.clear()

    def _require_life(self) -> None:
        if self.dead:
            raise Crash(self._disk.replica, again=True)

    def _wake(self) -> None:
        if self._timer is None and self._jobs:
            self._timer = self._loop.call_later(self._dice.uniform(0.0001, self.delay_s), self._due)

    def _due(self) -> None:
        self._timer = None
        if self._jobs and not self.dead:
            self._run_one()
            self._wake()

    def _run_one(self) -> None:
        job, done = self._jobs.popleft()
        failure = None
        try:
            job()
        except EngineStopped as stopped:
            failure = stopped
        done(failure)
