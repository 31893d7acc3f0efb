"""The apply thread of a simulated node: the same queue, order and grouping, a little virtual time for each turn."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from engine.exit_codes import EngineStopped
from engine.service.applier import Committed, Machine
from engine.service.flight import Answer
from engine.service.handover import Handover
from tests.simulation.groups.process import CURRENT, Process

T = TypeVar("T")
TURN_S_MAX = 0.002
RECORDS_A_TURN_MAX = 8
SAVE_CHANCE = 0.15

Applied = Callable[[Committed, Any], None]


class SimulatedApplier:
    """Stands in for `engine.service.applier.Applier`; of the current process."""

    dice: random.Random
    watched: Callable[[Process, Machine, Committed, Any], None]
    """Told each record that was new to its replica, and what it gave."""

    def __init__(
        self,
        machine: Machine,
        loop: asyncio.AbstractEventLoop,
        *,
        answered: Callable[[Iterable[Answer]], None],
        failed: Callable[[EngineStopped], None],
        group_records_max: int,
    ) -> None:
        process = CURRENT.get()
        if process is None:
            raise RuntimeError("an applier belongs to a process")
        self._process, self._machine, self._loop = process, machine, loop
        self._answered, self._failed = answered, failed
        self._queue: deque[Committed | Callable[[], None]] = deque()
        self._handover = Handover(machine.applied_index, loop)
        self._due = False
        self.turn_s_max = TURN_S_MAX
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None
        self.note_state_hash: Callable[[int, bytes], None] | None = None

    def start(self) -> None:
        """Begin to apply."""

    async def stop(self) -> None:
        """Apply and save what is queued."""
        while self._queue:
            self._turn()
        self._machine.save()

    def prepare(self, record: bytes) -> None:
        """See `Applier.prepare`."""
        if self._queue or not self._process.alive:
            return
        try:
            self._machine.prepare(record)
        except EngineStopped as stopped:
            self._failed(stopped)

    def put(self, log_index: int, term: int, record: bytes | memoryview) -> None:
        """See `Applier.put`."""
        self._queue.append(Committed(log_index, term, bytes(record)))
        self._handover.reached(log_index)
        self._turn_soon()

    def hurry(self, hurries: bool) -> None:
        """See `Applier.hurry`: here all replicas are at the mercy of the dice."""

    async def run(self, job: Callable[[], T]) -> T:
        """See `Applier.run`."""
        done: asyncio.Future[T] = self._loop.create_future()

        def work() -> None:
            if not done.done():
                try:
                    done.set_result(job())
                except Exception as error:
                    done.set_exception(error)

        self._queue.append(work)
        self._turn_soon()
        return await done

    async def handed_over(self, log_index: int) -> None:
        """See `Applier.handed_over`."""
        await self._handover.until(log_index)

    def applied_through(self, handed_index: int) -> int:
        """See `Applier.applied_through`."""
        applied = self._machine.applied_index
        return max(applied, handed_index) if applied >= self._handover.log_index else applied

    def _turn_soon(self) -> None:
        if not self._due:
            self._due = True
            delay_s = self.dice.uniform(0.0, self.turn_s_max)
            self._loop.call_later(delay_s, self._turn, context=self._process.context.copy())

    def _turn(self) -> None:
        self._due = False
        if not self._process.alive:
            return
        try:
            self._work(self.dice.randint(1, RECORDS_A_TURN_MAX))
        except EngineStopped as stopped:
            self._failed(stopped)
        if self._queue:
            self._turn_soon()

    def _work(self, count: int) -> None:
        answers, hashes = [], []
        for _ in range(min(count, len(self._queue))):
            item = self._queue.popleft()
            if isinstance(item, Committed):
                is_new = item.log_index > self._machine.applied_index
                results = self._machine.apply(*item)
                if is_new:
                    self.watched(self._process, self._machine, item, results)
                answers.append(Answer(item.log_index, results))
                hashes.append((self._machine.applied_index, self._machine.state_hash))
            else:
                item()
        if self.dice.random() < SAVE_CHANCE:
            self._machine.save()
        if answers:
            self._loop.call_soon(self._told, answers, hashes)

    def _told(self, answers: list[Answer], hashes: list[tuple[int, bytes]]) -> None:
        if not self._process.alive:
            return
        if self.note_state_hash is not None:
            for log_index, state_hash in hashes:
                self.note_state_hash(log_index, state_hash)
        self._answered(answers)
