"""A process with nothing but a replicated log, for the chaos test: it proposes numbered records while it leads.

    python raft_node.py NAME '{"a": port, ...}' FOLDER

Appends to FOLDER/acknowledged the number of each record that was acknowledged, and to FOLDER/applied what was applied,
as the store of a real replica would: from the index that its own file says it has reached. `quit` on stdin stops it.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from engine.exit_codes import EngineStopped
from engine.replication.interface import NotProposed
from engine.replication.raft.boot import Placement
from engine.replication.raft.log import RaftLog
from engine.replication.transport.transport import Address, AsyncioTransport

IN_FLIGHT = 16
RECORD_BYTES = 512
LINE_BYTES = 24


class Applied:
    """The store: fixed lines of (index, record number) in a file; a torn last line is cut off at the start."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        whole = os.fstat(self.file).st_size // LINE_BYTES * LINE_BYTES
        os.ftruncate(self.file, whole)
        os.lseek(self.file, 0, os.SEEK_END)
        line = os.pread(self.file, LINE_BYTES, whole - LINE_BYTES) if whole else bytes(LINE_BYTES)
        self.index = int.from_bytes(line[:8], "little")

    def apply(self, log_index: int, term: int, record: bytes | memoryview) -> None:
        if log_index > self.index:
            os.write(self.file, log_index.to_bytes(8, "little") + bytes(record[:16]))
            self.index = log_index


def stop(stopped: EngineStopped) -> None:
    print(stopped, file=sys.stderr, flush=True)
    os._exit(int(stopped.code))


async def load(log: RaftLog, name: str, acknowledged: int) -> None:
    """Keep a few records in flight while this replica leads."""
    free, number = asyncio.Semaphore(IN_FLIGHT), 0

    def answered(identity: bytes, log_index: int | None) -> None:
        free.release()
        if log_index is not None:
            os.write(acknowledged, identity)

    while True:
        await free.acquire()
        number += 1
        identity = name.encode().ljust(4) + os.getpid().to_bytes(4, "little") + number.to_bytes(8, "little")
        try:
            log.propose(identity + bytes(RECORD_BYTES), lambda index, identity=identity: answered(identity, index))
        except NotProposed:
            free.release()
            await asyncio.sleep(0.005)


async def main(name: str, ports: dict[str, int], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    store = Applied(folder / "applied")
    transport = AsyncioTransport(name, {peer: Address("127.0.0.1", port) for peer, port in ports.items()})
    placement = Placement("ab" * 16, 0, name, tuple(ports))
    log = RaftLog(placement, folder / "log", transport, SimpleNamespace(), stop_process=stop)
    await log.start(store.apply, store.index)
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    work = asyncio.get_running_loop().create_task(load(log, name, acknowledged))
    while (await asyncio.to_thread(sys.stdin.readline)).strip() == "status":
        status = log.status()
        print(json.dumps([status.role.value, status.term, status.commit_index, store.index]), flush=True)
    work.cancel()
    await log.stop()
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])))
