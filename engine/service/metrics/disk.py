"""The log's disk, with a clock on its syncs."""

import time

from engine.replication.journal.disk import Disk
from engine.service.metrics.histogram import Histogram


class TimedDisk(Disk):
    """The real disk; `sync_times` counts how long each sync of a segment took."""

    def __init__(self) -> None:
        self.sync_times = Histogram()

    def sync(self, descriptor: int) -> None:
        """As `Disk.sync`."""
        started_s = time.perf_counter()
        super().sync(descriptor)
        self.sync_times.observe(time.perf_counter() - started_s)
