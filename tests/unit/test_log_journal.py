"""The journal of the log while it runs: what it holds, what counts as durable, what it lets go."""

from collections.abc import Callable

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.journal import SegmentedLog
from tests.crash_images import Operation, Resize, Sync
from tests.log_folders import (
    CACHE_BYTES,
    FOLDER,
    OWNER,
    SEGMENT_BYTES,
    append_records,
    open_log,
    record_of,
    records_of,
    segment_numbers,
    segment_path,
)
from tests.memory_disk import MemoryDisk
from tests.step_worker import StepWorker


def reopened(disk: MemoryDisk, log: SegmentedLog) -> SegmentedLog:
    log.close()
    return open_log(disk)


def failing_on(kind: type, code: ExitCode) -> Callable[[Operation], None]:
    """A hook that makes every operation of a kind fail."""

    def fail(operation: Operation) -> None:
        if isinstance(operation, kind):
            raise EngineStopped(code, "planted")

    return fail


def test_a_new_log_is_empty() -> None:
    log = open_log(MemoryDisk())
    assert (log.base_index, log.first_index, log.last_index, log.durable_index) == (0, 1, 0, 0)
    assert (log.term, log.voted_for, log.term_at(0)) == (0, None, 0)
    assert not log.recovered.began


def test_records_come_back_by_index_with_their_term() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 3, term=1)
    append_records(log, 2, term=4)
    log = reopened(disk, log)
    assert records_of(log) == [record_of(number) for number in range(1, 6)]
    assert [log.term_at(index) for index in range(6)] == [0, 1, 1, 1, 4, 4]
    assert (log.last_term, log.payload_bytes, log.recovered.began) == (4, 480, True)


def test_an_index_that_is_not_held_is_an_index_error() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 3)
    log.forget_to(1)
    for index in (-1, 0, 4):
        with pytest.raises(IndexError):
            log.term_at(index)
    for index in (1, 4):
        with pytest.raises(IndexError, match="not held"):
            log.entry_at(index)


def test_nothing_is_durable_before_the_group_is_over() -> None:
    worker = StepWorker()
    log = open_log(MemoryDisk(), worker)
    append_records(log, 2)
    assert log.durable_index == 0
    log.start_sync()
    assert log.durable_index == 0
    worker.step()
    assert log.durable_index == 2


def test_what_is_appended_meanwhile_goes_with_the_next_group_by_itself() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    told: list[int] = []
    log.on_durable = lambda: told.append(log.durable_index)
    append_records(log, 1)
    log.start_sync()
    append_records(log, 3)
    log.start_sync()
    append_records(log, 1)
    worker.run_all()
    assert told == [1, 5]
    syncs = [event for event in disk.trace.events if event.operation == Sync(1)]
    assert len(syncs) == 4  # the header, the first record, two groups


def test_nothing_is_owed_by_a_log_that_was_just_opened() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    assert log.appended_serial == log.durable_serial
    log = reopened(disk, log)
    assert log.appended_serial == log.durable_serial


def test_serials_tell_when_the_last_append_is_durable() -> None:
    worker = StepWorker()
    log = open_log(MemoryDisk(), worker)
    append_records(log, 1)
    first = log.appended_serial
    log.start_sync()
    assert log.appended_serial == first > log.durable_serial
    append_records(log, 1)
    second = log.appended_serial
    worker.step()
    assert log.durable_serial == first < second
    worker.run_all()
    assert log.durable_serial == second == log.appended_serial


def test_a_vote_is_durable_when_it_is_saved_and_so_is_all_before_it() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    append_records(log, 2)
    log.start_sync()
    append_records(log, 1)
    log.save_vote(7, "node-b")
    assert log.durable_index == 3
    disk.close_all()
    log = open_log(MemoryDisk(disk.trace.image(disk.trace.now, lambda _: False)))
    assert (log.term, log.voted_for, log.last_index) == (7, "node-b", 3)


def test_saving_a_vote_does_not_call_back_from_inside() -> None:
    worker = StepWorker()
    log = open_log(MemoryDisk(), worker)
    told: list[int] = []
    log.on_durable = lambda: told.append(log.durable_index)
    append_records(log, 1)
    log.save_vote(1, None)
    assert told == []
    worker.run_all()
    assert told == [1]


def test_a_vote_for_nobody_comes_back_as_none() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    log.save_vote(2, "node-a")
    log.save_vote(3, None)
    log = reopened(disk, log)
    assert (log.term, log.voted_for) == (3, None)


def test_truncated_records_are_gone_and_their_indexes_are_used_again() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 5)
    log.truncate_from(3)
    assert log.last_index == 2
    log.append(2, b"other third")
    log = reopened(disk, log)
    assert records_of(log) == [record_of(1), record_of(2), b"other third"]
    assert log.term_at(3) == 2


def test_truncating_behind_the_end_changes_nothing() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 2)
    log.truncate_from(3)
    assert log.last_index == 2


def test_what_is_forgotten_cannot_be_truncated() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 3)
    log.forget_to(2)
    with pytest.raises(ValueError, match="forgotten"):
        log.truncate_from(2)


def test_a_truncated_record_in_flight_does_not_count_as_durable() -> None:
    worker = StepWorker()
    log = open_log(MemoryDisk(), worker)
    append_records(log, 5)
    log.start_sync()
    log.truncate_from(3)
    append_records(log, 4, term=2)
    worker.step()
    assert (log.durable_index, log.last_index) == (2, 6)
    worker.run_all()
    assert log.durable_index == 6


def test_truncating_lowers_what_is_durable() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 5)
    log.start_sync()
    log.truncate_from(4)
    assert log.durable_index == 3


def test_forgetting_sets_the_base_and_keeps_its_term() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 2, term=1)
    append_records(log, 2, term=2)
    log.forget_to(3)
    log = reopened(disk, log)
    assert (log.base_index, log.term_at(3), log.first_index) == (3, 2, 4)
    assert records_of(log) == [record_of(4)]


def test_all_may_be_forgotten_and_the_log_goes_on() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 3)
    log.forget_to(3)
    assert (log.first_index, log.last_index, log.last_term) == (4, 3, 1)
    append_records(log, 1)
    log = reopened(disk, log)
    assert records_of(log) == [record_of(4)]


def test_forgetting_stays_within_the_log() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 3)
    log.forget_to(2)
    log.forget_to(1)
    assert log.base_index == 2
    with pytest.raises(ValueError, match="ends at 3"):
        log.forget_to(4)


def test_a_full_segment_is_followed_by_the_next() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 100)
    log.start_sync()
    assert segment_numbers(disk) == [1, 2, 3, 4, 5]  # the last one is the spare
    assert records_of(reopened(disk, log)) == [record_of(number) for number in range(1, 101)]


def test_the_next_segment_is_there_before_it_is_needed() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    log.save_vote(1, None)
    worker.run_all()
    assert segment_numbers(disk) == [1, 2]


def test_forgotten_segments_are_recycled_and_the_folder_stays_small() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    for _ in range(50):
        append_records(log, 20)
        log.start_sync()
        log.forget_to(log.last_index - 1)
    assert len([name for name in disk.names(FOLDER) if name != "lock"]) <= 4
    assert sum(isinstance(event.operation, Resize) for event in disk.trace.events) <= 4
    assert records_of(reopened(disk, log)) == [record_of(1000)]


def test_no_segment_goes_before_the_record_that_allows_it_is_durable() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    append_records(log, 60)
    log.start_sync()
    worker.run_all()
    log.forget_to(60)
    assert 1 in segment_numbers(disk)
    worker.run_all()
    assert 1 not in segment_numbers(disk)


def test_a_log_tells_whether_forgetting_would_free_anything() -> None:
    log = open_log(MemoryDisk())
    append_records(log, 60)
    log.start_sync()
    assert not log.frees_segments(5)
    assert log.frees_segments(59)
    log.forget_to(59)
    assert not log.frees_segments(59)
    assert not log.frees_segments(61)


def test_a_reset_log_holds_nothing_and_goes_on_behind_the_snapshot() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 60)
    log.reset(1000, 8)
    assert (log.base_index, log.last_index, log.durable_index, log.last_term) == (1000, 1000, 1000, 8)
    assert log.append(9, b"after") == 1001
    log = reopened(disk, log)
    assert (log.base_index, log.term_at(1000), records_of(log)) == (1000, 8, [b"after"])
    assert 1 not in segment_numbers(disk)


def test_durable_records_beyond_the_bound_leave_memory_and_are_read_back() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    append_records(log, 100)
    assert log.cached_bytes == 9600  # nothing that is not on the disk may leave
    log.start_sync()
    worker.run_all()
    assert log.cached_bytes <= CACHE_BYTES
    assert records_of(log) == [record_of(number) for number in range(1, 101)]


def test_a_record_read_back_is_checked() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 30)
    log.start_sync()
    content = disk.content(segment_path(1))
    content[content.index(record_of(2)) + 5] ^= 1
    assert log.entry_at(1).record == record_of(1)
    with pytest.raises(EngineStopped, match="restore") as stopped:
        log.entry_at(2)
    assert stopped.value.code is ExitCode.DATA_DAMAGED


def test_a_record_read_back_from_the_place_of_another_is_damage() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 30)
    log.start_sync()
    content = disk.content(segment_path(1))
    second, third = (content.index(record_of(number)) - 48 for number in (2, 3))
    content[second : second + 144] = content[third : third + 144]
    with pytest.raises(EngineStopped) as stopped:
        log.entry_at(2)
    assert stopped.value.code is ExitCode.DATA_DAMAGED


def test_a_checksum_that_the_caller_knows_is_the_one_that_is_written() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    log.append(1, b"record", crc=0xBAD)
    assert log.entry_at(1).crc == 0xBAD
    disk.close_all()
    log.start_sync()
    assert open_log(MemoryDisk(disk.image())).last_index == 0  # its group was the last one: a torn tail


def test_a_record_that_fits_into_no_segment_is_refused() -> None:
    log = open_log(MemoryDisk())
    with pytest.raises(ValueError, match="does not fit"):
        log.append(1, bytes(SEGMENT_BYTES))
    append_records(log, 1)
    log.start_sync()
    assert log.durable_index == 1


def test_the_largest_record_fits_into_an_empty_segment() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    sizes = [size for size in range(SEGMENT_BYTES - 400, SEGMENT_BYTES) if fits(log, size)]
    assert sizes[-1] == SEGMENT_BYTES - 128 - (48 + 24 + 64) - 48
    assert log.last_index == len(sizes) == len(records_of(reopened(disk, log)))


def fits(log: SegmentedLog, size: int) -> bool:
    try:
        log.append(1, bytes(size))
    except ValueError:
        return False
    return True


def test_a_resting_log_is_marked_once() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 1)
    log.start_sync()
    before = len(disk.trace.events)
    log.rest()
    marked = len(disk.trace.events)
    log.rest()
    assert before < marked == len(disk.trace.events)


def test_a_busy_log_is_not_marked() -> None:
    worker = StepWorker()
    log = open_log(MemoryDisk(), worker)
    append_records(log, 1)
    log.rest()
    assert not worker.jobs


def test_a_full_disk_is_told_before_it_hurts_and_stops_the_log_when_it_does() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    disk.capacity_bytes = SEGMENT_BYTES
    append_records(log, 1)
    log.start_sync()
    worker.run_all()
    assert log.disk_full
    assert log.durable_index == 1
    failures: list[EngineStopped] = []
    log.on_failure = failures.append
    append_records(log, 40)
    log.start_sync()
    worker.run_all()
    assert [failure.code for failure in failures] == [ExitCode.DISK_FULL]
    assert log.durable_index == 1


def test_space_that_came_back_is_found() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    disk.capacity_bytes = SEGMENT_BYTES
    log.save_vote(1, None)
    worker.run_all()
    assert log.disk_full
    disk.capacity_bytes = None
    log.rest()
    worker.run_all()
    assert not log.disk_full


def test_a_failed_sync_stops_the_log_for_good() -> None:
    disk, worker = MemoryDisk(), StepWorker()
    log = open_log(disk, worker)
    failures: list[EngineStopped] = []
    log.on_failure = failures.append
    append_records(log, 1)
    disk.before = failing_on(Sync, ExitCode.SYNC_FAILED)
    log.start_sync()
    worker.run_all()
    disk.before = lambda _: None
    assert [failure.code for failure in failures] == [ExitCode.SYNC_FAILED]
    assert log.durable_index == 0
    changes: list[Callable[[], object]] = [
        lambda: append_records(log, 1),
        lambda: log.save_vote(9, None),
        lambda: log.reset(5, 5),
    ]
    for refused in changes:
        with pytest.raises(EngineStopped) as stopped:
            refused()
        assert stopped.value.code is ExitCode.SYNC_FAILED
    written = len(disk.trace.events)
    log.start_sync()
    log.close()
    assert len(disk.trace.events) == written


def test_a_vote_that_cannot_be_synced_raises() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    disk.before = failing_on(Sync, ExitCode.SYNC_FAILED)
    with pytest.raises(EngineStopped) as stopped:
        log.save_vote(2, "node-a")
    assert stopped.value.code is ExitCode.SYNC_FAILED


def test_a_folder_is_one_process_at_a_time() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    with pytest.raises(EngineStopped) as stopped:
        open_log(disk)
    assert stopped.value.code is ExitCode.FOLDER_IN_USE
    log.close()
    log.close()
    open_log(disk).close()


def test_another_segment_size_is_taken_up_with_the_next_segment() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    append_records(log, 10)
    log.close()
    log = SegmentedLog.open(FOLDER, OWNER, disk=disk, segment_bytes=2 * SEGMENT_BYTES)
    append_records(log, 90)
    log.close()
    sizes = {len(disk.content(segment_path(number))) for number in segment_numbers(disk)}
    assert sizes == {SEGMENT_BYTES, 2 * SEGMENT_BYTES}
    assert len(records_of(open_log(disk))) == 100
