"""Files that must survive a power cut: written whole beside their place, synced, renamed, and their folder synced."""

import os
from pathlib import Path

from engine.exit_codes import EngineStopped, ExitCode


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_descriptor(descriptor, folder)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int, path: Path) -> None:
    """Fsync, once: after a failure the kernel may have dropped the pages, so nothing is retried."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise EngineStopped(
            ExitCode.SYNC_FAILED, f"{path} could not be synced ({error.strerror}): check the disk, then start again"
        ) from error


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` at `path`: either the old file or the whole new one is there after a crash, never a part."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        sync_descriptor(file.fileno(), beside)
    beside.replace(path)
    sync_folder(path.parent)
