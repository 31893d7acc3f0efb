"""`verify` passes what is whole, and refuses all damage and every difference in one sentence that names the place."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import HEADER_BYTES, decode_header
from engine.storage.folder import open_folder
from engine.storage.head import Head, read_head, write_head
from engine.storage.sealed import with_checksum
from engine.storage.store import Store
from engine.storage.verify.report import Noted
from engine.storage.verify.verify import verify
from engine.storage.views.views import Views
from tests.storage_histories import IDENTITY, TINY, History, apply_all, opened
from tests.storage_tampering import database, rewrite

RECORDS = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with runs, merges, a checkpoint behind the end, and views."""
    folder, history = tmp_path_factory.mktemp("whole") / "data", History(21, accounts=6)
    with opened(folder) as machine:
        views = Views(folder / "views", machine.store, machine.book, map_bytes_max=1 << 26, run_rows=150)
        views.start()
        for record in [*history.first_records(), *(history.record() for _ in range(RECORDS))]:
            apply_all(machine, [record])
            machine.save()
        views.wake()
        assert views.wait(machine.applied_index, time.monotonic() + 20)
        views.stop()
        assert machine._checkpoints.manifest.log_index < machine.applied_index
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def refused(folder: Path, code: ExitCode, words: str, **arguments: object) -> None:
    with pytest.raises(EngineStopped, match=words) as stopped:
        verify(folder, **arguments)  # type: ignore[arg-type]
    assert stopped.value.code == code
    assert "\n" not in str(stopped.value)


def test_a_whole_folder_is_verified_and_left_as_it_was(copy: Path) -> None:
    before = (copy / "store" / "data.mdb").read_bytes()
    report = verify(copy)
    assert (copy / "store" / "data.mdb").read_bytes() == before
    assert report.outcomes_judged
    assert report.blocks == RECORDS + 2
    assert report.head.log_index == RECORDS + 2
    assert len(report.ledgers) == 2
    assert 0 < report.checkpoint_position < report.head.next_position
    assert report.id_runs_position > 0
    assert report.views_position is not None
    assert report.views_position >= 100
    assert report.head.hash.hex() in report.sentence()


def test_without_views_and_without_judging_it_is_verified_too(copy: Path) -> None:
    shutil.rmtree(copy / "views")
    report = verify(copy, outcomes=False)
    assert not report.outcomes_judged
    assert report.views_position is None


def test_a_head_noted_earlier_must_still_be_in_the_journal(copy: Path) -> None:
    with Store(copy / "store", readonly=True) as store:
        block = store.journal.block_of(10)
    assert block is not None
    verify(copy, noted=Noted(10, block.header.hash))
    refused(copy, ExitCode.DATA_DAMAGED, "log index 10", noted=Noted(10, bytes(32)))
    refused(copy, ExitCode.DATA_DAMAGED, "log index 999", noted=Noted(999, bytes(32)))


def test_a_folder_in_use_or_without_a_store_is_refused(copy: Path, tmp_path: Path) -> None:
    with open_folder(copy, IDENTITY):
        refused(copy, ExitCode.FOLDER_IN_USE, "another process")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", ExitCode.DATA_MISSING, "no store")
    refused(tmp_path / "nowhere", ExitCode.DATA_MISSING, "nowhere")


def test_any_byte_flipped_in_the_file_is_found_or_does_not_matter(whole: Path, copy: Path) -> None:
    """Bytes that no page refers to any more may change; nothing that verify reads may."""
    path = copy / "store" / "data.mdb"
    data = path.read_bytes()
    original = verify(copy)
    rng, found = np.random.default_rng(7), 0
    for at in rng.integers(0, len(data), 80).tolist():
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        try:
            report = verify(copy, outcomes=False)
        except EngineStopped as stopped:
            found += 1
            assert stopped.code in (ExitCode.DATA_DAMAGED, ExitCode.CHECK_FAILED)
            assert "\n" not in str(stopped)
        else:
            assert report[:5] == original[:5]
    assert found > 10


@pytest.mark.parametrize("at", [8, 20, 30, 40, 60, 70, 100, HEADER_BYTES + 3, -20])
def test_a_block_altered_is_named_by_its_position(copy: Path, at: int) -> None:
    with database(copy, b"journal") as cursor:
        cursor.last()
        for _ in range(5):
            cursor.prev()
        header = decode_header(bytes(cursor.value()))
        data = bytearray(cursor.value())
        data[at] ^= 1
        cursor.put(cursor.key(), bytes(data))
    refused(copy, ExitCode.DATA_DAMAGED, rf"position {header.first_position} \(log index {header.log_index}\)")


def first_row_with(data: bytearray, kind: int, outcome: int) -> int:
    """The offset in a block of the first row of this kind and outcome."""
    header = decode_header(bytes(data))
    for at in range(header.rows_at, header.requested_at, 128):
        if data[at + 122] == kind and data[at + 124] == outcome:
            return at
    raise LookupError


def find_block_with(folder: Path, kind: int, outcome: int) -> int:
    with database(folder, b"journal") as cursor:
        cursor.last()
        for number in range(RECORDS):
            try:
                first_row_with(bytearray(cursor.value()), kind, outcome)
            except LookupError:
                cursor.prev()
            else:
                return number
    raise LookupError


def test_a_journal_resealed_after_an_outcome_was_changed_is_found_by_the_rules(copy: Path) -> None:
    def refuse_a_post(data: bytearray) -> None:
        data[first_row_with(data, 1, 1) + 124] = 70  # POSTED becomes INSUFFICIENT_FUNDS

    position = rewrite(copy, refuse_a_post, find_block_with(copy, 1, 1))
    refused(copy, ExitCode.CHECK_FAILED, "the rules give")
    assert position > 0


def test_a_resealed_journal_is_found_by_a_noted_hash(copy: Path) -> None:
    with Store(copy / "store", readonly=True) as store:
        noted = store.head()

    def other_reference(data: bytearray) -> None:
        data[first_row_with(data, 1, 1) + 80] ^= 1

    rewrite(copy, other_reference, find_block_with(copy, 1, 1))
    verify(copy)
    refused(copy, ExitCode.DATA_DAMAGED, "was noted", noted=Noted(noted.log_index, noted.hash))


def test_a_head_that_the_journal_does_not_reach_is_damage(copy: Path) -> None:
    with Store(copy / "store", map_bytes_max=1 << 30) as store, store.environment.begin(write=True) as transaction:
        head = read_head(transaction, store.state)
        write_head(transaction, store.state, Head(head.log_index + 1, head.term, head.next_position, head.hash))
    refused(copy, ExitCode.DATA_DAMAGED, "the journal ends")


def test_a_missing_block_is_damage(copy: Path) -> None:
    with database(copy, b"journal") as cursor:
        cursor.last()
        for _ in range(8):
            cursor.prev()
        position = decode_header(bytes(cursor.value())).end_position
        cursor.delete()
    refused(copy, ExitCode.DATA_DAMAGED, f"position {position}")


def change_words(folder: Path, name: bytes, key: bytes, change: Callable[[np.ndarray], None]) -> None:
    """Alter a value that ends in its checksum, and seal it anew."""
    with database(folder, name) as cursor:
        assert cursor.set_range(key)
        words = np.frombuffer(cursor.value(), np.uint64)[:-1].copy()
        change(words)
        cursor.put(cursor.key(), with_checksum(words.tobytes()))


@pytest.mark.parametrize("word", [2, 12, 14, 15])
def test_a_checkpoint_with_another_account_is_a_difference(copy: Path, word: int) -> None:
    def change(words: np.ndarray) -> None:
        words[5 * 16 + word] ^= np.uint64(4)

    change_words(copy, b"checkpoint", b"a", change)
    refused(copy, ExitCode.CHECK_FAILED, "checkpoint .* another account")


def test_a_checkpoint_with_another_reservation_is_a_difference(copy: Path) -> None:
    def change(words: np.ndarray) -> None:
        words[6] += np.uint64(1)

    change_words(copy, b"checkpoint", b"r", change)
    refused(copy, ExitCode.CHECK_FAILED, "open reservations")


@pytest.mark.parametrize(("family", "word"), [(1, 0), (1, 1), (2, 1), (2, 3), (2, 5)])
def test_an_id_run_that_says_something_else_is_a_difference(copy: Path, family: int, word: int) -> None:
    def change(words: np.ndarray) -> None:
        words[word] ^= np.uint64(1)

    change_words(copy, b"runs", bytes([family]), change)
    refused(copy, ExitCode.CHECK_FAILED, "is not found where it stands|what became of")


@pytest.mark.parametrize(("name", "key", "what"), [(b"runs", b"\1", "id run"), (b"checkpoint", b"a", "chunk")])
def test_a_flipped_bit_in_a_run_or_a_checkpoint_is_found_at_a_start_too(
    copy: Path, name: bytes, key: bytes, what: str
) -> None:
    with database(copy, name) as cursor:
        assert cursor.set_range(key)
        data = bytearray(cursor.value())
        data[9] ^= 1
        cursor.put(cursor.key(), bytes(data))
    refused(copy, ExitCode.DATA_DAMAGED, what)
    with pytest.raises(EngineStopped, match=what), opened(copy):
        pass


@pytest.mark.parametrize("manifest", [b"id runs", b"checkpoint"])
def test_a_flipped_bit_in_a_manifest_is_found_at_a_start_too(copy: Path, manifest: bytes) -> None:
    with database(copy, b"state") as cursor:
        assert cursor.set_key(manifest)
        data = bytearray(cursor.value())
        data[-1] ^= 1
        cursor.put(cursor.key(), bytes(data))
    refused(copy, ExitCode.DATA_DAMAGED, "manifest")
    with pytest.raises(EngineStopped, match="manifest"), opened(copy):
        pass


@pytest.mark.parametrize("section", [1, 2, 3, 6, 13, 16, 17])
def test_views_that_say_something_else_are_a_difference(copy: Path, section: int) -> None:
    with database(copy, b"entries", "views") as cursor:
        found = next(key for key, value in cursor if key[8] == section and value)
        cursor.set_key(found)
        data = bytearray(cursor.value())
        data[len(data) // 2] ^= 1
        cursor.put(cursor.key(), bytes(data))
    refused(copy, ExitCode.CHECK_FAILED, "the views of positions")


def test_limits_make_the_sample_worth_verifying(whole: Path) -> None:
    with Store(whole / "store", readonly=True) as store:
        levels = {(entry.family, entry.level) for entry in store.runs.manifest().runs}
    assert {(1, 0), (1, 1)} <= levels
    assert TINY.ids.newest_entries == 32
