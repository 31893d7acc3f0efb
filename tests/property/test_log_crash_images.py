"""Whatever the power leaves of the log's writes, the log comes back as it once was, with all that it had confirmed."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from engine.exit_codes import EngineStopped
from engine.replication.journal import recovery, segment_format, segments
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.recovery import Dropped, RecoveredLog
from engine.replication.journal.segment_format import Identity
from engine.replication.journal.segments import SegmentFiles
from engine.replication.journal.segments import Write as SegmentWrite
from tests.crash_images import Operation
from tests.memory_disk import MemoryDisk
from tests.step_worker import StepWorker

FOLDER: Final = Path("/log")
OWNER: Final = Identity("ab" * 16, 3, "node-a")
SEGMENT_BYTES: Final = 8 << 10
RECORD_BYTES_MAX: Final = 3000
HISTORIES: Final = 40
IMAGES_PER_HISTORY: Final = 12
STEPS: Final = 90


class State(NamedTuple):
    """All that a log means."""

    base: tuple[int, int]
    entries: tuple[tuple[int, bytes], ...]
    vote: tuple[int, str | None]


def state_of(log: SegmentedLog) -> State:
    entries = (log.entry_at(index) for index in range(log.first_index, log.last_index + 1))
    return State(
        (log.base_index, log.term_at(log.base_index)),
        tuple((entry.term, bytes(entry.record)) for entry in entries),
        (log.term, log.voted_for),
    )


class KilledError(BaseException):
    """Not an `Exception`: nothing in the log may catch it."""


class Killed:
    """Ends the process before the n-th change of the disk from now on."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, _: Operation) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class History:
    """A log under random use, and every state that it went through."""

    def __init__(self, source: random.Random, disk: MemoryDisk) -> None:
        self.source, self.disk = source, disk
        self.confirmed: list[tuple[int, int]] = []
        self.states: list[State] = []
        self._serials: list[int] = []
        self.log = self._opened()
        self._note()
        self.confirmed.append((disk.trace.now, 1))

    def _opened(self) -> SegmentedLog:
        self.worker = StepWorker()
        self.log = SegmentedLog.open(
            FOLDER, OWNER, disk=self.disk, worker=self.worker, segment_bytes=SEGMENT_BYTES, cache_bytes=2000
        )
        self.log.on_durable = self._confirm
        self._serials = [0] * len(self.states)
        return self.log

    def _note(self) -> None:
        self.states.append(state_of(self.log))
        self._serials.append(self.log.appended_serial)

    def _confirm(self) -> None:
        """Everything in groups up to this one may be acknowledged from this moment on."""
        self.confirmed.append((self.disk.trace.now, bisect_right(self._serials, self.log.durable_serial)))

    def run(self, steps: int) -> None:
        actions = [self.append] * 6 + [self.step] * 5 + [self.vote, self.truncate, self.forget, self.rest, self.reopen]
        actions += [self.start_sync] * 4 + [self.kill]
        for _ in range(steps):
            self.source.choice(actions)()

    def append(self) -> None:
        for _ in range(self.source.choice((1, 1, 2, 5))):
            size = self.source.choice((2, 17, 128, 500, RECORD_BYTES_MAX))
            self.log.append(max(1, self.log.term), self.source.randbytes(size))
            self._note()

    def step(self) -> None:
        self.worker.step()

    def start_sync(self) -> None:
        self.log.start_sync()

    def vote(self) -> None:
        self.log.save_vote(self.log.term + 1, self.source.choice((None, "node-a", "node-b")))
        self._note()
        self.worker.run_soon()
        self.confirmed.append((self.disk.trace.now, len(self.states)))

    def truncate(self) -> None:
        if self.log.last_index > self.log.base_index:
            self.log.truncate_from(self.source.randint(self.log.first_index, self.log.last_index))
            self._note()

    def forget(self) -> None:
        if self.log.last_index > self.log.base_index:
            self.log.forget_to(self.source.randint(self.log.first_index, self.log.last_index))
            self._note()

    def rest(self) -> None:
        self.log.rest()

    def reopen(self) -> None:
        if self.source.random() < 0.2:
            self.log.close()
            self.confirmed.append((self.disk.trace.now, len(self.states)))
            self._opened()

    def kill(self) -> None:
        """SIGKILL, now or in the middle of a job: what was written stays, but most of it is not synced."""
        if self.source.random() < 0.7:
            return
        self.disk.before = Killed(self.source.randrange(4))
        with suppress(KilledError):
            self.worker.run_all()
        self.disk.before = lambda _: None
        self.disk.close_all()
        self._opened()
        assert state_of(self.log) in self.states[self.confirmed[-1][1] - 1 :]
        self._note()
        self.confirmed.append((self.disk.trace.now, len(self.states)))

    def check(self, cut: int, image: MemoryDisk) -> SegmentedLog:
        """Recover the image of a crash at `cut`: some state since the last confirmed one, and no other."""
        log = SegmentedLog.open(FOLDER, OWNER, disk=image, segment_bytes=SEGMENT_BYTES)
        moments = [moment for moment, _ in self.confirmed]
        known = bisect_right(moments, cut)
        first = self.confirmed[known - 1][1] - 1 if known else 0
        assert state_of(log) in self.states[max(0, first) :]
        return log


def crash_often(seed: int) -> None:
    """One history, some crashes of it, and a second crash after each."""
    source = random.Random(seed)
    history = History(source, MemoryDisk())
    history.run(STEPS)
    for _ in range(IMAGES_PER_HISTORY):
        cut = source.randint(0, history.disk.trace.now)
        image = MemoryDisk(history.disk.trace.random_image(cut, source.getrandbits(32)))
        history.check(cut, image)
        crash_again(source, image)


def crash_again(source: random.Random, disk: MemoryDisk) -> None:
    """Start from what the first crash left, go on, crash again: nothing that was dropped may come back."""
    again = History(source, disk.crash(source))
    again.run(STEPS // 4)
    cut = source.randint(0, again.disk.trace.now)
    again.check(cut, MemoryDisk(again.disk.trace.random_image(cut, source.getrandbits(32))))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_every_image_of_a_crash_recovers_to_a_state_with_all_that_was_confirmed(seed: int) -> None:
    crash_often(seed)


def without_sync(files: SegmentFiles, writes: Sequence[SegmentWrite]) -> None:
    for number, offset, buffers in writes:
        files.ensure(number)
        files.disk.pwrite(files.descriptors[number], buffers, offset)


def recycle_before_base_is_durable(log: SegmentedLog, index: int) -> None:
    forget_to(log, index)
    groups = [group for group in (log._in_flight, log._tail.group) if group is not None]
    log._drop(max(group.drop_below for group in groups))


def forget_what_is_in_flight(log: SegmentedLog, index: int) -> None:
    group, log._in_flight = log._in_flight, None
    truncate_from(log, index)
    log._in_flight = group


forget_to, truncate_from = SegmentedLog.forget_to, SegmentedLog.truncate_from
FAULTS: Final[dict[str, list[tuple[object, str, object]]]] = {
    "a group is confirmed before its sync": [(SegmentFiles, "write", without_sync)],
    "names are never synced": [(MemoryDisk, "sync_folder", lambda *_: None)],
    "segments go too early": [(SegmentedLog, "forget_to", recycle_before_base_is_durable)],
    "every segment has the same seed": [
        (module, "seed_of", lambda salt, _: salt) for module in (segments, segment_format)
    ],
    "a truncated entry counts as durable": [(SegmentedLog, "truncate_from", forget_what_is_in_flight)],
    "a torn log goes on in place": [(RecoveredLog, "torn", False)],
    "a recovered tail counts as durable unsynced": [(recovery, "_store_again", lambda *_: None)],
    "what follows a bad record is not judged": [(recovery, "_judge_tail", lambda *_: Dropped(0, 0))],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, replacement in FAULTS[fault]:
        monkeypatch.setattr(owner, name, replacement)
    with pytest.raises((AssertionError, EngineStopped, IndexError)):
        for seed in range(HISTORIES):
            crash_often(seed)
