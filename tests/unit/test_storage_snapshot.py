"""A snapshot is the store of one moment, checked, and installed whole or not at all."""

import threading
from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.audit import reserved_totals, trial_balances
from engine.storage.folder import open_folder
from engine.storage.recovery import open_state_machine
from engine.storage.snapshot import (
    TRAILER_BYTES,
    SnapshotInfo,
    check_snapshot,
    install_snapshot,
    read_snapshot,
    write_snapshot,
)
from tests.storage_histories import IDENTITY, TINY, apply_all, make_records, opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with opened(folder) as machine:
        apply_all(machine, make_records(5, 40))
        machine.save()
        write_snapshot(machine.store, IDENTITY, folder / "snapshot")
    return folder / "snapshot"


def test_a_snapshot_made_under_load_is_the_store_of_one_moment(tmp_path: Path) -> None:
    records = make_records(3, 150)
    heads = {}
    with opened(tmp_path / "one") as machine:
        apply_all(machine, records[:20])
        machine.save()
        heads[machine.applied_index] = machine.head
        infos: list[SnapshotInfo] = []
        snapshots = threading.Thread(
            target=lambda: infos.extend(
                write_snapshot(machine.store, IDENTITY, tmp_path / f"snapshot{number}") for number in range(5)
            )
        )
        snapshots.start()
        for record in records[20:]:
            apply_all(machine, [record])
            machine.save()
            heads[machine.applied_index] = machine.head
        snapshots.join()
    for number, info in enumerate(infos):
        assert info.head == heads[info.head.log_index]
        path = tmp_path / f"snapshot{number}"
        assert check_snapshot(path) == info
        assert path.stat().st_size == info.file_bytes
        with open_folder(tmp_path / f"other{number}", IDENTITY) as folder:
            install_snapshot(path, folder, IDENTITY)
            assert not path.exists()
            machine, _ = open_state_machine(folder, 0, TINY)
            assert machine.head == info.head
            apply_all(machine, records[info.head.log_index :])
            assert machine.head == heads[len(records)]
            machine.close()


def test_installing_replaces_what_was_there(tmp_path: Path, made: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(made.read_bytes())
    with opened(tmp_path / "data") as machine:
        apply_all(machine, make_records(5, 3))
        machine.close()
    with open_folder(tmp_path / "data", IDENTITY) as folder:
        info = install_snapshot(path, folder, IDENTITY)
        machine, _ = open_state_machine(folder, 0, TINY)
        assert machine.head == info.head
        machine.close()


@pytest.mark.parametrize("at", [0, 5000, -TRAILER_BYTES - 1, -TRAILER_BYTES, -TRAILER_BYTES + 60, -1])
def test_a_flipped_byte_is_found_and_the_old_store_stays(tmp_path: Path, made: Path, at: int) -> None:
    data = bytearray(made.read_bytes())
    data[at] ^= 1
    (tmp_path / "snapshot").write_bytes(data)
    refuse(tmp_path, ExitCode.DATA_DAMAGED)


@pytest.mark.parametrize("length", [0, 100, TRAILER_BYTES, 5000])
def test_a_cut_snapshot_is_found_and_the_old_store_stays(tmp_path: Path, made: Path, length: int) -> None:
    (tmp_path / "snapshot").write_bytes(made.read_bytes()[:length])
    refuse(tmp_path, ExitCode.DATA_DAMAGED)


def test_a_snapshot_of_another_group_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "other") as machine:
        apply_all(machine, make_records(5, 3))
        machine.save()
        write_snapshot(machine.store, IDENTITY.__class__("0" * 32, 1, "g1r0"), tmp_path / "snapshot")
    refuse(tmp_path, ExitCode.CLUSTER_MISMATCH)


def refuse(tmp_path: Path, code: ExitCode) -> None:
    with opened(tmp_path / "data") as machine:
        apply_all(machine, make_records(5, 3))
        head = machine.head
        machine.close()
    with open_folder(tmp_path / "data", IDENTITY) as folder:
        with pytest.raises(EngineStopped) as stopped:
            install_snapshot(tmp_path / "snapshot", folder, IDENTITY)
        assert stopped.value.code == code
        machine, _ = open_state_machine(folder, 0, TINY)
        assert machine.head == head
        machine.close()


def test_the_trailer_says_where_the_snapshot_stands(made: Path) -> None:
    info = read_snapshot(made)
    assert info == check_snapshot(made)._replace(file_digest=b"")
    assert (info.cluster_id, info.group, info.head.log_index) == ("0" * 32, 0, 42)


def test_trial_balances_are_even_and_reservations_explain_what_is_held(tmp_path: Path) -> None:
    with opened(tmp_path) as machine:
        for record in make_records(8, 60):
            apply_all(machine, [record])
            held = reserved_totals(machine.book)
            for balance in trial_balances(machine.book):
                assert balance.is_even
                assert balance.debits_reserved == held.get(balance.ledger, 0)
        assert sum(balance.accounts for balance in trial_balances(machine.book)) == 12
        assert sum(balance.debits_posted for balance in trial_balances(machine.book)) > 1 << 70
        machine.book.tables.accounts[0, 2] += 1
        assert not all(balance.is_even for balance in trial_balances(machine.book))
