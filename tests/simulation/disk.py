"""A disk that forgets what was not synced, and tears writes; one per replica.

A file's bytes are those that survive a power cut (`kept`) and the writes since the last sync. A folder's names survive
only once the folder is synced. A process that dies leaves all its writes to the kernel; a power cut keeps any of the
unsynced ones, each whole, torn at a sector, or not at all, and names either as of the last sync or as of now.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.disk import Bytes, Disk

SECTOR_BYTES = 512


class Crash(BaseException):
    """The replica dies in the midst of a disk operation. Not an Exception: nothing may handle it."""

    def __init__(self, replica: str, *, again: bool = False) -> None:
        """`again`: what is left of a process that died already wanted the disk."""
        super().__init__(replica)
        self.replica, self.again = replica, again


class File:
    """Bytes that survive, bytes as they are now, and the writes between the two."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.now = bytearray()
        self.writes: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        put(self.now, offset, data)
        self.writes.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.writes:
            put(self.kept, offset, data)
        self.writes.clear()

    def cut_power(self, dice: random.Random) -> None:
        for offset, data in self.writes:
            fate = dice.random()
            if fate < 0.4:
                put(self.kept, offset, data)
            elif fate < 0.7 and len(data) > SECTOR_BYTES:
                sectors = dice.randrange(len(data) // SECTOR_BYTES + 1)
                put(self.kept, offset, data[: sectors * SECTOR_BYTES])
        self.writes.clear()
        self.now = bytearray(self.kept)


class SimulatedDisk(Disk):
    """`fuse`: after so many more operations the replica dies (`Crash`), in the midst of whatever it does."""

    def __init__(self, replica: str, dice: random.Random) -> None:
        self.replica, self.dice = replica, dice
        self.names_now: dict[Path, File] = {}
        self.names_kept: dict[Path, File] = {}
        self.folders: set[Path] = set()
        self.locked: set[Path] = set()
        self.fuse: int | None = None
        self.on_sync: Callable[[], None] = lambda: None
        self._open: dict[int, File] = {}
        self._next = 3

    def crash(self, power: bool) -> None:
        """All descriptors are gone; what was not synced may be, too."""
        self.fuse, self._open, self.locked = None, {}, set()
        if not power:
            return
        if self.dice.random() < 0.5:
            self.names_now = dict(self.names_kept)
        for file in {id(file): file for file in (*self.names_now.values(), *self.names_kept.values())}.values():
            file.cut_power(self.dice)
        self.names_kept = dict(self.names_now)

    def wipe(self) -> None:
        """A new disk is put in."""
        self.names_now, self.names_kept, self.folders = {}, {}, set()

    def _operate(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Crash(self.replica)

    def make_folder(self, folder: Path) -> None:
        self.folders.add(folder)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.names_now if path.parent == folder)

    def lock(self, path: Path) -> int:
        if path in self.locked:
            raise EngineStopped(ExitCode.FOLDER_IN_USE, "locked")
        self.locked.add(path)
        return self._descriptor(File())

    def open(self, path: Path, *, create: bool = False) -> int:
        self._operate()
        if path not in self.names_now:
            if not create:
                raise EngineStopped(ExitCode.DATA_MISSING, f"{path} is not there")
            self.names_now[path] = File()
        return self._descriptor(self.names_now[path])

    def _descriptor(self, file: File) -> int:
        self._next += 1
        self._open[self._next] = file
        return self._next

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def size(self, descriptor: int) -> int:
        return len(self._open[descriptor].now)

    def allocate(self, descriptor: int, length: int) -> None:
        self._operate()
        file = self._open[descriptor]
        file.write(length - 1, b"\0" if len(file.now) < length else bytes(file.now[length - 1 : length]))

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return bytes(self._open[descriptor].now[offset : offset + length])

    def pwrite(self, descriptor: int, buffers: Sequence[Bytes], offset: int) -> None:
        self._operate()
        for buffer in buffers:
            self._open[descriptor].write(offset, bytes(buffer))
            offset += len(buffer)

    def sync(self, descriptor: int) -> None:
        self._operate()
        self._open[descriptor].sync()
        self.on_sync()

    def sync_folder(self, folder: Path) -> None:
        self._operate()
        self.names_kept = {
            **{path: file for path, file in self.names_kept.items() if path.parent != folder},
            **{path: file for path, file in self.names_now.items() if path.parent == folder},
        }

    def rename(self, old: Path, new: Path) -> None:
        self._operate()
        self.names_now[new] = self.names_now.pop(old)

    def remove(self, path: Path) -> None:
        self._operate()
        self.names_now.pop(path, None)

    def random_u32(self) -> int:
        return self.dice.getrandbits(32)


def put(target: bytearray, offset: int, data: bytes) -> None:
    """Write into a growing buffer."""
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data
