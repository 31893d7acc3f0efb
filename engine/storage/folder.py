"""A replica's data folder: whose it is, and that one process at a time has it open.

The folder holds `identity` (JSON, written once), `lock` (held by flock(2) while a process runs), `store/` (journal and
all that is derived from it), `views/` (read models, rebuilt at will) and what the replicated log keeps beside them.
"""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.files import sync_folder, write_durably

IDENTITY_VERSION: Final = 1
IDENTITY_FILE: Final = "identity"
LOCK_FILE: Final = "lock"
STORE_FOLDER: Final = "store"
VIEWS_FOLDER: Final = "views"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose data a folder holds."""

    cluster_id: str
    group: int
    replica: str
    version: int = IDENTITY_VERSION


class DataFolder:
    """An open, locked data folder. Use as a context manager, or call `close`."""

    def __init__(self, path: Path, identity: Identity | None, held: IO[bytes]) -> None:
        self.path = path
        self.identity = identity
        self._held = held

    @property
    def store(self) -> Path:
        """Where the journal's LMDB environment lives."""
        return self.path / STORE_FOLDER

    @property
    def views(self) -> Path:
        """Where the read models' LMDB environment lives."""
        return self.path / VIEWS_FOLDER

    def close(self) -> None:
        """Let another process have it."""
        self._held.close()

    def __enter__(self) -> "DataFolder":
        """Open already; to be closed behind the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_folder(path: Path, identity: Identity) -> DataFolder:
    """Lock the folder for `identity`, which is written down if the folder is new.

    Raises `EngineStopped`: FOLDER_IN_USE, CLUSTER_MISMATCH, DATA_DAMAGED.
    """
    path.mkdir(parents=True, exist_ok=True)
    sync_folder(path.parent)
    held = _lock(path)
    try:
        _claim(path, identity)
    except BaseException:
        held.close()
        raise
    return DataFolder(path, identity, held)


def open_existing(path: Path) -> DataFolder:
    """Lock a folder, whoever's it is: for offline tools. `identity` is None where the folder names nobody."""
    if not path.is_dir():
        raise EngineStopped(ExitCode.DATA_MISSING, f"there is no data folder {path}: check the path")
    held = _lock(path)
    try:
        return DataFolder(path, read_identity(path), held)
    except BaseException:
        held.close()
        raise


def read_identity(path: Path) -> Identity | None:
    """Return whose folder it is, or None if nobody's yet."""
    file = path / IDENTITY_FILE
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Identity)
    except msgspec.DecodeError as error:
        raise EngineStopped(
            ExitCode.DATA_DAMAGED, f"{file} is damaged ({error}): replace this replica or restore its folder"
        ) from error


def _claim(path: Path, identity: Identity) -> None:
    found = read_identity(path)
    if found is None:
        if (path / STORE_FOLDER).exists():
            raise EngineStopped(
                ExitCode.DATA_DAMAGED, f"{path} holds a store but no {IDENTITY_FILE}: restore the folder whole"
            )
        write_durably(path / IDENTITY_FILE, msgspec.json.encode(identity))
        return
    if found != identity:
        raise EngineStopped(
            ExitCode.CLUSTER_MISMATCH,
            f"{path} belongs to {_describe(found)}, not to {_describe(identity)}: give this replica its own folder",
        )


def _describe(identity: Identity) -> str:
    return f"replica {identity.replica} of group {identity.group} of cluster {identity.cluster_id}"


def _lock(path: Path) -> IO[bytes]:
    file = (path / LOCK_FILE).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise EngineStopped(
            ExitCode.FOLDER_IN_USE, f"another process has {path} open: stop it, or use another folder"
        ) from error
    return file
