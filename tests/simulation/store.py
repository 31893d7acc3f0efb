"""What stands behind the log in a simulation: a store that remembers every record, and what its disk holds of it."""

import asyncio
import hashlib
import random
from pathlib import Path

import msgspec

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.snapshot import Snapshot
from tests.simulation.disk import SimulatedDisk
from tests.simulation.history import History

SNAPSHOT_FOLDER = Path("/snapshots")
ID_BYTES = 8


class Applied(msgspec.Struct, array_like=True, frozen=True):
    """One applied record."""

    log_index: int
    term: int
    identity: int


class Image(msgspec.Struct, array_like=True, frozen=True):
    """The store at a log index: everything ever applied, and the running hash of it."""

    log_index: int
    term: int
    records: tuple[Applied, ...]
    state_hash: bytes


EMPTY = Image(0, 0, (), bytes(16))


class SimulatedStore:
    """In memory it is ahead of its disk; `kept` is what a start finds. Survives the replica's process."""

    checks_index = True
    """Exactly once: a record at or below the applied index is skipped."""

    def __init__(self, replica: str, disk: SimulatedDisk, dice: random.Random, history: History) -> None:
        self.replica, self.disk, self.dice, self.history = replica, disk, dice, history
        self.kept = EMPTY
        self.records: list[Applied] = []
        self.log_index, self.term, self.state_hash = 0, 0, EMPTY.state_hash
        self.forgotten = 0
        """The log may have dropped all up to here."""
        self._number = 0

    def start(self) -> None:
        """The process begins: only what was kept is there."""
        image = self.kept
        self.records = list(image.records)
        self.log_index, self.term, self.state_hash = image.log_index, image.term, image.state_hash

    def apply(self, log_index: int, term: int, record: bytes | memoryview) -> bool:
        """The log hands a record over; returns whether it was new here."""
        if log_index <= self.log_index and self.checks_index:
            return False
        identity = int.from_bytes(record[:ID_BYTES], "little")
        self.history.applied(self.replica, log_index, term, identity)
        self.records.append(Applied(log_index, term, identity))
        self.log_index, self.term = log_index, term
        body = self.state_hash + log_index.to_bytes(8, "little") + record[:ID_BYTES]
        self.state_hash = hashlib.blake2b(body, digest_size=16).digest()
        return True

    def save(self) -> int:
        """One synced transaction; returns the index up to which the log may be dropped."""
        self.kept = Image(self.log_index, self.term, tuple(self.records), self.state_hash)
        return self.kept.log_index

    def asks_from(self) -> int:
        """From where the log is to hand over: what was applied, or earlier, as the interface allows."""
        kept = self.kept.log_index
        return kept if self.dice.random() < 0.5 else self.dice.randint(min(self.forgotten, kept), kept)

    # `raft.snapshot.SnapshotStore`.

    async def make(self) -> Snapshot:
        data = msgspec.msgpack.encode(Image(self.log_index, self.term, tuple(self.records), self.state_hash))
        log_index, term = self.log_index, self.term
        await asyncio.sleep(self.dice.uniform(0.001, 0.05))
        self._number += 1
        path = SNAPSHOT_FOLDER / f"made-{self._number}"
        descriptor = self.disk.open(path, create=True)
        self.disk.pwrite(descriptor, [data], 0)
        self.disk.sync(descriptor)
        self.disk.close(descriptor)
        from blake3 import blake3  # noqa: PLC0415

        return Snapshot(path, log_index, term, len(data), blake3(data).digest())

    async def install(self, path: Path, index: int, term: int) -> None:
        await asyncio.sleep(self.dice.uniform(0.001, 0.05))
        descriptor = self.disk.open(path)
        data = self.disk.pread(descriptor, self.disk.size(descriptor), 0)
        self.disk.close(descriptor)
        try:
            image = msgspec.msgpack.decode(data, type=Image)
        except msgspec.DecodeError as error:
            raise EngineStopped(ExitCode.DATA_DAMAGED, f"half a snapshot was to be installed: {error}") from error
        self.history.require((image.log_index, image.term) == (index, term), "a snapshot is not what it was said to be")
        self.history.snapshots += 1
        self.kept, self.forgotten = image, image.log_index
        self.start()
        await asyncio.sleep(self.dice.uniform(0.001, 0.05))

    def discard(self, snapshot: Snapshot) -> None:
        self.disk.lose(snapshot.path)

    def incoming(self) -> Path:
        return SNAPSHOT_FOLDER / "incoming"
