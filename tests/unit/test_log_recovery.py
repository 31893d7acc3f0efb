"""A log read back: a torn tail is dropped and told, damage to what was durable is refused, and nothing is
overwritten."""

from pathlib import Path

import pytest
from crc32c import crc32c

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Identity,
    RecordKind,
    headers_after,
    seed_of,
    size_on_disk,
)
from tests.crash_images import Image, Write
from tests.log_folders import (
    FOLDER,
    OWNER,
    SEGMENT_BYTES,
    append_records,
    closed_log,
    open_log,
    record_of,
    records_of,
    segment_numbers,
    segment_path,
)
from tests.memory_disk import MemoryDisk
from tests.step_worker import StepWorker

SALT = 1


def flipped(image: Image, path: Path, offset: int) -> Image:
    content = bytearray(image.files[path])
    content[offset] ^= 0x10
    return Image({**image.files, path: bytes(content)})


def code_of_opening(image: Image) -> ExitCode | None:
    """Open the image; return how that stopped, having checked that nothing was changed then."""
    disk = MemoryDisk(image)
    try:
        open_log(disk)
    except EngineStopped as stopped:
        assert {path: content for path, content in disk.image().files.items() if path.name != "lock"} == {
            path: content for path, content in image.files.items() if path.name != "lock"
        }
        return stopped.code
    return None


def covered_bytes(image: Image, number: int) -> list[int]:
    """Offsets in a segment that a checksum covers, up to the last record but the closing mark."""
    content = image.files[segment_path(number)]
    covered = list(range(SEGMENT_HEADER_BYTES))
    for offset, header in headers_after(content, 0, seed_of(SALT, number)):
        if header.kind != RecordKind.MARK:
            covered.extend(range(offset, offset + RECORD_HEADER_BYTES + header.length))
    return covered


def last_group_torn(keep: float) -> tuple[MemoryDisk, int]:
    """A log of three durable records and a group of twenty of which the disk kept the first part, and sound ones
    later."""
    disk, worker = MemoryDisk(salt=SALT), StepWorker()
    log = open_log(disk, worker)
    append_records(log, 3)
    log.start_sync()
    worker.run_all()
    append_records(log, 20)
    log.start_sync()
    worker.run_all()
    write = max((event.operation for event in disk.trace.events if isinstance(event.operation, Write)), key=size_of)
    content = bytearray(disk.image().files[segment_path(1)])
    hole = write.offset + int(len(write.data) * keep)
    content[hole : hole + 300] = bytes(300)
    return MemoryDisk(Image({segment_path(1): bytes(content)})), hole


def size_of(write: Write) -> int:
    return len(write.data)


def test_every_flipped_byte_of_a_closed_log_is_found() -> None:
    image = closed_log(45)
    numbers = [1, 2]
    for number in numbers:
        for offset in covered_bytes(image, number):
            code = code_of_opening(flipped(image, segment_path(number), offset))
            assert code is ExitCode.DATA_DAMAGED, (number, offset)


def test_a_flipped_byte_that_no_record_needs_changes_nothing() -> None:
    image = closed_log(45)
    needed = {number: set(covered_bytes(image, number)) for number in (1, 2)}
    for number, covered in needed.items():
        for offset in range(0, SEGMENT_BYTES, 7):
            if offset not in covered:
                log = open_log(MemoryDisk(flipped(image, segment_path(number), offset)))
                assert (log.last_index, log.term, log.voted_for) == (45, 1, "node-a")


def test_damage_says_where_and_what_to_do() -> None:
    image = closed_log(5)
    with pytest.raises(EngineStopped, match=r"segment-0000000001 is damaged at byte \d+; nothing was changed: replace"):
        open_log(MemoryDisk(flipped(image, segment_path(1), 400)))


def test_a_lost_block_in_mid_log_is_damage() -> None:
    image = closed_log(45)
    content = bytearray(image.files[segment_path(1)])
    content[1024:1536] = bytes(512)
    assert code_of_opening(Image({**image.files, segment_path(1): bytes(content)})) is ExitCode.DATA_DAMAGED


def test_a_sound_record_in_the_place_of_another_is_damage() -> None:
    image = closed_log(5)
    content = bytearray(image.files[segment_path(1)])
    second, third = (content.index(record_of(number)) - RECORD_HEADER_BYTES for number in (2, 3))
    size = size_on_disk(len(record_of(2)))
    content[second : second + size] = content[third : third + size]
    with pytest.raises(EngineStopped, match="log record 3 follows 1"):
        open_log(MemoryDisk(Image({segment_path(1): bytes(content)})))


def test_a_lost_tail_behind_which_the_log_went_on_is_damage() -> None:
    image = closed_log(45)
    content = image.files[segment_path(1)][:2048].ljust(SEGMENT_BYTES, b"\0")
    assert code_of_opening(Image({**image.files, segment_path(1): content})) is ExitCode.DATA_DAMAGED


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_sound_records_of_the_last_group_behind_a_torn_one_are_no_proof_of_damage(keep: float) -> None:
    disk, _ = last_group_torn(keep)
    log = open_log(disk)
    assert 3 <= log.last_index < 23
    assert records_of(log) == [record_of(number) for number in range(1, log.last_index + 1)]


def test_what_was_dropped_is_told() -> None:
    disk, hole = last_group_torn(0.3)
    sound = [header for _, header in headers_after(bytes(disk.content(segment_path(1))), hole, seed_of(SALT, 1))]
    log = open_log(disk)
    assert log.recovered.dropped.records >= len(sound) > 0
    assert log.recovered.dropped.bytes >= sum(size_on_disk(header.length) for header in sound)


def test_dropped_records_do_not_come_back_when_the_log_goes_on() -> None:
    disk, _ = last_group_torn(0.3)
    log = open_log(disk)
    kept = log.last_index
    log.append(2, record_of(kept + 1))
    log.start_sync()
    disk.close_all()
    again = open_log(MemoryDisk(disk.image()))
    assert again.last_index == kept + 1
    assert again.last_term == 2
    assert max(segment_numbers(disk)) > 1


def test_a_clean_end_goes_on_in_place() -> None:
    disk = MemoryDisk(closed_log(5))
    log = open_log(disk)
    append_records(log, 1)
    log.close()
    assert disk.content(segment_path(1)).count(record_of(6)) == 1


def test_bytes_of_a_recycled_segment_are_never_taken_for_records() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    for _ in range(10):
        append_records(log, 20)
        log.start_sync()
        log.forget_to(log.last_index)
    append_records(log, 1)
    log.start_sync()
    disk.close_all()
    newest = disk.content(segment_path(max(segment_numbers(disk)) - 1))
    assert b"\xf1REC" in newest[2048:]
    log = open_log(MemoryDisk(disk.image()))
    assert records_of(log) == [record_of(201)]
    assert log.recovered.dropped.records == 0


@pytest.mark.parametrize(
    "other", [OWNER._replace(cluster_id="cd" * 16), OWNER._replace(group=4), OWNER._replace(replica="node-b")]
)
def test_the_log_of_another_is_refused(other: Identity) -> None:
    image = closed_log(5)
    with pytest.raises(EngineStopped, match="belongs to replica node-a of group 3") as stopped:
        SegmentedLog.open(FOLDER, other, disk=MemoryDisk(image), segment_bytes=SEGMENT_BYTES)
    assert stopped.value.code is ExitCode.CLUSTER_MISMATCH


def test_a_missing_oldest_segment_is_told() -> None:
    image = closed_log(45)
    files = {path: content for path, content in image.files.items() if path != segment_path(1)}
    with pytest.raises(EngineStopped, match=r"log records 1 to \d+ are missing") as stopped:
        open_log(MemoryDisk(Image(files)))
    assert stopped.value.code is ExitCode.DATA_MISSING


def test_a_missing_middle_segment_is_told() -> None:
    image = closed_log(100)
    files = {path: content for path, content in image.files.items() if path != segment_path(2)}
    assert code_of_opening(Image(files)) is ExitCode.DATA_MISSING


def test_a_segment_that_was_cut_short_is_damage() -> None:
    image = closed_log(45)
    cut = image.files[segment_path(2)][:-1]
    assert code_of_opening(Image({**image.files, segment_path(2): cut})) is ExitCode.DATA_DAMAGED


def test_a_format_of_the_future_is_not_touched() -> None:
    image = closed_log(5)
    content = bytearray(image.files[segment_path(1)])
    content[8] = 2
    content[124:128] = crc32c_of(content[:124])
    with pytest.raises(EngineStopped, match="format 2, this engine reads 1"):
        open_log(MemoryDisk(Image({segment_path(1): bytes(content)})))


def crc32c_of(data: bytearray) -> bytes:
    return crc32c(data).to_bytes(4, "little")


def test_segments_of_two_logs_are_not_mixed() -> None:
    image = closed_log(45)
    mixed = Image({**image.files, segment_path(1): closed_log(45, salt=99).files[segment_path(1)]})
    assert code_of_opening(mixed) is ExitCode.DATA_DAMAGED


def test_a_segment_in_the_making_is_left_behind_by_nobody() -> None:
    disk = MemoryDisk(Image({FOLDER / "new": bytes(100)}))
    log = open_log(disk)
    append_records(log, 1)
    log.close()
    assert "new" not in disk.names(FOLDER)


def test_a_scrap_of_another_size_is_not_used() -> None:
    disk = MemoryDisk(Image({FOLDER / "scrap-0000000009": bytes(100)}))
    log = open_log(disk)
    append_records(log, 50)
    log.close()
    assert {len(disk.content(segment_path(number))) for number in segment_numbers(disk)} == {SEGMENT_BYTES}


def test_recovery_writes_the_last_group_again_before_it_counts_as_durable() -> None:
    disk, worker = MemoryDisk(salt=SALT), StepWorker()
    log = open_log(disk, worker)
    append_records(log, 3)
    log.start_sync()
    worker.run_all()
    disk.close_all()
    before = disk.trace.now
    open_log(disk)
    again = [event.operation for event in disk.trace.events if event.began >= before]
    assert any(isinstance(operation, Write) and record_of(1) in operation.data for operation in again)
