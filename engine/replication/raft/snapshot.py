"""Snapshots between replicas: made by the service, moved in checked pieces, installed whole or not at all.

The leader asks the service for a snapshot when a follower needs records that the log has dropped, and streams the file
in pieces with a checksum each, a bounded number of bytes on their way. Every ack names the next offset that is wanted,
so a lost piece, a restart of either side, or another leader costs a repetition and nothing else. The follower checks
the whole file's BLAKE3 digest before the service may install it.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from crc32c import crc32c

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.frames import Buffer, FrameRefused
from engine.replication.transport.messages import SnapshotAck, SnapshotPiece
from engine.replication.transport.transport import Transport

log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A finished, synced snapshot file of the store."""

    path: Path
    log_index: int
    """The last log index applied in it; at or above the index that the store had synced when it was asked for."""
    term: int
    """The term of that record."""
    size: int
    digest: bytes
    """BLAKE3 of the whole file."""


class SnapshotStore(Protocol):
    """What the service gives: its store as a file, and a file as its store. Called on the loop; the work belongs in a
    thread."""

    async def make(self) -> Snapshot:
        """Write a snapshot into a file of its own, synced. Raises `EngineStopped` if that cannot be."""

    async def install(self, path: Path, index: int, term: int) -> None:
        """Replace the store by the checked file; durable when this returns. `apply` is not called meanwhile."""

    def discard(self, snapshot: Snapshot) -> None:
        """A snapshot made is no longer needed: remove its file."""

    def incoming(self) -> Path:
        """Where to collect a snapshot that arrives: in the data folder, on the same file system as the store."""


class SnapshotFiles(Protocol):
    """Plain file access; the simulation has its own."""

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read a piece."""

    def write(self, path: Path, offset: int, data: Buffer) -> None:
        """Write a piece; offset 0 begins the file anew."""

    async def finish(self, path: Path) -> bytes:
        """Sync the file and return the BLAKE3 digest of the whole."""


class Transfer:
    """One snapshot on its way to one follower."""

    def __init__(self, now_s: float) -> None:
        """At the beginning of the file."""
        self.acknowledged = 0
        self.sent = 0
        self.moved_at_s = now_s


class SnapshotSender:
    """The leader's side."""

    def __init__(
        self,
        store: SnapshotStore,
        files: SnapshotFiles,
        transport: Transport,
        settings: RaftSettings,
        *,
        now: Callable[[], float],
        stop: Callable[[EngineStopped], None],
        ready: Callable[[], None],
    ) -> None:
        """`ready()` is called when a snapshot has been made, so that a turn begins to send it."""
        self._store = store
        self._files = files
        self._transport = transport
        self._settings = settings
        self._now = now
        self._stop = stop
        self._ready = ready
        self._snapshot: Snapshot | None = None
        self._making: asyncio.Task[None] | None = None
        self._making_from_index = 0
        """The log's base when the snapshot that is being made was asked for: it will stand there, or behind."""
        self._transfers: dict[str, Transfer] = {}

    def needed(self, peer: str, base_index: int) -> None:
        """A follower is behind the log, whose oldest known record is at `base_index`."""
        usable = self._snapshot is not None and self._snapshot.log_index >= base_index
        if peer not in self._transfers and (usable or self._making is not None):
            self._transfers[peer] = Transfer(self._now())
        elif not usable and self._making is None:
            self._discard()
            self._transfers, self._making_from_index = {peer: Transfer(self._now())}, base_index
            self._making = asyncio.get_running_loop().create_task(self._make())

    def held_index(self) -> int | None:
        """While a snapshot is in use, the log keeps what follows it, and while one is being made what will: else that
        would be dropped before it is made, and so with the next one, for as long as the load goes on."""
        if self._snapshot is not None:
            return self._snapshot.log_index
        return None if self._making is None else self._making_from_index

    def send_pieces(self, term: int) -> None:
        """Fill each transfer's window: the end of a turn."""
        if self._snapshot is not None:
            for peer, transfer in self._transfers.items():
                self._fill(peer, transfer, self._snapshot, term)

    def acknowledged(self, peer: str, ack: SnapshotAck) -> int | None:
        """A follower wants more; returns the snapshot's index if it holds it now."""
        snapshot, transfer = self._snapshot, self._transfers.get(peer)
        if snapshot is None or transfer is None or ack.index != snapshot.log_index:
            return None
        if ack.installed:
            self._drop(peer)
            return snapshot.log_index
        if ack.offset != transfer.acknowledged:
            transfer.acknowledged, transfer.moved_at_s = ack.offset, self._now()
            transfer.sent = max(transfer.sent, ack.offset) if ack.offset else 0
        return None

    def connection_changed(self, peer: str) -> None:
        """Begin again for this peer when it asks."""
        if peer in self._transfers:
            self._drop(peer)

    def end_term(self) -> None:
        """This replica no longer leads."""
        self._transfers.clear()
        self._discard()

    def close(self) -> None:
        """Stop making snapshots."""
        if self._making is not None:
            self._making.cancel()
        self.end_term()

    # Within.

    async def _make(self) -> None:
        try:
            snapshot = await self._store.make()
        except EngineStopped as stopped:
            return self._stop(stopped)
        finally:
            self._making = None
        self._snapshot = snapshot
        if not self._transfers:
            return self._discard()
        log.info("made a snapshot at log index %d, %d bytes", snapshot.log_index, snapshot.size)
        return self._ready()

    def _fill(self, peer: str, transfer: Transfer, snapshot: Snapshot, term: int) -> None:
        now = self._now()
        if now - transfer.moved_at_s > self._settings.snapshot_retry_s:
            transfer.sent, transfer.moved_at_s = transfer.acknowledged, now
        while (
            transfer.sent < snapshot.size
            and transfer.sent - transfer.acknowledged < self._settings.snapshot_window_bytes
            and self._transport.writable(peer)
        ):
            data = self._files.read(snapshot.path, transfer.sent, self._settings.snapshot_piece_bytes)
            self._transport.send(peer, _piece(snapshot, term, transfer.sent, data), [data])
            transfer.sent += len(data)

    def _drop(self, peer: str) -> None:
        del self._transfers[peer]
        if not self._transfers:
            self._discard()

    def _discard(self) -> None:
        if self._snapshot is not None:
            self._store.discard(self._snapshot)
            self._snapshot = None


class Incoming(NamedTuple):
    """Which snapshot is being collected."""

    log_index: int
    index_term: int
    size: int
    digest: bytes


class SnapshotReceiver:
    """The follower's side."""

    def __init__(
        self,
        store: SnapshotStore,
        files: SnapshotFiles,
        *,
        stop: Callable[[EngineStopped], None],
        begin_install: Callable[[int, int], bool],
        installed: Callable[[int, int], None],
    ) -> None:
        """`begin_install(index, term)` notes it durably and stops `apply`, or returns False if the snapshot is of no
        use any more; `installed(index, term)` restarts the log behind it."""
        self._store = store
        self._files = files
        self._stop = stop
        self._begin_install = begin_install
        self._installed = installed
        self._incoming: Incoming | None = None
        self._wanted = 0
        self._finishing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being checked or installed."""
        return self._finishing is not None

    def piece(self, piece: SnapshotPiece, payload: memoryview) -> SnapshotAck:
        """Take one piece; returns what to tell the leader. Raises `FrameRefused` if it was damaged on the way."""
        if crc32c(payload) != piece.checksum or piece.offset + len(payload) > piece.size:
            raise FrameRefused(f"a piece of the snapshot at {piece.index} was damaged on the way")
        if self._finishing is None:
            self._collect(piece, payload)
        return SnapshotAck(piece.term, piece.index, self._wanted, installed=False)

    def close(self) -> None:
        """Stop; what was collected is collected again."""
        if self._finishing is not None:
            self._finishing.cancel()

    # Within.

    def _collect(self, piece: SnapshotPiece, payload: memoryview) -> None:
        incoming = Incoming(piece.index, piece.index_term, piece.size, piece.digest)
        if incoming != self._incoming:
            self._incoming, self._wanted = incoming, 0
        if piece.offset != self._wanted:
            return
        self._files.write(self._store.incoming(), piece.offset, payload)
        self._wanted += len(payload)
        if self._wanted == piece.size:
            self._finishing = asyncio.get_running_loop().create_task(self._finish(incoming))

    async def _finish(self, incoming: Incoming) -> None:
        try:
            await self._check_and_install(incoming)
        except EngineStopped as stopped:
            self._stop(stopped)
        finally:
            self._finishing = None
            self._incoming, self._wanted = None, 0

    async def _check_and_install(self, incoming: Incoming) -> None:
        path = self._store.incoming()
        if await self._files.finish(path) != incoming.digest:
            log.warning("the snapshot at %d does not fit its digest: it is collected again", incoming.log_index)
            return
        if self._begin_install(incoming.log_index, incoming.index_term):
            await self._store.install(path, incoming.log_index, incoming.index_term)
            self._installed(incoming.log_index, incoming.index_term)
            log.info("installed a snapshot at log index %d", incoming.log_index)


def _piece(snapshot: Snapshot, term: int, offset: int, data: bytes) -> SnapshotPiece:
    if not data:
        raise EngineStopped(
            ExitCode.DATA_DAMAGED,
            f"the snapshot file {snapshot.path} ends at {offset} instead of {snapshot.size}: check the disk, then "
            "start again",
        )
    return SnapshotPiece(term, snapshot.log_index, snapshot.term, snapshot.size, snapshot.digest, offset, crc32c(data))
