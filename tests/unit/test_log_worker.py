"""The log's thread: jobs in order, their ends told on the loop, failures as values."""

import asyncio
import threading
from functools import partial

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication import worker as worker_module
from engine.replication.worker import BRIEF_JOBS_TO_FORGIVE, BRIEF_JOBS_TO_TRUST, ImmediateWorker, Pace, ThreadWorker


class Steps:
    """Which jobs ran and which were told to be over, and in which thread."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, int]] = []
        self.over: list[tuple[int, int]] = []
        self.all_over = asyncio.Event()

    def submit_to(self, worker: ThreadWorker, count: int) -> None:
        for number in range(count):
            worker.submit(partial(self._run, number), partial(self._end, number, number == count - 1))

    def _run(self, number: int) -> None:
        self.ran.append((number, threading.get_ident()))

    def _end(self, number: int, last: bool, _: EngineStopped | None) -> None:
        self.over.append((number, threading.get_ident()))
        if last:
            self.all_over.set()


async def test_jobs_run_in_order_off_the_loop_and_end_on_it() -> None:
    worker, steps, own = ThreadWorker(asyncio.get_running_loop()), Steps(), threading.get_ident()
    steps.submit_to(worker, 5)
    assert steps.over == []
    await asyncio.wait_for(steps.all_over.wait(), 10)
    worker.stop()
    assert [number for number, _ in steps.ran] == [number for number, _ in steps.over] == list(range(5))
    assert all(thread != own for _, thread in steps.ran)
    assert all(thread == own for _, thread in steps.over)


async def test_waiting_blocks_until_all_is_over_and_tells_each_end_once() -> None:
    worker, steps = ThreadWorker(asyncio.get_running_loop()), Steps()
    steps.submit_to(worker, 3)
    worker.wait()
    assert [number for number, _ in steps.over] == [0, 1, 2]
    await asyncio.sleep(0.01)
    assert len(steps.over) == 3
    worker.stop()


async def test_a_failure_goes_to_the_end_of_its_job_and_the_thread_goes_on() -> None:
    worker = ThreadWorker(asyncio.get_running_loop())
    failures: list[EngineStopped | None] = []

    def full() -> None:
        raise EngineStopped(ExitCode.DISK_FULL, "planted")

    def broken() -> None:
        raise ZeroDivisionError

    for job in (full, broken, lambda: None):
        worker.submit(job, failures.append)
    worker.wait()
    worker.stop()
    assert [failure and failure.code for failure in failures] == [ExitCode.DISK_FULL, ExitCode.FAILED, None]


async def test_a_disk_that_does_not_answer_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WAIT_S_MAX", 0.05)
    worker, release = ThreadWorker(asyncio.get_running_loop()), threading.Event()

    def hang() -> None:
        release.wait(10)

    worker.submit(hang, lambda _: None)
    with pytest.raises(EngineStopped, match="did not answer") as stopped:
        worker.wait()
    assert stopped.value.code is ExitCode.SYNC_FAILED
    release.set()
    worker.stop()


async def test_stopping_finishes_what_was_submitted() -> None:
    worker, ran = ThreadWorker(asyncio.get_running_loop()), list[int]()
    worker.submit(lambda: ran.append(1), lambda _: None)
    worker.stop()
    worker.stop()
    assert ran == [1]


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """A clock that the test moves, for `Pace`."""
    clock = Clock()
    monkeypatch.setattr(worker_module, "time", clock)
    return clock


class Clock:
    """Stands in for the module `time`; every job takes `job_s`."""

    def __init__(self) -> None:
        self.now_s, self.job_s = 100.0, 0.0001

    def monotonic(self) -> float:
        return self.now_s

    def job(self) -> None:
        self.now_s += self.job_s


def trusted(clock: Clock) -> Pace:
    """A pace that has seen enough brief jobs, of a disk at rest."""
    made = Pace()
    for _ in range(BRIEF_JOBS_TO_TRUST):
        assert not made.may_wait()
        made.run(clock.job)
    clock.now_s += 1.0
    return made


def test_the_loop_waits_for_a_disk_that_is_quick_and_at_rest(pace: Clock) -> None:
    made = trusted(pace)
    assert made.may_wait()
    made.run(pace.job)
    assert not made.may_wait()  # it was at work just now
    pace.now_s += 1.0
    assert made.may_wait()


@pytest.mark.parametrize(
    ("job_s", "brief_jobs"), [(0.05, BRIEF_JOBS_TO_TRUST), (0.003, BRIEF_JOBS_TO_FORGIVE)], ids=["slow", "not brief"]
)
def test_one_job_that_was_not_brief_sends_the_next_ones_to_the_thread(
    pace: Clock, job_s: float, brief_jobs: int
) -> None:
    made = trusted(pace)
    pace.job_s = job_s
    made.run(pace.job)
    pace.job_s = 0.0001
    for _ in range(brief_jobs):
        pace.now_s += 1.0
        assert not made.may_wait()
        made.run(pace.job)
    pace.now_s += 1.0
    assert made.may_wait()


async def test_a_brief_job_runs_at_once_only_while_nothing_else_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "may_wait", lambda self: True)
    worker, own, threads = ThreadWorker(asyncio.get_running_loop()), threading.get_ident(), list[int]()
    over = list[EngineStopped | None]()

    def job() -> None:
        threads.append(threading.get_ident())

    worker.submit(job, over.append, brief=True)
    assert (threads, over) == ([own], [None])
    worker.submit(job, over.append)
    worker.submit(job, over.append, brief=True)
    worker.stop()
    assert len(threads) == 3
    assert own not in threads[1:]


def test_without_a_loop_a_job_is_over_before_submit_returns() -> None:
    worker, over = ImmediateWorker(), list[EngineStopped | None]()
    worker.submit(lambda: None, over.append)
    assert over == [None]


def test_without_a_loop_callbacks_wait_until_they_are_asked_for() -> None:
    worker, called = ImmediateWorker(), list[int]()
    worker.call_soon(lambda: called.append(1))
    assert called == []
    worker.run_soon()
    worker.run_soon()
    assert called == [1]
