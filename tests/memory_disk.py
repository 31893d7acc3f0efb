"""A disk in memory, like the real one until `crash`; then it remembers what was synced, and some more.

It takes the place of `engine.replication.journal.disk.Disk`, synchronously and deterministically, and traces what is
written.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.journal.disk import Bytes, Disk
from tests.crash_images import Image, Name, Operation, Remove, Resize, Sync, SyncFolder, Trace, Write


class MemoryDisk(Disk):
    """Descriptors are numbers of its own. Every change goes through `trace`; `before` sees it first and may raise."""

    def __init__(self, image: Image | None = None, salt: int = 0x5EED) -> None:
        """Starts with the contents of an image, all of it durable."""
        self.before: Callable[[Operation], None] = lambda _: None
        self.salt = salt
        self.capacity_bytes: int | None = None
        self._open: dict[int, int] = {}
        self._locked: set[Path] = set()
        self._locks: dict[int, Path] = {}
        self._next_descriptor = 1
        self.put_back(image or Image())

    def put_back(self, image: Image) -> None:
        """Let the disk hold this image and nothing else, all of it durable; no file is open."""
        self.trace = Trace(image)
        self._names: dict[Path, int] = {path: file for file, path in enumerate(image.files)}
        self._bytes = {file: bytearray(content) for file, content in enumerate(image.files.values())}
        self._next_file = len(self._names)

    def lose(self, path: Path) -> None:
        """A file is gone, if it was there; no process did it."""
        if self._names.pop(path, None) is not None:
            self.trace.add(Remove(path))

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return sorted(self._names)

    def crash(self, source: random.Random) -> "MemoryDisk":
        """The disk that the next start finds; this one is not used any more."""
        return MemoryDisk(self.trace.random_image(self.trace.now, source.getrandbits(32)), source.getrandbits(32))

    def close_all(self) -> None:
        """The process is gone: its descriptors and locks with it, what it wrote is there."""
        self._open.clear()
        self._locks.clear()
        self._locked.clear()

    def content(self, path: Path) -> bytearray:
        """The live bytes of a file: change them, and the disk is damaged."""
        return self._bytes[self._names[path]]

    def image(self) -> Image:
        """Everything as a process that reads the files would see it."""
        return Image({path: bytes(self._bytes[file]) for path, file in self._names.items()})

    # -- what `Disk` does

    def make_folder(self, folder: Path) -> None:
        """Folders need no making here."""

    def names(self, folder: Path) -> list[str]:
        """See `Disk`."""
        return sorted(path.name for path in self._names if path.parent == folder)

    def lock(self, path: Path) -> int:
        """See `Disk`."""
        if path in self._locked:
            raise EngineStopped(ExitCode.FOLDER_IN_USE, f"another process has the log in {path.parent} open")
        descriptor = self.open(path, create=True)
        self._locked.add(path)
        self._locks[descriptor] = path
        return descriptor

    def open(self, path: Path, *, create: bool = False) -> int:
        """See `Disk`."""
        if path not in self._names:
            if not create:
                raise EngineStopped(ExitCode.FAILED, f"cannot open {path}: no such file")
            self._trace(Name(self._next_file, path))
            self._names[path] = self._next_file
            self._bytes[self._next_file] = bytearray()
            self._next_file += 1
        self._next_descriptor += 1
        self._open[self._next_descriptor] = self._names[path]
        return self._next_descriptor

    def close(self, descriptor: int) -> None:
        """See `Disk`."""
        del self._open[descriptor]
        self._locked.discard(self._locks.pop(descriptor, Path()))

    def size(self, descriptor: int) -> int:
        """See `Disk`."""
        return len(self._bytes[self._open[descriptor]])

    def allocate(self, descriptor: int, length: int) -> None:
        """See `Disk`; DISK_FULL beyond `capacity_bytes`."""
        file = self._open[descriptor]
        used = sum(len(self._bytes[named]) for named in self._names.values())
        if self.capacity_bytes is not None and used + length > self.capacity_bytes:
            raise EngineStopped(ExitCode.DISK_FULL, "the disk is full; free space and start again")
        self._trace(Resize(file, length))
        self._bytes[file].extend(bytes(max(0, length - len(self._bytes[file]))))

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        """See `Disk`."""
        return bytes(memoryview(self._bytes[self._open[descriptor]])[offset : offset + length])

    def pwrite(self, descriptor: int, buffers: Sequence[Bytes], offset: int) -> None:
        """See `Disk`."""
        file, data = self._open[descriptor], b"".join(buffers)
        self._trace(Write(file, offset, data))
        content = self._bytes[file]
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def sync(self, descriptor: int) -> None:
        """See `Disk`."""
        self._trace(Sync(self._open[descriptor]))

    def sync_folder(self, folder: Path) -> None:
        """See `Disk`."""
        self._trace(SyncFolder(folder))

    def rename(self, old: Path, new: Path) -> None:
        """See `Disk`."""
        self._trace(Name(self._names[old], new, old))
        self._names[new] = self._names.pop(old)

    def remove(self, path: Path) -> None:
        """See `Disk`."""
        self._trace(Remove(path))
        del self._names[path]

    def random_u32(self) -> int:
        """Always the same, so that a seed decides everything."""
        return self.salt

    def _trace(self, operation: Operation) -> None:
        self.before(operation)
        self.trace.add(operation)
