"""Small files beside the log: the identity and snapshots, through the log's own `Disk`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from blake3 import blake3

from engine.replication.journal.disk import Bytes, Disk

DIGEST_PIECE_BYTES: Final = 1 << 20
RunBlocking = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""`asyncio.to_thread`, or at once in a simulation."""


class DiskFiles:
    """The `IdentityStorage` and `SnapshotFiles` of one data folder."""

    def __init__(self, disk: Disk, folder: Path, run_blocking: RunBlocking) -> None:
        """`folder` exists and holds the identity; snapshots are named by their whole path."""
        self._disk = disk
        self._folder = folder
        self._run_blocking = run_blocking

    def read_file(self, name: str) -> bytes | None:
        """See `identity.IdentityStorage`."""
        if name not in self._disk.names(self._folder):
            return None
        descriptor = self._disk.open(self._folder / name)
        try:
            return self._disk.pread(descriptor, self._disk.size(descriptor), 0)
        finally:
            self._disk.close(descriptor)

    def replace_file(self, name: str, data: bytes) -> None:
        """See `identity.IdentityStorage`."""
        new = self._folder / f"{name}.new"
        if new.name in self._disk.names(self._folder):
            self._disk.remove(new)
        descriptor = self._disk.open(new, create=True)
        try:
            self._disk.pwrite(descriptor, [data], 0)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.rename(new, self._folder / name)
        self._disk.sync_folder(self._folder)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """See `snapshot.SnapshotFiles`."""
        descriptor = self._disk.open(path)
        try:
            return self._disk.pread(descriptor, size, offset)
        finally:
            self._disk.close(descriptor)

    def write(self, path: Path, offset: int, data: Bytes) -> None:
        """See `snapshot.SnapshotFiles`."""
        if offset == 0 and path.name in self._disk.names(path.parent):
            self._disk.remove(path)
        descriptor = self._disk.open(path, create=offset == 0)
        try:
            self._disk.pwrite(descriptor, [data], offset)
        finally:
            self._disk.close(descriptor)

    async def finish(self, path: Path) -> bytes:
        """See `snapshot.SnapshotFiles`."""
        return await self._run_blocking(lambda: self._sync_and_digest(path))

    def _sync_and_digest(self, path: Path) -> bytes:
        descriptor = self._disk.open(path)
        try:
            self._disk.sync(descriptor)
            digest, offset = blake3(), 0
            while piece := self._disk.pread(descriptor, DIGEST_PIECE_BYTES, offset):
                digest.update(piece)
                offset += len(piece)
            return digest.digest()
        finally:
            self._disk.close(descriptor)
