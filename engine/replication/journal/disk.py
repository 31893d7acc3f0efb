"""The few calls by which the log touches a disk, and how their failures end the process.

Everything the log writes goes through one `Disk`, so that a simulation can put in its place a disk that forgets
unsynced bytes and tears writes. Methods block; they may be called from the event loop's thread or from the log's own. A
refused sync is never retried: the kernel may have dropped the pages, and would report success the next time (DESIGN
§14).
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.exit_codes import EngineStopped, ExitCode

Bytes = bytes | bytearray | memoryview

BUFFERS_PER_WRITE_MAX: Final = 1024
"""IOV_MAX of Linux."""
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class Disk:
    """The real one. A simulated disk derives from it and replaces every method; descriptors are then its own
    numbers."""

    def make_folder(self, folder: Path) -> None:
        """Create the folder, and those above it, so that they survive a power cut."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise _stopped(error, f"cannot create the folder {folder}") from error
        self.sync_folder(folder.parent)

    def names(self, folder: Path) -> list[str]:
        """Names in the folder, sorted."""
        try:
            return sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise _stopped(error, f"cannot list the folder {folder}") from error

    def lock(self, path: Path) -> int:
        """Hold the folder of this file for the life of the descriptor; raise FOLDER_IN_USE if another holds it."""
        descriptor = self.open(path, create=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise EngineStopped(
                ExitCode.FOLDER_IN_USE,
                f"another process has the log in {path.parent} open; stop it, or give this one another folder",
            ) from error
        return descriptor

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise _stopped(error, f"cannot open {path}") from error

    def close(self, descriptor: int) -> None:
        """Close; nothing is synced."""
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        """Bytes of the file."""
        return os.fstat(descriptor).st_size

    def allocate(self, descriptor: int, length: int) -> None:
        """Reserve `length` bytes from 0, so that later writes need no space and no change of size."""
        try:
            os.posix_fallocate(descriptor, 0, length)
        except OSError as error:
            raise _stopped(error, f"cannot reserve {length} bytes for the log") from error

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read up to `length` bytes; fewer only at the end of the file."""
        parts: list[bytes] = []
        try:
            while length > 0 and (part := os.pread(descriptor, length, offset)):
                parts.append(part)
                length, offset = length - len(part), offset + len(part)
        except OSError as error:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED, f"the disk cannot read the log ({error.strerror}); replace this replica's disk"
            ) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite(self, descriptor: int, buffers: Sequence[Bytes], offset: int) -> None:
        """Write all the buffers, one after another, from `offset`."""
        for first in range(0, len(buffers), BUFFERS_PER_WRITE_MAX):
            part = buffers[first : first + BUFFERS_PER_WRITE_MAX]
            expected = sum(map(len, part))
            try:
                written = os.pwritev(descriptor, part, offset)
                if written != expected:
                    _write_rest(descriptor, b"".join(part)[written:], offset + written)
            except OSError as error:
                raise _stopped(error, "the disk refused a write to the log") from error
            offset += expected

    def sync(self, descriptor: int) -> None:
        """Return once the file's bytes and size are durable; any failure ends the process with SYNC_FAILED."""
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise _sync_failed(error) from error

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in the folder are durable."""
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _sync_failed(error) from error

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        try:
            old.rename(new)
        except OSError as error:
            raise _stopped(error, f"cannot rename {old} to {new.name}") from error

    def remove(self, path: Path) -> None:
        """Remove a file."""
        try:
            path.unlink()
        except OSError as error:
            raise _stopped(error, f"cannot remove {path}") from error

    def random_u32(self) -> int:
        """A number that nobody outside can guess (see the salt in `segment_format`)."""
        return secrets.randbits(32)


def _write_rest(descriptor: int, rest: bytes, offset: int) -> None:
    """A short write is legal, if rare: go on where it ended."""
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _stopped(error: OSError, what: str) -> EngineStopped:
    if error.errno in _FULL:
        return EngineStopped(ExitCode.DISK_FULL, f"{what}: the disk is full; free space and start again")
    if error.errno == errno.EIO:
        return _sync_failed(error)
    return EngineStopped(ExitCode.FAILED, f"{what}: {error.strerror}; give this user access to it and start again")


def _sync_failed(error: OSError) -> EngineStopped:
    return EngineStopped(
        ExitCode.SYNC_FAILED,
        f"the disk did not store what was written ({error.strerror}); look at its health, then start again",
    )
