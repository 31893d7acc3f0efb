import asyncio

import numpy as np
import pytest

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_answers import AnsweredWord, StepAnswers, answers_of, words_of
from engine.core.chains.step_record import StepRecord, decode_steps, plain_steps, steps_of
from engine.core.chains.word import Order, State, Step, Word
from engine.core.known import RESULT
from engine.core.limits import IDENTITY_BYTES_MAX, LOG_RECORD_BYTES_MAX
from engine.core.log_record import RecordKind
from engine.core.records import RECORD_BYTES, Flag, Kind
from engine.replication.interface import NotProposed
from engine.rpc.faults import RESOURCE_EXHAUSTED, CallFailed, Fault, Reason, overloaded, unavailable
from engine.service.flight import Answer
from engine.service.step_lane import StepSubmission, slice_steps
from engine.service.submission import Caller, Submission
from tests.batcher_bench import BatcherBench

pytestmark = pytest.mark.usefixtures("no_failures")
ROUTER = Caller("router", 1)
LONG = Caller("x" * IDENTITY_BYTES_MAX, 1)


def chain(number: int, legs: int = 1, amount: int = 5) -> Chain:
    """A chain from group 0 to group 1, which decides."""
    rows = bytearray()
    for leg in range(legs):
        row = bytearray(RECORD_BYTES)
        row[0:16] = (number * 1000 + leg).to_bytes(16, "little")
        row[16:48] = b"D" * 16 + b"C" * 16
        row[48:64] = amount.to_bytes(16, "little")
        row[112], row[122] = 1, Kind.POST
        row[123] = Flag.LINKED if leg < legs - 1 else 0
        rows += row
    return chain_of(bytes(rows), Plan((Side(0, 1),) * legs, 1))


def steps(kind: Step, *numbers: int, amounts: tuple[int, ...] = (), legs: int = 1) -> StepRecord:
    group = 0 if kind in (Step.RESERVE, Step.COMMIT, Step.RELEASE) else 1
    return steps_of([Order(kind, group, chain(number, legs), amounts) for number in numbers])


class Bench(BatcherBench):
    """Takes steps, and posts."""

    def step(self, record: StepRecord, within_s: float = 60) -> "asyncio.Task[StepSubmission]":
        submission = StepSubmission(record, ROUTER, self.loop.time() + within_s, self.loop)
        return self.loop.create_task(self.batcher.step(submission))

    def post(self, count: int) -> "asyncio.Task[Submission]":
        words = np.ones((count, 16), np.uint64)
        words[:, 15] = 0
        return self.loop.create_task(self.batcher.post(words, ROUTER, self.loop.time() + 60))

    def kinds(self) -> list[RecordKind]:
        return [record.kind for record in self.log.records()]

    def logged(self) -> list[list[int]]:
        """The chains of the steps of each record that waits to be committed."""
        return [numbers_of(decode_steps(record.rows, record.extra)) for record in self.log.records()]

    def answer_next(self) -> None:
        """Commit and answer the oldest record: each word has the chain's number as its position."""
        index, record = self.log.commit_next()
        if record.kind == RecordKind.EVENTS:
            self.batcher.answered([Answer(index, np.zeros(len(record.rows), RESULT))])
            return
        numbers = numbers_of(decode_steps(record.rows, record.extra))
        words = [Word(chain(number), State.RESERVED, (5,), position=number) for number in numbers]
        self.batcher.answered([Answer(index, answers_of(AnsweredWord(word) for word in words))])


def numbers_of(record: StepRecord) -> list[int]:
    return [int.from_bytes(one.tobytes(), "little") // 1000 for one in record.steps["chain_id"]]


def positions(submission: StepSubmission) -> list[int]:
    answers: StepAnswers = submission.whole_answer()
    return answers.answers["position"].tolist()


async def refused(task: "asyncio.Task[StepSubmission]") -> Fault:
    with pytest.raises(CallFailed) as failed:
        await task
    return failed.value.fault


async def test_steps_of_callers_of_one_turn_share_a_record_and_each_gets_its_own_answers() -> None:
    bench = Bench()
    first, second = bench.step(steps(Step.RESERVE, 1, 2)), bench.step(steps(Step.COMMIT, 3, amounts=(4,)))
    await bench.settle()
    assert bench.logged() == [[1, 2, 3]]
    (record,) = bench.log.records()
    assert [(one.first_row, one.rows, one.identity) for one in record.callers] == [(0, 2, "router"), (2, 1, "router")]
    assert decode_steps(record.rows, record.extra).amounts["amount_low"].tolist() == [4]
    bench.answer_next()
    assert positions(await first) == [1, 2]
    assert positions(await second) == [3]
    assert (await second).log_index == 1


async def test_a_large_batch_becomes_a_handful_of_records_and_one_answer() -> None:
    bench = Bench(log_record_bytes_target=60 * RECORD_BYTES)
    task = bench.step(steps(Step.RESERVE, *range(1, 751)))
    await bench.settle()
    assert [len(one) for one in bench.logged()] == [300, 300, 150]
    for _ in range(3):
        bench.answer_next()
    done = await task
    assert positions(done) == list(range(1, 751))
    assert done.log_index == 3
    words = words_of(done.whole_answer(), [chain(number) for number in range(1, 751)], 0)
    assert all(word is not None and word.amounts == (5,) for word in words)


def plain(count: int, first: int = 1) -> StepRecord:
    """RESERVEs as a router sends them for a batch, found to be plain."""
    rows = np.zeros((count, 16), np.uint64)
    rows[:, 0] = np.arange(first, first + count)
    sides = np.full((count, 2), (0, 1), np.uint16)
    return plain_steps(rows, sides, np.zeros((count, 16), np.uint8), Step.RESERVE, time_ns=7)._replace(compact=True)


async def test_plain_steps_of_large_batches_share_a_record_of_twice_as_many() -> None:
    bench = Bench(log_record_bytes_target=60 * RECORD_BYTES)
    bench.step(plain(290))
    bench.step(plain(290, 291))
    bench.step(steps(Step.RESERVE, 1, 2))
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [580]


async def test_other_steps_do_not_join_more_plain_ones_than_fit_beside_them() -> None:
    bench = Bench(log_record_bytes_target=60 * RECORD_BYTES)
    bench.step(plain(100))
    bench.step(steps(Step.RESERVE, *range(201, 451)))
    await bench.settle()
    (mixed,) = bench.log.records()
    assert 290 < len(mixed.rows) < 300


async def test_no_record_is_longer_than_the_log_takes() -> None:
    bench = Bench()
    for first in range(1, 5 * 2100, 2100):
        record = plain(2100, first)
        bench.loop.create_task(bench.batcher.step(StepSubmission(record, LONG, bench.loop.time() + 60, bench.loop)))
    await bench.settle()
    lengths = [len(record) for record, _ in bench.log.proposed]
    assert 8000 * (RECORD_BYTES + 16) < max(lengths) <= LOG_RECORD_BYTES_MAX


async def test_steps_go_before_transfers_that_waited_longer() -> None:
    bench = Bench(log_records_in_flight_max=1, log_record_bytes_target=4 * 128)
    posts = [bench.post(4), bench.post(4), bench.post(4)]
    await bench.settle()
    task = bench.step(steps(Step.COMMIT, 7, amounts=(5,)))
    await bench.settle()
    assert bench.kinds() == [RecordKind.EVENTS]
    bench.answer_next()
    assert bench.kinds() == [RecordKind.STEPS]
    bench.answer_next()
    await task
    bench.answer_next()
    bench.answer_next()
    await asyncio.gather(*posts)


async def test_steps_do_not_wait_for_transfers_in_flight() -> None:
    bench = Bench()
    bench.post(1)
    await bench.settle()
    bench.step(steps(Step.RESERVE, 1))
    await bench.settle()
    assert bench.kinds() == [RecordKind.EVENTS, RecordKind.STEPS]


async def test_while_a_record_of_steps_is_in_flight_small_ones_gather() -> None:
    bench = Bench()
    for number in range(1, 5):
        bench.step(steps(Step.RESERVE, number))
        await bench.settle()
    assert bench.logged() == [[1]]
    bench.answer_next()
    assert bench.logged() == [[2, 3, 4]]


async def test_a_full_queue_refuses_before_anything_is_logged_and_has_room_again_later() -> None:
    bench = Bench(log_records_in_flight_max=1, step_queue_bytes_max=1000)
    first, second = bench.step(steps(Step.RESERVE, 1)), None
    await bench.settle()
    second = bench.step(steps(Step.RESERVE, 2, 3, 4))
    await bench.settle()
    fault = await refused(bench.step(steps(Step.RESERVE, 5, 6, 7)))
    assert (fault.code, fault.reason, fault.logged) == (RESOURCE_EXHAUSTED, "OVERLOADED", "no")
    bench.answer_next()
    bench.answer_next()
    await asyncio.gather(first, second)
    third = bench.step(steps(Step.RESERVE, 5, 6, 7))
    await bench.settle()
    bench.answer_next()
    assert positions(await third) == [5, 6, 7]


async def test_a_chain_larger_than_the_target_is_one_record() -> None:
    bench = Bench(log_record_bytes_target=512)
    bench.step(steps(Step.RESERVE, 1, 2, legs=20))
    await bench.settle()
    assert bench.logged() == [[1], [2]]


async def test_steps_past_their_deadline_are_not_logged() -> None:
    bench = Bench(log_records_in_flight_max=1)
    bench.step(steps(Step.RESERVE, 1))
    await bench.settle()
    late = bench.step(steps(Step.RESERVE, 2), within_s=-1)
    await bench.settle()
    bench.answer_next()
    fault = await refused(late)
    assert (fault.reason, fault.logged) == (Reason.DEADLINE_PASSED, "no")
    assert bench.logged() == []


async def test_a_lost_record_leaves_the_fate_of_the_whole_call_unknown() -> None:
    bench = Bench(log_record_bytes_target=RECORD_BYTES)
    task = bench.step(steps(Step.RESERVE, 1, 2, 4, 5, 6, 7))
    await bench.settle()
    bench.answer_next()
    bench.log.lose_next()
    assert (await refused(task)).logged == "unknown"
    bench.step(steps(Step.RESERVE, 3))
    await bench.settle()
    assert bench.logged() == [[3]]


async def test_what_waits_when_leadership_ends_is_told_that_nothing_was_logged() -> None:
    bench = Bench(log_records_in_flight_max=1)
    bench.step(steps(Step.RESERVE, 1))
    await bench.settle()
    waiting = bench.step(steps(Step.RESERVE, 2))
    await bench.settle()
    bench.log.refuse = NotProposed("not the leader", leader="b", full=False)
    bench.answer_next()
    fault = await refused(waiting)
    assert (fault.reason, fault.leader, fault.logged) == (Reason.NOT_LEADER, "b:1", "no")
    assert bench.batcher.in_flight == 0


async def test_a_full_disk_refuses_what_reserves_and_lets_through_what_frees() -> None:
    bench = Bench()
    bench.batcher.refusal = overloaded("full", reason=Reason.DISK_NEARLY_FULL)
    assert (await refused(bench.step(steps(Step.RESERVE, 1)))).reason == Reason.DISK_NEARLY_FULL
    bench.step(steps(Step.COMMIT, 2, amounts=(5,)))
    await bench.settle()
    assert bench.logged() == [[2]]
    bench.batcher.refusal = unavailable(Reason.STOPPING, "stopping")
    assert (await refused(bench.step(steps(Step.COMMIT, 3, amounts=(5,))))).reason == Reason.STOPPING


async def test_draining_waits_for_steps_too() -> None:
    bench = Bench()
    task = bench.step(steps(Step.RESERVE, 1))
    await bench.settle()
    assert not await bench.batcher.drained(0.01)
    bench.answer_next()
    await task
    assert await bench.batcher.drained(0.01)


def test_a_slice_of_steps_has_its_own_rows_sides_and_amounts() -> None:
    whole = steps_of([Order(Step.DECIDE, 1, chain(number, 2), (number, 5)) for number in range(1, 6)])
    part = slice_steps(whole, 1, 4)
    assert numbers_of(part) == [2, 3, 4]
    assert part.steps["first_row"].tolist() == [0, 2, 4]
    assert part.amounts["row"].tolist() == [0, 2, 4]
    assert part.amounts["amount_low"].tolist() == [2, 3, 4]
    assert len(part.rows) == len(part.sides) == 6
