"""What processes use, from the kernel's own accounting (proc(5)): CPU seconds, memory, what they write."""

import os
from pathlib import Path
from typing import Final, NamedTuple

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
DISK_BLOCK_BYTES: Final = 512


class Usage(NamedTuple):
    """Use of one process so far."""

    cpu_s: float
    """User and system time of all its threads, seconds."""
    rss_mb: float
    """Resident memory now, MB (10^6 bytes)."""


def usage_of(pid: int) -> Usage:
    """Read the use of a live process; raises FileNotFoundError if it is gone."""
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage((int(stat[11]) + int(stat[12])) / TICKS_PER_S, resident_pages * PAGE_BYTES / 1e6)


def written_bytes_of(pid: int) -> int:
    """Read how much a live process had the kernel write to disks so far; raises FileNotFoundError if it is gone."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["write_bytes"])


def bytes_on_disk(folder: Path) -> int:
    """Sum the blocks that the files below `folder` occupy, in bytes; preallocated ones count as allocated."""
    return sum(path.stat().st_blocks * DISK_BLOCK_BYTES for path in folder.rglob("*") if path.is_file())
