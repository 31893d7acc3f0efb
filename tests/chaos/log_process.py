"""A process to kill: the one-replica log under load beside a small LMDB store, telling each answer as it gives it.

    python -m tests.chaos.log_process FOLDER SEED [FAULT]

It prints `started APPLIED`, then one line per answer: log index, checksum of the record, monotonic nanoseconds.
"""

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
import uvloop
from crc32c import crc32c

from engine.exit_codes import EngineStopped
from engine.replication.journal.disk import Disk
from engine.replication.journal.segment_format import Identity
from engine.replication.single import SingleLog, SingleLogLimits

OWNER: Final = Identity("ab" * 16, 3, "node-a")
SEGMENT_BYTES: Final = 64 << 10
IN_FLIGHT: Final = 24
SAVE_EVERY_S: Final = 0.004
NO_SYNC: Final = "no-sync"
"""The planted fault: answers without a sync of the log."""
_APPLIED: Final = b"applied"


class Answer(NamedTuple):
    """What the process told a caller, and when."""

    log_index: int
    checksum: int
    told_ns: int


class Store:
    """What was applied: checksum by log index, and the last index, in one synced transaction."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = lmdb.open(str(folder), map_size=64 << 20)
        # LMDB syncs what it commits: neither the first pages of its new file nor the file's name.
        with self._environment.begin(write=True) as transaction:
            transaction.put(_APPLIED, b"0", overwrite=False)
        Disk().sync_folder(folder)
        self._unsaved: list[tuple[int, int]] = []

    @property
    def applied_index(self) -> int:
        with self._environment.begin() as transaction:
            return int(transaction.get(_APPLIED, b"0"))

    def checksum(self, log_index: int) -> int | None:
        with self._environment.begin() as transaction:
            found = transaction.get(log_index.to_bytes(8, "big"))
        return None if found is None else int(found)

    def apply(self, log_index: int, record: bytes | memoryview) -> None:
        self._unsaved.append((log_index, crc32c(record)))

    def save(self) -> int:
        """Save what was applied; return the index that is durable now."""
        if self._unsaved:
            with self._environment.begin(write=True) as transaction:
                for log_index, checksum in self._unsaved:
                    transaction.put(log_index.to_bytes(8, "big"), str(checksum).encode())
                transaction.put(_APPLIED, str(self._unsaved[-1][0]).encode())
            self._unsaved.clear()
        return self.applied_index

    def close(self) -> None:
        self._environment.close()


class UnsyncedDisk(Disk):
    """Forgets to sync the log."""

    def sync(self, descriptor: int) -> None:
        """Planted fault."""


class Load:
    """Keeps records in flight until the process is killed, or is asked to end by SIGTERM."""

    def __init__(self, folder: Path, seed: int, disk: Disk) -> None:
        self.source = random.Random(seed)
        self.store = Store(folder / "store")
        self.ending = asyncio.Event()
        limits = SingleLogLimits(segment_bytes=SEGMENT_BYTES, cache_bytes=SEGMENT_BYTES)
        self.log = SingleLog(folder / "log", OWNER, stopped=end_process, limits=limits, disk=disk)

    async def run(self) -> None:
        applied = self.store.applied_index
        await self.log.start(lambda index, _, record: self.store.apply(index, record), applied)
        tell(f"started {applied}")
        for _ in range(IN_FLIGHT):
            self.propose()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ending.set)
        while not self.ending.is_set():
            await asyncio.sleep(SAVE_EVERY_S)
            self.log.truncate_below(self.store.save())
        await self.log.stop()
        self.store.close()

    def propose(self) -> None:
        if self.ending.is_set():
            return
        record = self.source.randbytes(self.source.choice((16, 128, 700, 5000)))
        checksum = crc32c(record)

        def proposed(index: int | None) -> None:
            if index is not None:
                tell(f"{index} {checksum} {time.monotonic_ns()}")
                self.propose()

        self.log.propose(record, proposed)


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def end_process(stopped: EngineStopped) -> None:
    print(stopped, file=sys.stderr)
    os._exit(stopped.code)


def main() -> None:
    """Run until killed."""
    folder, seed, *fault = sys.argv[1:]
    disk = UnsyncedDisk() if NO_SYNC in fault else Disk()

    async def run() -> None:
        await Load(Path(folder), int(seed), disk).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
