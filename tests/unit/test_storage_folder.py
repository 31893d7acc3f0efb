"""Whose a data folder is, who may open it, and what an error of the disk means."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.environment import open_environment, writing
from engine.storage.folder import Identity, open_existing, open_folder, read_identity

OURS = Identity("0" * 32, 0, "g0r0")


def test_a_new_folder_is_claimed_and_opens_again(tmp_path: Path) -> None:
    open_folder(tmp_path / "data", OURS).close()
    assert read_identity(tmp_path / "data") == OURS
    with open_folder(tmp_path / "data", OURS) as folder:
        assert folder.identity == OURS


@pytest.mark.parametrize(
    "other", [Identity("1" * 32, 0, "g0r0"), Identity("0" * 32, 1, "g0r0"), Identity("0" * 32, 0, "x")]
)
def test_a_folder_of_another_cluster_group_or_replica_is_refused_and_left_alone(
    tmp_path: Path, other: Identity
) -> None:
    open_folder(tmp_path, OURS).close()
    with pytest.raises(EngineStopped, match="belongs to replica g0r0") as stopped:
        open_folder(tmp_path, other)
    assert stopped.value.code == ExitCode.CLUSTER_MISMATCH
    assert read_identity(tmp_path) == OURS


def test_a_folder_opens_once_at_a_time(tmp_path: Path) -> None:
    with open_folder(tmp_path, OURS), pytest.raises(EngineStopped) as stopped:
        open_existing(tmp_path)
    assert stopped.value.code == ExitCode.FOLDER_IN_USE


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from engine.storage.folder import *\n"
        "folder = open_folder(pathlib.Path(sys.argv[1]), Identity('0' * 32, 0, 'g0r0')); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    open_folder(tmp_path, OURS).close()


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(b'{"cluster_id":')
    with pytest.raises(EngineStopped) as stopped:
        open_folder(tmp_path, OURS)
    assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_a_store_without_an_identity_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(EngineStopped) as stopped:
        open_folder(tmp_path, OURS)
    assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineStopped, match="nowhere") as stopped:
        open_existing(tmp_path / "nowhere")
    assert stopped.value.code == ExitCode.DATA_MISSING


def test_a_full_map_is_named_and_nothing_of_the_transaction_stays(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 20) as environment:
        with pytest.raises(EngineStopped) as stopped, writing(environment, tmp_path) as transaction:
            transaction.put(b"first", b"small")
            transaction.put(b"second", bytes(2 << 20))
        assert stopped.value.code == ExitCode.MAP_FULL
        with environment.begin() as transaction:
            assert transaction.get(b"first") is None


def test_a_write_cut_short_by_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    monkeypatch.setattr("engine.storage.environment.disk_bytes_free", lambda folder: 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(EngineStopped) as stopped, writing(environment, tmp_path) as transaction:
                transaction.put(b"key", os.urandom(400_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
    assert stopped.value.code == ExitCode.DISK_FULL
