"""A stopped replica's log, judged offline: sound, damaged, or not what the store needs; never changed."""

from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.inspection import inspect_log
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity

OWNER = Identity("ab" * 16, 3, "node-a")
RECORDS = 20


@pytest.fixture(params=["", "records"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log of a group of one, or of several: there the segments are a folder below."""
    made = SegmentedLog.open(tmp_path / request.param, OWNER, segment_bytes=4096)
    made.save_vote(2, "node-a")
    for number in range(RECORDS):
        made.append(2, bytes([number]) * 300)
        made.sync_now()
    made.close()
    return tmp_path


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("segment-*"))


def test_a_sound_log_is_told_and_left_as_it_is(log: Path) -> None:
    before = everything(log)
    assert inspect_log(log, RECORDS - 3)[:4] == (1, RECORDS, 2, 0)
    assert everything(log) == before


def test_a_record_that_is_damaged_is_named_by_its_segment_and_nothing_is_changed(log: Path) -> None:
    first = segments(log)[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    before = everything(log)
    with pytest.raises(EngineStopped, match=first.name) as stopped:
        inspect_log(log, 1)
    assert stopped.value.code == ExitCode.DATA_DAMAGED
    assert everything(log) == before


@pytest.mark.parametrize("applied_index", [RECORDS + 1, RECORDS + 1000])
def test_a_log_that_ends_before_its_store_is_missing_records(log: Path, applied_index: int) -> None:
    with pytest.raises(EngineStopped, match=f"the log ends at {RECORDS}") as stopped:
        inspect_log(log, applied_index)
    assert stopped.value.code == ExitCode.DATA_MISSING


def test_a_log_that_is_gone_is_missing_unless_nothing_was_ever_applied(tmp_path: Path) -> None:
    assert inspect_log(tmp_path, 0).last_index == 0
    with pytest.raises(EngineStopped, match="holds no segment") as stopped:
        inspect_log(tmp_path, 1)
    assert stopped.value.code == ExitCode.DATA_MISSING
