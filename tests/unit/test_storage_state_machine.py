"""Apply, save, recover: what is saved when, what a start finds, and what ends the process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import msgspec
import numpy as np
import pytest

from engine.core.known import Known
from engine.core.records import RECORD, Kind, as_records, as_words
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.environment import writing
from engine.storage.folder import open_folder
from engine.storage.recovery import open_state_machine
from engine.storage.sealed import seal
from engine.storage.state_machine import StateMachine
from engine.storage.store import MAP_BYTES_SPARE, Store
from tests.storage_histories import (
    IDENTITY,
    ROOMY,
    TINY,
    History,
    Rows,
    apply_all,
    make_records,
    number_id,
    opened,
    record_of,
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StateMachine]:
    with opened(tmp_path, ROOMY) as one:
        yield one


def test_a_record_delivered_again_changes_nothing(machine: StateMachine) -> None:
    records = make_records(1, 5)
    apply_all(machine, records)
    before = machine.head
    for log_index, record in enumerate(records, start=1):
        assert len(machine.apply(log_index, 1, record)) == 0
    assert machine.head == before


def test_nothing_is_durable_before_save_and_all_of_it_is_after(machine: StateMachine) -> None:
    apply_all(machine, make_records(1, 5))
    assert (machine.applied_index, machine.synced_log_index) == (7, 0)
    assert machine._store.head().log_index == 0
    machine.save()
    assert machine.synced_log_index == 7
    assert machine._store.head() == machine.head


def test_the_running_hash_depends_on_every_record(tmp_path: Path) -> None:
    hashes = set()
    for seed in range(3):
        with opened(tmp_path / str(seed)) as machine:
            apply_all(machine, make_records(seed, 1))
            hashes.add(machine.head.hash)
    assert len(hashes) == 3


def test_a_clean_stop_leaves_nothing_to_roll_forward(tmp_path: Path) -> None:
    with opened(tmp_path) as machine:
        apply_all(machine, make_records(2, 10))
        head = machine.head
        machine.close()
    with open_folder(tmp_path, IDENTITY) as folder:
        machine, recovered = open_state_machine(folder, 0, ROOMY)
        assert (recovered.blocks_replayed, recovered.log_index) == (0, head.log_index)
        assert machine.head == head
        assert f"{head.next_position} journal rows" in recovered.sentence()
        machine.close()


def test_a_checkpoint_is_spread_over_several_saves(tmp_path: Path) -> None:
    with opened(tmp_path, ROOMY) as machine:
        apply_all(machine, make_records(4, 0, accounts=30_000))
        machine._checkpoints.begin(machine.book, machine.head)
        machine.save()
        assert machine._checkpoints.in_progress
        assert machine._checkpoints.manifest.log_index == 0
        machine.save()
        assert not machine._checkpoints.in_progress
        assert machine._checkpoints.manifest.log_index == 2


def test_checkpoints_begin_by_bytes_of_journal(tmp_path: Path) -> None:
    with opened(tmp_path) as machine:
        for record in make_records(4, 60):
            apply_all(machine, [record])
            machine.save()
        assert machine._checkpoints.manifest.generation > 5


def test_applying_much_without_a_save_saves_by_itself(machine: StateMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.storage.state_machine.UNSAVED_BYTES_MAX", 10_000)
    apply_all(machine, make_records(2, 30))
    assert machine.synced_log_index > 0


def test_rows_that_are_not_saved_are_known_however_many(tmp_path: Path) -> None:
    with opened(tmp_path, ROOMY._replace(recent_rows=8)) as machine:
        apply_all(machine, make_records(2, 30, rows_max=60))
        rows = np.arange(machine.head.next_position, dtype=np.uint64)
        unsaved = machine.loader.stored_at(rows)
        assert machine.synced_log_index == 0
        machine.save()
        assert all(map(np.array_equal, unsaved, machine.loader.stored_at(rows)))
        assert machine.store.journal.recent.start > 0


def test_between_the_halves_of_applying_a_record_nothing_else_may_be_done(tmp_path: Path) -> None:
    records = make_records(1, 3)
    steps: list[Callable[[StateMachine], object]] = [
        StateMachine.save,
        StateMachine.rest,
        lambda machine: machine.prepare(records[-1]),
        lambda machine: machine.apply(5, 1, records[-1]),
    ]
    for number, step in enumerate(steps):
        with opened(tmp_path / str(number)) as machine:
            apply_all(machine, records[:-2])
            machine.judge(4, 1, records[-2])
            assert machine.applied_index == 3
            with pytest.raises(EngineStopped) as stopped:
                step(machine)
            assert stopped.value.code == ExitCode.APPLY_FAILED
            machine.pack()
            assert machine.applied_index == 4
            step(machine)


def test_what_was_judged_and_not_packed_is_not_saved_when_the_process_ends(tmp_path: Path) -> None:
    records = make_records(1, 3)
    with opened(tmp_path) as machine:
        apply_all(machine, records[:-1])
        machine.save()
        machine.judge(5, 1, records[-1])
        machine.close()
    with opened(tmp_path) as machine:
        assert machine.applied_index == 4
        apply_all(machine, records[-1:])


def test_a_damaged_record_ends_the_process_and_nothing_works_after(machine: StateMachine) -> None:
    records = make_records(1, 3)
    apply_all(machine, records[:-1])
    record = bytearray(records[-1])
    record[-1] ^= 1
    with pytest.raises(EngineStopped, match="log record 5") as stopped:
        machine.apply(5, 1, bytes(record))
    assert stopped.value.code == ExitCode.DATA_DAMAGED
    for step in (machine.save, lambda: machine.apply(6, 1, b"")):
        with pytest.raises(EngineStopped) as stopped:
            step()
        assert stopped.value.code == ExitCode.APPLY_FAILED


def test_a_full_map_ends_the_process_and_saves_nothing(tmp_path: Path) -> None:
    history = History(9)
    with opened(tmp_path, ROOMY._replace(map_bytes_max=1 << 20)) as machine:
        apply_all(machine, history.first_records())
        with pytest.raises(EngineStopped, match="store_map_bytes_max") as stopped:
            while True:
                machine.save()
                machine.apply(machine.applied_index + 1, 1, history.record(400))
        assert stopped.value.code == ExitCode.MAP_FULL
        saved = machine.synced_log_index
        assert saved == machine.applied_index - 1
    with opened(tmp_path, ROOMY) as machine:
        assert machine.applied_index == saved


def test_space_runs_short_before_the_map_or_the_disk_is_full(tmp_path: Path) -> None:
    with Store(tmp_path, map_bytes_max=64 << 20) as store:
        assert store.space(0).nearly_full is None
        assert "disk" in str(store.space(1 << 62).nearly_full)
        filler = 0
        while store.space(0).nearly_full is None:
            with writing(store.environment, tmp_path) as transaction:
                transaction.put(b"filler %d" % filler, bytes(1 << 20))
            filler += 1
        space = store.space(0)
        assert "store_map_bytes_max" in str(space.nearly_full)
        assert 0 < space.map_bytes_max - space.map_bytes_used < min(MAP_BYTES_SPARE, 64 << 20)


def test_a_nearly_full_map_is_kept_for_what_is_logged(tmp_path: Path) -> None:
    """Merges and checkpoints rest, a clean stop needs no room, and a larger map brings all back."""
    history = History(9)
    with opened(tmp_path, TINY._replace(map_bytes_max=2 << 20)) as machine:
        apply_all(machine, history.first_records())
        while not machine.store.is_map_short:
            apply_all(machine, [history.record()])
            machine.save()
        generation = machine._checkpoints.manifest.generation
        while machine._checkpoints.in_progress:
            machine.save()
        for _ in range(20):
            apply_all(machine, [history.record()])
            machine.save()
        assert machine._checkpoints.manifest.generation <= generation + 1
        head = machine.head
        machine.close()
    with opened(tmp_path, TINY) as machine:
        assert machine.head == head
        machine.checkpoint()
        assert machine._checkpoints.manifest.log_index == head.log_index


def change_last_blocks(path: Path, change: Callable[[lmdb.Cursor], object]) -> None:
    """Let `change` loose on a cursor that stands on the journal's last block."""
    with opened(path) as machine:
        apply_all(machine, make_records(1, 5))
        machine._checkpoints._journal_bytes_max = 1 << 40
        machine.save()
    with Store(path / "store") as store, store.environment.begin(write=True) as transaction:
        cursor = transaction.cursor(db=store.environment.open_db(b"journal", txn=transaction))
        cursor.last()
        change(cursor)


def test_a_journal_cut_short_is_damage(tmp_path: Path) -> None:
    change_last_blocks(tmp_path, lambda cursor: bool(cursor.delete()))
    with pytest.raises(EngineStopped, match="journal ends") as stopped, opened(tmp_path):
        pass
    assert stopped.value.code == ExitCode.DATA_DAMAGED


@pytest.mark.parametrize("offset", [40, 100, 200, -1])
def test_a_block_altered_behind_the_checkpoint_is_damage(tmp_path: Path, offset: int) -> None:
    def flip(cursor: lmdb.Cursor) -> None:
        cursor.prev()
        data = bytearray(cursor.value())
        data[offset] ^= 1
        cursor.put(cursor.key(), bytes(data))

    change_last_blocks(tmp_path, flip)
    with pytest.raises(EngineStopped, match="journal block 6") as stopped, opened(tmp_path):
        pass
    assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_a_block_that_does_not_follow_the_checkpoint_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as machine:
        apply_all(machine, make_records(1, 5))
        machine.checkpoint()
        checkpoint = machine._checkpoints.manifest
        apply_all(machine, [History(7).record()])
        machine.save()
    with Store(tmp_path / "one" / "store") as store, writing(store.environment, store.folder) as transaction:
        other = msgspec.structs.replace(checkpoint, hash=bytes(32))
        transaction.put(b"checkpoint", seal(other), db=store.state)
    with pytest.raises(EngineStopped, match="does not follow") as stopped, opened(tmp_path / "one"):
        pass
    assert stopped.value.code == ExitCode.DATA_DAMAGED


def events(*rows: dict[str, object]) -> bytes:
    return record_of(packed(*rows), 1_800_000_000_000_000_000)


def packed(*rows: dict[str, object]) -> Rows:
    records = np.zeros(len(rows), RECORD)
    for row, fields in zip(records, rows, strict=True):
        for name, value in fields.items():
            row[name] = value  # type: ignore[assignment]
    return records


def load(machine: StateMachine, *rows: dict[str, object]) -> Known:
    return machine.loader.load(as_words(packed(*rows).tobytes()).copy())


@pytest.fixture
def seven(machine: StateMachine) -> StateMachine:
    """A machine that knows one transfer, a RESERVE with id 7."""
    history = History(1)
    apply_all(machine, history.first_records())
    move = {"debit": history.accounts[1], "credit": history.accounts[2], "ledger": 1, "amount_low": 5}
    apply_all(machine, [events({"id": number_id(7), "kind": Kind.RESERVE, **move})])
    return machine


def test_rows_applied_and_not_yet_saved_are_known(seven: StateMachine) -> None:
    known = load(seven, {"id": number_id(8), "kind": Kind.COMMIT, "followed": number_id(7)})
    assert (known.id_row.tolist(), known.followed_row.tolist()) == ([-1], [0])
    assert known.positions.tolist() == [seven.head.next_position - 1]
    assert known.ended.tolist() == [0]


def test_a_row_named_by_several_records_is_loaded_once(seven: StateMachine) -> None:
    follow = {"kind": Kind.REVERSE, "followed": number_id(7)}
    known = load(seven, *({"id": number_id(number), **follow} for number in (7, 8, 9)))
    assert known.id_row.tolist() == [0, -1, -1]
    assert known.followed_row.tolist() == [0, 0, 0]
    assert len(known.rows) == 1


def test_an_account_is_known_by_the_row_that_made_it(seven: StateMachine) -> None:
    account = History(1).accounts[3]
    known = load(seven, {"id": account, "kind": Kind.CREATE_ACCOUNT})
    assert known.id_row.tolist() == [0]
    assert known.positions.tolist() == [4]  # behind genesis and three accounts
    assert known.rows[0, 0:2].tobytes() == account


def test_transfers_are_found_by_id_and_strangers_are_not(tmp_path: Path) -> None:
    with opened(tmp_path) as machine:
        for record in make_records(6, 60):
            apply_all(machine, [record])
            machine.save()
        rows = machine._store.journal.rows_at(np.arange(machine.head.next_position, dtype=np.uint64))
        kinds = as_records(rows)["kind"]
        transfers = np.flatnonzero(~np.isin(kinds, [Kind.EXPIRE, Kind.CREATE_ACCOUNT, Kind.SETTINGS]))
        ids = rows[transfers, 0:2]
        assert len(transfers) > 300
        assert machine.loader.positions_of(ids).tolist() == transfers.tolist()
        assert set(machine.loader.positions_of(ids + np.uint64(1 << 50)).tolist()) == {-1}
