"""Where and when records are applied, and what the apply thread has behind it, as `describe` tells it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.service import applier as applier_module
from engine.service.applier import HERE_AGAIN_RECORDS, HERE_BYTES_MAX, Applier
from engine.service.flight import Answer
from engine.service.held import HELD_BYTES_MAX

HANDED = 5
SMALL, LARGE = b"record", bytes(HERE_BYTES_MAX + 1)
WAIT_S_MAX = 30.0
SLOW_S = 0.01


@pytest.fixture(autouse=True)
def never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine lets a record take, it counts as quick, and an idle thread leaves the machine alone."""
    monkeypatch.setattr(applier_module, "HERE_S_MAX", 3600.0)
    monkeypatch.setattr(applier_module, "IDLE_S", 3600.0)


class Machine:
    """Applies nothing: the thread is never started."""

    applied_index = 3
    state_hash = bytes(32)


def applier(machine: Machine) -> Applier:
    loop = asyncio.get_running_loop()
    return Applier(machine, loop, answered=list, failed=print, group_records_max=1)  # type: ignore[arg-type]


async def test_no_ops_that_the_log_kept_to_itself_are_no_lag():
    assert applier(Machine()).applied_through(HANDED) == HANDED


async def test_a_record_that_waits_is_lag():
    machine = Machine()
    waiting = applier(machine)
    waiting.put(4, 1, b"record")
    assert waiting.applied_through(HANDED) == 3
    machine.applied_index = 4
    assert waiting.applied_through(HANDED) == HANDED


async def test_what_a_snapshot_brought_is_told_before_the_log_counts_it():
    machine = Machine()
    installed = applier(machine)
    installed.jumped_to(9)
    machine.applied_index = 9
    assert installed.applied_through(HANDED) == 9


class Noting:
    """Notes which thread applied what, and that nothing is asked of it between the halves of applying."""

    state_hash = bytes(32)

    def __init__(self) -> None:
        self.applied_index, self.threads = 0, list[int]()
        self.saved_index = 0
        self.judged: tuple[int, bytes] | None = None
        self.prepared = list[bytes]()

    def apply(self, log_index: int, term: int, record: bytes) -> str:
        results = self.judge(log_index, term, record)
        self.pack()
        return results

    def prepare(self, record: bytes) -> None:
        assert self.judged is None
        self.prepared.append(record)

    def judge(self, log_index: int, term: int, record: bytes) -> str:
        assert self.judged is None
        if record == b"bad":
            raise EngineStopped(ExitCode.APPLY_FAILED, "bad")
        if record == b"slow":
            time.sleep(SLOW_S)
        self.threads.append(threading.get_ident())
        self.judged = (log_index, record)
        return "done"

    def pack(self) -> None:
        if self.judged is not None:
            if self.judged[1] == b"cannot be packed":
                raise EngineStopped(ExitCode.APPLY_FAILED, "not packed")
            self.applied_index, self.judged = self.judged[0], None

    def save(self) -> None:
        assert self.judged is None
        self.saved_index = self.applied_index

    def rest(self) -> None:
        """Nothing waits."""


class Bench:
    """An applier at work, and what it said."""

    def __init__(self, group_records_max: int) -> None:
        self.machine, self.told, self.failures = Noting(), list[int](), list[EngineStopped]()
        self.applied_when_told = list[int]()
        self.changed = asyncio.Event()
        self.applier = Applier(
            self.machine,  # type: ignore[arg-type]
            asyncio.get_running_loop(),
            answered=self._answered,
            failed=self._failed,
            group_records_max=group_records_max,
        )

    def _answered(self, answers: Iterable[Answer]) -> None:
        answered = [one.log_index for one in answers]
        self.told += answered
        self.applied_when_told += [self.machine.applied_index] * len(answered)
        self.changed.set()

    def _failed(self, stopped: EngineStopped) -> None:
        self.failures.append(stopped)
        self.changed.set()

    def put(self, *records: bytes) -> None:
        for record in records:
            self.applier.put(self.applier._handover.log_index + 1, 1, record)

    async def told_all(self, count: int) -> None:
        """Wait until so many answers were told; they are in order."""
        async with asyncio.timeout(WAIT_S_MAX):
            while len(self.told) < count:
                self.changed.clear()
                await self.changed.wait()
        assert self.told == list(range(1, count + 1))

    @property
    def here(self) -> list[bool]:
        """Of each record applied, whether it was in this thread."""
        return [one == threading.get_ident() for one in self.machine.threads]


@asynccontextmanager
async def running(*, leads: bool = True, group_records_max: int = 100) -> AsyncIterator[Bench]:
    bench = Bench(group_records_max)
    bench.applier.hurry(leads)
    bench.applier.start()
    yield bench
    await bench.applier.stop()


async def test_a_leader_applies_a_small_record_at_once_and_tells_it_later():
    async with running() as bench:
        bench.put(SMALL)
        assert bench.here == [True]
        assert bench.told == []
        await bench.told_all(1)


async def test_an_answer_found_here_is_told_before_the_record_is_packed():
    async with running() as bench:
        bench.put(SMALL)
        await bench.told_all(1)
        assert bench.applied_when_told == [0]
        assert await bench.applier.run(lambda: bench.machine.applied_index) == 1


async def test_what_was_judged_here_is_packed_before_the_next_record_is():
    async with running() as bench:
        bench.put(SMALL, SMALL)
        assert bench.machine.applied_index == 1
        bench.put(LARGE, SMALL)
        assert bench.machine.applied_index >= 2
        await bench.told_all(4)
        assert bench.here[:3] == [True, True, False]


async def test_whoever_wants_the_machine_waits_until_it_is_packed():
    async with running() as bench:
        for log_index in range(1, 100):
            bench.put(SMALL)
            assert await bench.applier.run(lambda: (bench.machine.judged, bench.machine.applied_index)) == (
                None,
                log_index,
            )


async def test_a_record_that_cannot_be_packed_was_answered_and_ends_the_process():
    async with running() as bench:
        bench.put(b"cannot be packed")
        await bench.told_all(1)
        async with asyncio.timeout(WAIT_S_MAX):
            while not bench.failures:
                await asyncio.sleep(0)
        assert [one.code for one in bench.failures] == [ExitCode.APPLY_FAILED]
        bench.machine.judged = None


async def test_a_small_record_is_prepared_while_nothing_else_is_done():
    async with running() as bench:
        bench.applier.prepare(SMALL)
        bench.applier.prepare(LARGE)
        assert bench.machine.prepared == [SMALL]
        bench.put(SMALL)
        bench.applier.prepare(SMALL)  # not before the one before is packed
        assert bench.machine.prepared == [SMALL]
        await bench.told_all(1)
        bench.applier._queued += 1  # as if the thread had something to do
        bench.applier.prepare(SMALL)
        bench.applier._queued -= 1
        assert bench.machine.prepared == [SMALL]


async def test_what_follows_a_large_record_waits_for_it():
    bench = Bench(100)
    bench.applier.hurry(True)
    bench.put(LARGE, SMALL, SMALL)  # before the thread can have done with the first
    bench.applier.start()
    await bench.told_all(3)
    assert bench.here == [False] * 3
    await bench.applier.stop()


async def test_small_and_large_ones_in_turn_are_told_in_order():
    async with running(group_records_max=3) as bench:
        for _ in range(200):
            bench.put(SMALL, LARGE, SMALL)
            await asyncio.sleep(0)
        await bench.told_all(600)


async def test_after_a_slow_record_the_next_ones_go_to_the_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(applier_module, "HERE_S_MAX", SLOW_S / 2)
    async with running() as bench:
        bench.put(b"slow")
        for number in range(HERE_AGAIN_RECORDS + 1):
            await bench.told_all(number + 1)
            await bench.applier.run(lambda: None)
            await asyncio.sleep(0.005)  # the thread counts what it has done after it has told it
            bench.put(SMALL)
        assert bench.here[: HERE_AGAIN_RECORDS + 1] == [True] + [False] * HERE_AGAIN_RECORDS
        await bench.told_all(HERE_AGAIN_RECORDS + 2)


async def test_what_is_applied_here_is_saved_by_the_thread_once_there_is_enough():
    async with running(group_records_max=4) as bench:
        bench.put(*[SMALL] * 4)
        async with asyncio.timeout(WAIT_S_MAX):
            while bench.machine.saved_index < 4:
                await asyncio.sleep(0.001)


async def test_a_record_that_cannot_be_applied_here_ends_the_process():
    async with running() as bench:
        bench.put(b"bad")
        async with asyncio.timeout(WAIT_S_MAX):
            await bench.changed.wait()
        assert [one.code for one in bench.failures] == [ExitCode.APPLY_FAILED]
        assert bench.told == []


async def test_a_follower_lets_small_records_wait_for_each_other():
    async with running(leads=False) as bench:
        bench.put(SMALL, SMALL)
        assert bench.here == []
        await bench.told_all(2)
        assert bench.here == [False, False]


async def test_a_follower_applies_at_once_what_a_read_or_leadership_waits_for_and_what_is_much():
    async with running(leads=False) as bench:
        bench.put(SMALL)
        assert await bench.applier.run(lambda: bench.machine.applied_index) == 1
        bench.put(SMALL)
        bench.applier.hurry(True)
        assert bench.applier._queued == 3
        bench.applier.hurry(False)
        bench.put(bytes(HELD_BYTES_MAX + 1))
        assert bench.applier._queued == 4
        await bench.told_all(3)
