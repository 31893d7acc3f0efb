import asyncio

import numpy as np
import pytest

from engine.core.known import RESULT
from engine.core.limits import LOG_RECORD_BYTES_TARGET
from engine.core.records import Flag, Kind, Words
from engine.exit_codes import ExitCode
from engine.replication.interface import NotProposed
from engine.rpc.faults import RESOURCE_EXHAUSTED, UNAVAILABLE, CallFailed, Reason, unavailable
from engine.service.flight import Answer, Flight
from engine.service.submission import Caller, Lane, Submission
from engine.service.transfer_lane import TransferLane
from tests.batcher_bench import NOW_NS, BatcherBench, expected_failures
from tests.passing_time import let_pass

pytestmark = pytest.mark.usefixtures("no_failures")
ME = Caller("me", 1)
LINKED = np.uint64(Flag.LINKED << 24)


def rows(count: int, *, first: int = 1, linked: int = 0) -> Words:
    """Rows with ids from `first`; the first `linked` of them are LINKED."""
    words = np.zeros((count, 16), np.uint64)
    words[:, 0] = np.arange(first, first + count)
    words[:linked, 15] = LINKED
    return words


class Bench(BatcherBench):
    """Posts rows; the position of each is its id."""

    def post(self, words: Words, caller: Caller = ME, within_s: float = 60) -> "asyncio.Task[Submission]":
        return self.loop.create_task(self.batcher.post(words, caller, self.loop.time() + within_s))

    def answer_next(self) -> None:
        """Commit and answer the oldest record."""
        index, record = self.log.commit_next()
        results = np.zeros(len(record.rows), RESULT)
        results["position"] = record.rows[:, 0]
        results["outcome"] = 1
        self.batcher.answered([Answer(index, results)])


async def answered(bench: Bench, *tasks: "asyncio.Task[Submission]") -> list[Submission]:
    while not all(task.done() for task in tasks):
        await bench.settle()
        if bench.log.proposed:
            bench.answer_next()
    return [await task for task in tasks]


async def refused(post: "asyncio.Task[Submission]") -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        await post
    return failed.value


async def test_at_rest_a_record_goes_at_once() -> None:
    bench = Bench()
    bench.post(rows(1))
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [1]


async def test_callers_of_one_turn_share_a_record_and_get_their_own_answers() -> None:
    bench = Bench()
    first, second = bench.post(rows(2, first=10)), bench.post(rows(1, first=20))
    await bench.settle()
    (record,) = bench.log.records()
    assert [(one.first_row, one.rows, one.identity, one.first_seen_ns) for one in record.callers] == [
        (0, 2, "me", NOW_NS),
        (2, 1, "me", NOW_NS),
    ]
    bench.answer_next()
    assert (await first).results["position"].tolist() == [10, 11]
    assert (await second).results["position"].tolist() == [20]


async def test_while_a_record_is_in_flight_small_ones_gather() -> None:
    bench = Bench()
    tasks = [bench.post(rows(1))]
    await bench.settle()
    for number in range(5):
        tasks.append(bench.post(rows(1, first=100 + number)))
        await bench.settle()
    assert len(bench.log.proposed) == 1
    bench.answer_next()
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [5]
    await answered(bench, *tasks)


async def test_a_large_batch_becomes_records_of_the_target_size_in_order() -> None:
    bench = Bench(log_record_bytes_target=100 * 128)
    task = bench.post(rows(250))
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [100, 100, 50]
    (submission,) = await answered(bench, task)
    assert submission.results["position"].tolist() == list(range(1, 251))
    assert submission.log_index == 3


async def test_a_backlog_of_bulk_makes_records_four_times_as_full_unless_live_traffic_waits() -> None:
    bench = Bench(log_record_bytes_target=10 * 128, log_records_in_flight_max=1, live_batch_transfers_max=4)
    tasks = [bench.post(rows(120))]
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [40]
    tasks.append(bench.post(rows(3, first=200)))
    await bench.settle()
    sizes = []
    for _ in range(5):
        bench.answer_next()
        await bench.settle()
        sizes += [len(record.rows) for record in bench.log.records()]
    assert sizes == [10, 40, 10, 10, 10]  # with the live one; of a backlog; of 33, 23, 13 rows
    await answered(bench, *tasks)


async def test_fuller_records_put_no_more_rows_before_a_live_post_than_records_of_the_target_size_would() -> None:
    bench = Bench(log_record_bytes_target=10 * 128, log_records_in_flight_max=6, live_batch_transfers_max=4)
    tasks = [bench.post(rows(200))]
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [40, 40]
    tasks.append(bench.post(rows(3, first=300)))
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [40, 40, 10]
    bench.answer_next()
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [40, 10, 40]
    await answered(bench, *tasks)


@pytest.mark.parametrize("target", [128, LOG_RECORD_BYTES_TARGET, 1 << 20])
async def test_a_record_of_a_backlog_fits_into_the_log(target: int) -> None:
    bench = Bench(log_record_bytes_target=target, log_records_in_flight_max=1)
    tasks = [bench.post(rows(8190, first=1 + number * 8190)) for number in range(12)]
    await bench.settle()
    bench.answer_next()
    await bench.settle()
    (record,) = bench.log.records()
    assert target // 128 <= len(record.rows) <= max(2 * target, 1 << 20) // 128
    for task in tasks:
        task.cancel()


async def test_a_chain_is_never_cut() -> None:
    bench = Bench(log_record_bytes_target=10 * 128)
    words = rows(40)
    words[5:24, 15] = LINKED  # one chain: rows 5 to 24
    task = bench.post(words)
    await bench.settle()
    lengths = [len(record.rows) for record in bench.log.records()]
    assert lengths == [25, 10, 5]
    await answered(bench, task)


async def test_limited_accounts_are_no_chain_though_their_flag_looks_like_one() -> None:
    bench = Bench(log_record_bytes_target=4 * 128)
    accounts = rows(10, linked=10)
    accounts[:, 15] |= np.uint64(Kind.CREATE_ACCOUNT << 16)
    task = bench.post(accounts)
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [4, 4, 2]
    await answered(bench, task)


async def test_no_more_records_are_in_flight_than_allowed() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=3)
    task = bench.post(rows(10))
    await bench.settle()
    assert len(bench.log.proposed) == 3
    bench.answer_next()
    await bench.settle()
    assert len(bench.log.proposed) == 3
    await answered(bench, task)


async def test_a_full_queue_refuses_before_anything_is_logged() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1, admission_queue_bytes_max=10 * 128)
    bench.post(rows(8))
    await bench.settle()
    fault = (await refused(bench.post(rows(8, first=50)))).fault
    assert (fault.code, fault.reason, fault.logged) == (RESOURCE_EXHAUSTED, "OVERLOADED", "no")
    assert fault.retry_after_ms
    assert len(bench.log.proposed) == 1


async def test_an_old_queue_refuses_however_short_it_is() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1, queue_age_ms_max=500)
    bench.post(rows(2))
    await bench.settle()
    let_pass(0.6)
    fault = (await refused(bench.post(rows(1, first=50)))).fault
    assert fault.code == RESOURCE_EXHAUSTED
    assert "ms to be logged, longer than allowed" in fault.message


async def test_the_live_lane_goes_first_but_does_not_starve_bulk() -> None:
    bench = Bench(log_record_bytes_target=4 * 128, log_records_in_flight_max=1, live_batch_transfers_max=4)
    tasks = [bench.post(rows(100, first=1000))]
    await bench.settle()
    tasks += [bench.post(rows(4, first=10 * number)) for number in range(1, 10)]
    await bench.settle()
    order = []
    for _ in range(9):
        bench.answer_next()
        await bench.settle()
        order.append("bulk" if bench.log.records()[0].rows[0, 0] >= 1000 else "live")
    assert order[:4] == ["live", "live", "live", "bulk"]
    assert order.count("live") > 2 * order.count("bulk")
    await answered(bench, *tasks)


async def test_a_stream_keeps_its_lane_whatever_the_size_of_its_batches() -> None:
    bench = Bench(log_record_bytes_target=4 * 128, log_records_in_flight_max=1, live_batch_transfers_max=4)
    stream = Caller("stream", 1, Lane.BULK)
    tasks = [bench.post(rows(20, first=1000), stream)]
    await bench.settle()
    tasks.append(bench.post(rows(1, first=10), stream))
    seen = []
    await bench.settle()
    while bench.log.proposed:
        seen += [int(row[0]) for record in bench.log.records() for row in record.rows]
        bench.answer_next()
        await bench.settle()
    assert seen == [*range(1000, 1020), 10]
    await asyncio.gather(*tasks)


async def test_expired_work_is_dropped_before_it_is_logged() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1)
    running = bench.post(rows(1))
    await bench.settle()
    late = bench.post(rows(3, first=50), within_s=0)
    await bench.settle()
    bench.answer_next()
    await bench.settle()
    assert not bench.log.proposed
    (missing,) = (await late).missing
    assert (missing.rows, missing.fault.reason, missing.fault.logged) == (3, "DEADLINE_PASSED", "no")
    await running


async def test_a_submission_of_which_nothing_is_logged_at_its_deadline_is_told_so_then_and_never_logged() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1)
    running = bench.post(rows(1))
    await bench.settle()
    late = bench.post(rows(3, first=50), within_s=0.01)
    (missing,) = (await late).missing
    assert (missing.rows, missing.fault.reason, missing.fault.logged) == (3, "DEADLINE_PASSED", "no")
    assert bench.batcher.waiting_rows == 0
    bench.answer_next()
    await bench.settle()
    assert not bench.log.proposed
    await running


async def test_at_its_deadline_nobody_knows_what_becomes_of_a_submission_that_is_partly_logged() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1)
    late = bench.post(rows(3))
    await bench.settle()
    assert [len(record.rows) for record in bench.log.records()] == [1]
    let_pass(61)
    with pytest.raises(CallFailed) as failed:
        await late
    assert (failed.value.fault.reason, failed.value.fault.logged) == ("FATE_UNKNOWN", "unknown")
    bench.answer_next()
    await bench.settle()
    assert not bench.log.proposed
    assert bench.batcher.waiting_rows == 0


async def test_what_a_caller_gave_up_is_not_logged() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1)
    running = bench.post(rows(1))
    await bench.settle()
    gone = bench.post(rows(3, first=50))
    await bench.settle()
    gone.cancel()
    await bench.settle()
    bench.answer_next()
    await bench.settle()
    assert not bench.log.proposed
    assert await bench.batcher.drained(0.1)
    await running


async def test_an_unknown_fate_is_told_for_its_rows_only() -> None:
    bench = Bench(log_record_bytes_target=2 * 128)
    task = bench.post(rows(4))
    await bench.settle()
    bench.log.lose_next()
    await bench.settle()
    (submission,) = await answered(bench, task)
    (missing,) = submission.missing
    assert (missing.first, missing.rows, missing.fault.logged) == (0, 2, "unknown")
    assert submission.results["position"].tolist() == [0, 0, 3, 4]


async def test_a_replica_that_does_not_lead_names_who_does() -> None:
    bench = Bench()
    bench.log.refuse = NotProposed("not the leader", leader="b")
    submission = await bench.post(rows(2))
    (missing,) = submission.missing
    assert (missing.fault.code, missing.fault.reason) == (UNAVAILABLE, "NOT_LEADER")
    assert (missing.fault.leader, missing.fault.logged) == ("b:1", "no")


async def test_a_full_log_is_asked_again_when_something_comes_back() -> None:
    bench = Bench(log_record_bytes_target=128)
    first = bench.post(rows(1))
    await bench.settle()
    bench.log.refuse = NotProposed("full", full=True)
    second = bench.post(rows(1, first=50))
    await bench.settle()
    bench.log.refuse = None
    bench.answer_next()
    await bench.settle()
    assert bench.log.records()[0].rows[0, 0] == 50
    await answered(bench, first, second)


async def test_a_stop_ends_what_waits_and_lets_what_is_logged_end() -> None:
    bench = Bench(log_record_bytes_target=128, log_records_in_flight_max=1)
    logged, waiting = bench.post(rows(1)), bench.post(rows(1, first=50))
    await bench.settle()
    bench.batcher.give_up_waiting(unavailable(Reason.STOPPING, "stopping"))
    assert (await waiting).missing[0].fault.reason == "STOPPING"
    assert not logged.done()
    bench.answer_next()
    assert not (await logged).missing


async def test_a_batcher_that_breaks_ends_the_process_instead_of_leading_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    monkeypatch.setattr(TransferLane, "next_record", lambda _: 1 // 0)
    bench.post(rows(1))
    await bench.settle()
    assert [stopped.code for stopped in expected_failures()] == [ExitCode.FAILED]


async def test_an_answer_that_cannot_be_told_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(Flight, "answered", lambda *_: 1 // 0)
    bench.batcher.answered([])
    assert [stopped.code for stopped in expected_failures()] == [ExitCode.FAILED]
