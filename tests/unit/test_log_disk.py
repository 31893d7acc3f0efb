"""The real disk: what its calls do, and which named exit code each of their failures has."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.disk import BUFFERS_PER_WRITE_MAX, Disk
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity

OWNER = Identity("ab" * 16, 3, "node-a")


def failing(code: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture
def file(tmp_path: Path) -> int:
    return Disk().open(tmp_path / "file", create=True)


def test_buffers_are_written_one_after_another(file: int) -> None:
    Disk().pwrite(file, [b"ab", bytearray(b"cd"), memoryview(b"ef")], 3)
    assert Disk().pread(file, 100, 0) == b"\0\0\0abcdef"
    assert Disk().size(file) == 9


def test_more_buffers_than_one_call_takes_are_written(file: int) -> None:
    buffers = [number.to_bytes(2, "little") for number in range(3 * BUFFERS_PER_WRITE_MAX + 5)]
    Disk().pwrite(file, buffers, 0)
    assert Disk().pread(file, 1 << 20, 0) == b"".join(buffers)


def test_a_short_write_is_finished(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, offset: os.pwrite(fd, b"".join(buffers)[:3], offset))
    Disk().pwrite(file, [b"abc", b"defg", b"hi"], 2)
    assert Disk().pread(file, 100, 2) == b"abcdefghi"


def test_a_short_read_goes_on_to_the_end(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk().pwrite(file, [b"abcdefghi"], 0)
    whole = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: whole(fd, min(length, 4), offset))
    assert Disk().pread(file, 8, 0) == b"abcdefgh"
    assert Disk().pread(file, 100, 0) == b"abcdefghi"


def test_allocated_bytes_are_zero(file: int) -> None:
    Disk().allocate(file, 8192)
    assert Disk().pread(file, 8192, 0) == bytes(8192)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_refused_sync_stops_the_process_by_name_and_is_not_tried_again(
    file: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[int] = []

    def refuse(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(EngineStopped, match="look at its health") as stopped:
        Disk().sync(file)
    assert stopped.value.code is ExitCode.SYNC_FAILED
    assert len(calls) == 1


def test_a_refused_sync_of_a_folder_stops_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(EngineStopped) as stopped:
        Disk().sync_folder(tmp_path)
    assert stopped.value.code is ExitCode.SYNC_FAILED


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_a_full_disk(file: int, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(code))
    monkeypatch.setattr(os, "pwritev", failing(code))
    calls: list[Callable[[], None]] = [
        lambda: Disk().allocate(file, 4096),
        lambda: Disk().pwrite(file, [b"a"], 0),
    ]
    for call in calls:
        with pytest.raises(EngineStopped, match="free space") as stopped:
            call()
        assert stopped.value.code is ExitCode.DISK_FULL


def test_a_write_error_of_the_device_is_a_failed_sync(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", failing(errno.EIO))
    with pytest.raises(EngineStopped) as stopped:
        Disk().pwrite(file, [b"a"], 0)
    assert stopped.value.code is ExitCode.SYNC_FAILED


def test_a_read_error_of_the_device_is_damage(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", failing(errno.EIO))
    with pytest.raises(EngineStopped) as stopped:
        Disk().pread(file, 1, 0)
    assert stopped.value.code is ExitCode.DATA_DAMAGED


def test_a_file_that_cannot_be_opened_says_which(tmp_path: Path) -> None:
    with pytest.raises(EngineStopped, match="missing"):
        Disk().open(tmp_path / "missing")


def test_a_file_takes_the_place_of_another_and_goes(tmp_path: Path) -> None:
    disk = Disk()
    disk.close(disk.open(tmp_path / "a", create=True))
    disk.close(disk.open(tmp_path / "b", create=True))
    disk.rename(tmp_path / "a", tmp_path / "b")
    assert disk.names(tmp_path) == ["b"]
    disk.remove(tmp_path / "b")
    assert disk.names(tmp_path) == []


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    Disk().make_folder(tmp_path / "a" / "b")
    Disk().make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_locked_folder_is_refused_until_it_is_released(tmp_path: Path) -> None:
    disk = Disk()
    held = disk.lock(tmp_path / "lock")
    with pytest.raises(EngineStopped, match="another process") as stopped:
        disk.lock(tmp_path / "lock")
    assert stopped.value.code is ExitCode.FOLDER_IN_USE
    disk.close(held)
    disk.close(disk.lock(tmp_path / "lock"))


def test_a_log_on_the_real_disk_comes_back(tmp_path: Path) -> None:
    log = SegmentedLog.open(tmp_path / "log", OWNER, segment_bytes=1 << 16)
    records = [bytes([number]) * 5000 for number in range(60)]
    for record in records:
        log.append(1, record)
    log.close()
    log = SegmentedLog.open(tmp_path / "log", OWNER, segment_bytes=1 << 16)
    assert [log.entry_at(index).record for index in range(1, 61)] == records
    log.close()


def test_salts_differ(tmp_path: Path) -> None:
    assert len({Disk().random_u32() for _ in range(8)}) > 1
