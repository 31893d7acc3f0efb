"""`verify` passes a folder with chains in all states, and refuses whatever was changed of them; a snapshot of it goes
on."""

import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.core.chains.word import Step
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import Block, decode_block
from engine.storage.folder import open_folder
from engine.storage.recovery import open_state_machine
from engine.storage.sealed import with_checksum
from engine.storage.snapshot import install_snapshot, write_snapshot
from engine.storage.step_rows import steps_of_block
from engine.storage.verify.verify import verify
from engine.storage.views.views import Views
from tests.step_histories import Logged, identity_of, opened_group, world
from tests.storage_histories import TINY
from tests.storage_tampering import database, rewrite

GROUP = 2
RECORDS = 100
_STEPS_AT = 16
_STEP_BYTES = 64
_RUN_BYTES = 24
_DIGEST_BYTES = 16


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Logged]:
    with world(tmp_path_factory.mktemp("world"), seed=11, records=RECORDS) as lived:
        return lived.logs[GROUP]


@pytest.fixture(scope="module")
def whole(log: list[Logged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, a checkpoint at its end, and views."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    with opened_group(folder, GROUP, TINY) as machine:
        views = Views(folder / "views", machine.store, machine.book, map_bytes_max=1 << 26, run_rows=20)
        views.start()
        for index, logged in enumerate(log, 1):
            machine.apply(index, 1, logged.record)
            machine.save()
        assert views.wait(len(log), time.monotonic() + 20)
        views.stop()
        assert machine.book.open_chain_count > 0
        machine.close()
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def refused(folder: Path, code: ExitCode, words: str) -> None:
    with pytest.raises(EngineStopped, match=words) as stopped:
        verify(folder)
    assert stopped.value.code == code
    assert "\n" not in str(stopped.value)


def test_a_group_with_open_chains_is_verified(copy: Path, log: list[Logged]) -> None:
    report = verify(copy)
    assert report.head.hash == log[-1].state_hash
    assert report.open_chains > 0
    assert report.transits
    assert report.views_position
    assert f"{report.open_chains} open chains" in report.sentence()


def test_open_chains_of_a_checkpoint_must_be_those_of_the_journal(copy: Path) -> None:
    with database(copy, b"checkpoint") as cursor:
        assert cursor.set_range(b"c")
        rows = bytearray(cursor.value()[:-8])
        rows[16] ^= 1  # a digest
        cursor.put(cursor.key(), with_checksum(bytes(rows)))
    refused(copy, ExitCode.CHECK_FAILED, "other open chains")


def change_step(
    folder: Path, step: Step, change: Callable[[bytearray, int, Block], None], *, compact: bool = False
) -> None:
    """Change the first step of its sort in the newest block that has one; `change` gets where it begins. compact: in a
    payload of version 2, and `change` gets where its digest begins."""
    number, found = 0, None
    with database(folder, b"journal") as cursor:
        cursor.last()
        while found is None:
            block = decode_block(bytes(cursor.value()))
            record = steps_of_block(block)
            listed = [] if record is None or record.compact != compact else record.steps["step"].tolist()
            found = listed.index(step) if step in listed else None
            if found is None:
                assert cursor.prev(), f"no {step.name} in this history"
                number += 1

    def changed(data: bytearray) -> None:
        block = decode_block(bytes(data))
        start = block.header.extra_at + _STEPS_AT
        if not compact:
            change(data, start + _STEP_BYTES * (found or 0), block)
            return
        runs = struct.unpack_from("<I", data, block.header.extra_at + 4)[0]
        change(data, start + _RUN_BYTES * runs + _DIGEST_BYTES * (found or 0), block)

    rewrite(folder, changed, number)


@pytest.mark.parametrize("step", [Step.RESERVE, Step.DECIDE, Step.ABORT])
def test_a_chain_with_another_digest_is_found(copy: Path, step: Step) -> None:
    def other_digest(data: bytearray, at: int, block: Block) -> None:
        data[at + 16] ^= 1

    change_step(copy, step, other_digest)
    refused(copy, ExitCode.CHECK_FAILED, "another digest")


@pytest.mark.parametrize("step", [Step.RESERVE, Step.DECIDE])
def test_a_plain_chain_with_another_digest_is_found(copy: Path, step: Step) -> None:
    def other_digest(data: bytearray, at: int, block: Block) -> None:
        data[at] ^= 1

    change_step(copy, step, other_digest, compact=True)
    refused(copy, ExitCode.CHECK_FAILED, "another digest")


@pytest.mark.parametrize("step", [Step.RESERVE, Step.DECIDE])
def test_a_leg_that_is_said_to_run_elsewhere_is_found(copy: Path, step: Step) -> None:
    def other_side(data: bytearray, at: int, block: Block) -> None:
        first_row = struct.unpack_from("<I", data, at + 40)[0]
        steps = struct.unpack_from("<I", data, block.header.extra_at + 4)[0]
        data[block.header.extra_at + _STEPS_AT + _STEP_BYTES * steps + 4 * first_row] ^= 3

    change_step(copy, step, other_side)
    with pytest.raises(EngineStopped) as stopped:
        verify(copy)
    assert stopped.value.code in (ExitCode.CHECK_FAILED, ExitCode.DATA_DAMAGED)


def test_a_commit_that_was_turned_into_a_release_is_found(copy: Path) -> None:
    def release(data: bytearray, at: int, block: Block) -> None:
        run = block.header.extra_at + _STEPS_AT
        while data[run + 4] != Step.COMMIT:
            run += _RUN_BYTES
        data[run + 4] = Step.RELEASE

    change_step(copy, Step.COMMIT, release, compact=True)
    refused(copy, ExitCode.CHECK_FAILED, "position")


def test_a_snapshot_has_everything_that_is_open(whole: Path, log: list[Logged], tmp_path: Path) -> None:
    with opened_group(whole, GROUP, TINY) as machine:
        write_snapshot(machine.store, identity_of(GROUP), tmp_path / "snapshot")
        told = machine.open_chains(-1, 1000)
    with open_folder(tmp_path / "other", identity_of(GROUP)) as folder:
        install_snapshot(tmp_path / "snapshot", folder, identity_of(GROUP))
        other, _ = open_state_machine(folder, GROUP, TINY)
        assert other.state_hash == log[-1].state_hash
        found = other.open_chains(-1, 1000)
        other.close()
    assert [(one.word.chain.digest, one.word[1:]) for one in found] == [
        (one.word.chain.digest, one.word[1:]) for one in told
    ]
    verify(tmp_path / "other")
