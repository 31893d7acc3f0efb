"""Record what a real process writes below a folder, and rebuild what the disk may hold if the power goes at a moment.

`record_writes.c`, compiled here and loaded into the process by LD_PRELOAD, sees every write, sync and change of names
that goes through libc: the log's and LMDB's (which writes through `pwrite`, its map is read-only). Times are
CLOCK_MONOTONIC, the clock of `time.monotonic_ns()` in every process of the machine: what a caller was told before a
cut must be in every image at that cut. Folders themselves are taken to be there; lock files are left out.

    recorder = build_recorder(tmp_path)                      # skips the test where there is no C compiler
    process = Popen(..., env=os.environ | recorder.environment(data_folder))
    ...                                                      # work, note time.monotonic_ns() of each answer, end it
    recording = recorder.read(process.pid, data_folder)
    recording.rebuild(image_folder, cut_ns, seed)            # then start on it, and check
"""

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.crash_images import Chooser, Event, Name, Operation, Remove, Resize, Sync, SyncFolder, Trace, Write

SOURCE: Final = Path(__file__).with_name("record_writes.c")
COMPILE_S_MAX: Final = 60
IGNORED: Final = frozenset(("lock.mdb", "lock"))
"""Not data: made anew at each start, and written through a map."""

_HEADER: Final = struct.Struct("<IIQQQQIIII")
_MAGIC: Final = 0x52455743
_WRITE, _RESIZE, _SHRINK, _CREATE, _RENAME, _REMOVE, _SYNC, _SYNC_FOLDER, _UNSEEN = range(1, 10)


class RecordingUnreadableError(Exception):
    """The process wrote in a way that cannot be recorded, or the recording is cut off."""


class _Call(NamedTuple):
    kind: int
    began: int
    ended: int
    inode: int
    offset: int
    durable: bool
    data: bytes
    path: Path
    other: Path


class Recording:
    """What one process did below one folder, in order."""

    def __init__(self, folder: Path, trace: Trace) -> None:
        """`trace` has times in nanoseconds of the monotonic clock."""
        self.folder, self.trace = folder, trace

    @property
    def began_ns(self) -> int:
        """When the first call began."""
        return self.trace.events[0].began

    @property
    def ended_ns(self) -> int:
        """When the last call ended."""
        return max(event.ended or event.began for event in self.trace.events)

    def rebuild(self, folder: Path, cut_ns: int, seed: int) -> None:
        """Put into `folder` what the disk may hold after a crash at `cut_ns`; what is lost, and torn, follows from the
        seed."""
        self.trace.random_image(cut_ns, seed).write_below(folder, self.folder)

    def rebuild_choosing(self, folder: Path, cut_ns: int, choose: Chooser) -> None:
        """The same, with exactly those open operations that `choose` keeps."""
        self.trace.image(cut_ns, choose).write_below(folder, self.folder)


class Recorder(NamedTuple):
    """The compiled recorder, and where it records to."""

    library: Path
    output: Path

    def environment(self, folder: Path) -> dict[str, str]:
        """What to add to the environment of a process to record what it writes below `folder`."""
        return {
            "LD_PRELOAD": str(self.library),
            "RECORD_FOLDER": str(folder.resolve()),
            "RECORD_FILE": str(self.output),
        }

    def read(self, process_id: int, folder: Path) -> Recording:
        """Read what this process recorded. Call it once the process has ended."""
        calls = _calls(self.output.with_name(f"{self.output.name}.{process_id}").read_bytes())
        trace = Trace()
        trace.events.extend(_events(sorted(calls, key=lambda call: call.began)))
        return Recording(folder.resolve(), trace)


def build_recorder(folder: Path) -> Recorder:
    """Compile the recorder into `folder`; skip the test, in a sentence, where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed, and the recorder of a process's writes needs one")
    library = folder / "record_writes.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S_MAX, check=False)
    if compiled.returncode:
        pytest.skip(f"the recorder of a process's writes does not compile here: {compiled.stderr[:200]}")
    return Recorder(library, folder / "recorded")


def _calls(data: bytes) -> Iterator[_Call]:
    at = 0
    while at + _HEADER.size <= len(data):
        magic, kind, began, ended, inode, offset, size, path, other, durable = _HEADER.unpack_from(data, at)
        if magic != _MAGIC:
            raise RecordingUnreadableError(f"no record at byte {at} of the recording")
        bytes_at = at + _HEADER.size
        path_at, other_at = bytes_at + size, bytes_at + size + path
        at = other_at + other
        if at <= len(data):  # a kill may cut the last one off
            first, second = Path(data[path_at:other_at].decode()), Path(data[other_at:at].decode())
            yield _Call(kind, began, ended, inode, offset, bool(durable), data[bytes_at:path_at], first, second)


def _events(calls: list[_Call]) -> Iterator[Event]:
    """Give each file a number of its own: an inode serves again once its file was removed."""
    files: dict[int, int | None] = {}
    for number, call in enumerate(calls):
        ignored = call.path.name in IGNORED
        if call.kind == _CREATE:
            files[call.inode] = None if ignored else number
        operation = None if ignored else _operation(call, files)
        if operation is not None:
            yield Event(call.began, call.ended, operation)


def _operation(call: _Call, files: dict[int, int | None]) -> Operation | None:
    if call.kind == _UNSEEN:
        raise RecordingUnreadableError(f"{call.path} was written in a way that cannot be recorded")
    if call.kind == _SYNC_FOLDER:
        return SyncFolder(call.path)
    if call.kind == _REMOVE:
        return Remove(call.path)
    if call.inode not in files:
        raise RecordingUnreadableError("a file was there before the recording began: record from an empty folder")
    file = files[call.inode]
    return None if file is None else _operation_on(call, file)


def _operation_on(call: _Call, file: int) -> Operation:
    if call.kind == _WRITE:
        return Write(file, call.offset, call.data, call.durable)
    if call.kind in {_RESIZE, _SHRINK}:
        return Resize(file, call.offset, shrink=call.kind == _SHRINK)
    if call.kind == _SYNC:
        return Sync(file)
    return Name(file, call.path, call.other if call.kind == _RENAME else None)
