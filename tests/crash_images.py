"""What a disk may hold after the power went: rebuilt from a trace of writes, syncs and changes of names.

The rules, as POSIX gives them and no kinder. An operation is *certain* at a cut if a sync that covers it began after
the operation had ended and itself ended by the cut; every other one that had begun is *open*: it may be there, not
there, or, for a write, there in part, in units of a sector. A sync of a file covers its bytes and its size, not its
name; a sync of a folder covers the names in it. Open operations are kept or left out one by one, in any combination.

Two sources make traces: `tests.memory_disk.MemoryDisk`, in process, and `tests.chaos.recorded_writes`, from a real one.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

SECTOR_BYTES: Final = 512
"""The unit that a disk writes whole."""
SPARSE_BYTES: Final = 64 << 10
KEEP_CHANCES: Final = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Images lean to one side or the other: all lost, few kept, half, few lost, nothing lost."""


class Write(NamedTuple):
    """Bytes at an offset of a file; `durable` if it was opened so that each write is synced (O_DSYNC)."""

    file: int
    offset: int
    data: bytes
    durable: bool = False


class Resize(NamedTuple):
    """A new length: allocated, or cut off (`shrink`)."""

    file: int
    length: int
    shrink: bool = False


class Name(NamedTuple):
    """A file appears under a path: created, or renamed from `old`."""

    file: int
    path: Path
    old: Path | None = None


class Remove(NamedTuple):
    """A name goes."""

    path: Path


class Sync(NamedTuple):
    """fdatasync or fsync of a file."""

    file: int


class SyncFolder(NamedTuple):
    """fsync of a folder."""

    folder: Path


Operation = Write | Resize | Name | Remove | Sync | SyncFolder


class Event(NamedTuple):
    """An operation with the moments of its begin and end, in any unit that grows (an operation under way has no
    end)."""

    began: int
    ended: int | None
    operation: Operation


Chooser = Callable[[Event], bool]
"""Whether an open operation is there."""


@dataclass
class Image:
    """One state of the disk: contents by path."""

    files: dict[Path, bytes] = field(default_factory=dict)

    def write_below(self, folder: Path, original: Path) -> None:
        """Put every file of the folder `original` into `folder`; holes where it is zero."""
        for path, content in self.files.items():
            if path.is_relative_to(original):
                target = folder / path.relative_to(original)
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_sparse(target, content)


class Trace:
    """Events in the order of their begin, and the contents from which they started: file `n` is the n-th path of
    them."""

    def __init__(self, base: Image | None = None) -> None:
        self.base = base or Image()
        self.events: list[Event] = []

    @property
    def now(self) -> int:
        """The moment after everything added by `add`."""
        return 2 * len(self.events)

    def add(self, operation: Operation) -> None:
        """Add an operation that ended before the next one begins; one moment lies within it."""
        self.events.append(Event(self.now, self.now + 2, operation))

    def image(self, cut: int, choose: Chooser, tear: random.Random | None = None) -> Image:
        """The disk after a crash at `cut`: what is certain, and of the rest what `choose` keeps, torn by `tear`."""
        begun = [event for event in self.events if event.began < cut]
        disk = _Contents(self.base)
        for event, certain in zip(begun, _certain(begun, cut), strict=True):
            if certain:
                disk.apply(event.operation)
            elif choose(event):
                for piece in _pieces(event.operation, tear):
                    disk.apply(piece)
        return disk.image()

    def random_image(self, cut: int, seed: int) -> Image:
        """An image at `cut` whose losses follow from the seed."""
        source = random.Random(seed)
        chance = source.choice(KEEP_CHANCES)
        tear = source if source.random() < 0.5 else None
        return self.image(cut, lambda _: source.random() < chance, tear)


class _Contents:
    """Names and bytes while events are applied."""

    def __init__(self, base: Image) -> None:
        self._names = {path: file for file, path in enumerate(base.files)}
        self._bytes = {file: bytearray(content) for file, content in enumerate(base.files.values())}

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write(file, offset, data):
                self._write(file, offset, data)
            case Resize(file, length, shrink):
                self._resize(file, length, shrink)
            case Name(file, path, old):
                if old is not None and self._names.get(old) == file:
                    del self._names[old]
                self._names[path] = file
            case Remove(path):
                self._names.pop(path, None)

    def image(self) -> Image:
        return Image({path: bytes(self._bytes.get(file, b"")) for path, file in self._names.items()})

    def _write(self, file: int, offset: int, data: bytes) -> None:
        content = self._bytes.setdefault(file, bytearray())
        if len(content) < offset + len(data):
            content.extend(bytes(offset + len(data) - len(content)))
        content[offset : offset + len(data)] = data

    def _resize(self, file: int, length: int, shrink: bool) -> None:
        content = self._bytes.setdefault(file, bytearray())
        if shrink:
            del content[length:]
        content.extend(bytes(max(0, length - len(content))))


def _certain(begun: list[Event], cut: int) -> Iterator[bool]:
    """Whether each event is covered by a sync that began after it had ended, and was over by the cut."""
    files: dict[int, int] = {}
    folders: dict[Path, int] = {}
    for event in begun:
        over = event.ended is not None and event.ended <= cut
        match event.operation:
            case Sync(file) if over:
                files[file] = event.began
            case SyncFolder(folder) if over:
                folders[folder] = event.began
    for event in begun:
        yield event.ended is not None and _covered(event.operation, event.ended, cut, files, folders)


def _covered(operation: Operation, ended: int, cut: int, files: dict[int, int], folders: dict[Path, int]) -> bool:
    match operation:
        case Write(file=file, durable=durable):
            return files.get(file, -1) >= ended or (durable and ended <= cut)
        case Resize(file=file):
            return files.get(file, -1) >= ended
        case Name(path=path, old=old):
            # Both folders of a rename: where only one was synced, the old name may still be there.
            return all(folders.get(at.parent, -1) >= ended for at in (path, old) if at is not None)
        case Remove(path=path):
            return folders.get(path.parent, -1) >= ended
    return False


def _pieces(operation: Operation, tear: random.Random | None) -> Iterable[Operation]:
    """The operation whole, or a write without some of its sectors: each by itself, or all behind one."""
    if not isinstance(operation, Write) or tear is None or tear.random() < 0.5:
        return [operation]
    sectors = list(_sectors(operation))
    if tear.random() < 0.5:
        return sectors[: tear.randrange(len(sectors) + 1)]
    return [sector for sector in sectors if tear.random() < 0.5]


def _sectors(write: Write) -> Iterator[Write]:
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        following = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Write(write.file, at, write.data[at - write.offset : following - write.offset])
        at = following


def _write_sparse(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        for at in range(0, len(content), SPARSE_BYTES):
            piece = content[at : at + SPARSE_BYTES]
            if piece.strip(b"\0"):
                file.seek(at)
                file.write(piece)
        file.truncate(len(content))
