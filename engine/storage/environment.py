"""LMDB environments: how they are opened, and what an error of theirs means for the process.

No writemap: a full disk would then be a SIGBUS, not an error. Commits are synced (the default): when a transaction's
`with` block ends without an exception, it survives a power cut.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.files import sync_folder

DATABASES_MAX: Final = 16
READERS_MAX: Final = 256
DISK_BYTES_FULL: Final = 16 << 20
"""Below this, a write that came back short is put down to a full disk, not to a broken one."""
DATA_FILE: Final = "data.mdb"
_MAPS: Final = Path("/proc/self/maps")

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGED: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
)


def open_environment(folder: Path, *, map_bytes_max: int, readonly: bool = False) -> lmdb.Environment:
    """Open, or create, the environment in `folder`. Raises `EngineStopped`."""
    if not readonly:
        folder.mkdir(parents=True, exist_ok=True)
    with explained(folder):
        environment = lmdb.open(
            str(folder),
            map_size=map_bytes_max,
            readonly=readonly,
            create=not readonly,
            max_dbs=DATABASES_MAX,
            max_readers=READERS_MAX,
            lock=not readonly,
            readahead=True,
        )
        if not readonly:  # LMDB syncs what it writes, never the name of its new file
            sync_folder(folder)
            sync_folder(folder.parent)
        return environment


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn LMDB's errors into `EngineStopped`: none of them is a refusal, each ends the process."""
    try:
        yield
    except lmdb.Error as error:
        raise _stopped(error, folder) from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise _disk_full(folder) from error
        raise


@contextmanager
def writing(environment: lmdb.Environment, folder: Path) -> Iterator[lmdb.Transaction]:
    """One synced write transaction: all of it is durable after the block, or none is. Raises `EngineStopped`."""
    with explained(folder), environment.begin(write=True) as transaction:
        yield transaction


def forget_pages(folder: Path) -> None:
    """Take the pages of an environment's data file out of this process's memory, where the system can do that.

    They stay in the system's cache, and come back when they are touched: what was read once does not count as ours for
    ever. Any thread may be reading meanwhile.
    """
    data_file, advise = str((folder / DATA_FILE).resolve()), getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None or not _MAPS.exists():
        return
    for line in _MAPS.read_text().splitlines():
        if line.endswith(data_file):
            first, end = (int(address, 16) for address in line.split(" ", 1)[0].split("-"))
            advise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)


def disk_bytes_free(folder: Path) -> int:
    """Bytes that this process may still write on the folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _stopped(error: lmdb.Error, folder: Path) -> EngineStopped:
    if isinstance(error, lmdb.MapFullError):
        return EngineStopped(
            ExitCode.MAP_FULL, f"the map of {folder} is full: raise `store_map_bytes_max` and start again"
        )
    # A write cut short by a full disk comes back as EIO, a bare one as ENOSPC.
    if error.code in _DISK_FULL or (error.code == errno.EIO and disk_bytes_free(folder) < DISK_BYTES_FULL):
        return _disk_full(folder)
    if error.code == errno.EIO:
        return EngineStopped(
            ExitCode.SYNC_FAILED, f"the disk refused to store {folder} ({error}): check the disk, then start again"
        )
    if isinstance(error, _DAMAGED):
        return EngineStopped(
            ExitCode.DATA_DAMAGED, f"{folder} is damaged ({error}): replace this replica or restore its folder"
        )
    return EngineStopped(ExitCode.FAILED, f"{folder} failed ({error}): report this with the log")


def _disk_full(folder: Path) -> EngineStopped:
    return EngineStopped(ExitCode.DISK_FULL, f"no space is left for {folder}: free some and start again")
