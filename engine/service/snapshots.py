"""The store as a file, and a file as the store: what the replicated log needs to bring a replica up from far behind."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from engine.exit_codes import ExitCode, require
from engine.replication.raft.snapshot import Snapshot
from engine.service.applier import Applier
from engine.service.statements import Statements
from engine.storage.folder import DataFolder, Identity
from engine.storage.recovery import StoreLimits, open_state_machine
from engine.storage.snapshot import SnapshotInfo, install_snapshot, write_snapshot
from engine.storage.state_machine import StateMachine

LOG: Final = logging.getLogger(__name__)

FOLDER: Final = "snapshots"
OUTGOING: Final = "outgoing"
INCOMING: Final = "incoming"


class StoreSnapshots:
    """Implements `engine.replication.raft.snapshot.SnapshotStore`. On the event loop's thread."""

    def __init__(self, folder: DataFolder, identity: Identity, machine: StateMachine, limits: StoreLimits) -> None:
        """`attach` the applier before the log starts."""
        self._data, self._identity, self._machine, self._limits = folder, identity, machine, limits
        self._folder = folder.path / FOLDER
        self._folder.mkdir(exist_ok=True)
        for name in (OUTGOING, INCOMING):
            (self._folder / name).unlink(missing_ok=True)
        self._applier: Applier | None = None
        self._statements: Statements | None = None

    def attach(self, applier: Applier, statements: Statements) -> None:
        """The apply thread is where the store is replaced; the read models let go of it meanwhile."""
        self._applier, self._statements = applier, statements

    async def make(self) -> Snapshot:
        """Copy the store while writes go on. Raises `EngineStopped`."""
        path = self._folder / OUTGOING
        info = await asyncio.to_thread(write_snapshot, self._machine.store, self._identity, path)
        return Snapshot(path, info.head.log_index, info.head.term, info.file_bytes, info.file_digest)

    async def install(self, path: Path, index: int, term: int) -> None:
        """Replace the store on the apply thread, behind everything handed over before. Raises `EngineStopped`."""
        applier = self._applier
        require(applier is not None, ExitCode.FAILED, "a snapshot arrived before the replica started: report this")
        if applier is not None:
            await applier.run(lambda: self._install(path, index, term))
            applier.jumped_to(index)

    def discard(self, snapshot: Snapshot) -> None:
        """Remove a file that no follower needs any more."""
        snapshot.path.unlink(missing_ok=True)

    def incoming(self) -> Path:
        """Return where a snapshot that arrives is collected."""
        return self._folder / INCOMING

    def _install(self, path: Path, index: int, term: int) -> None:
        started = time.monotonic()
        if self._statements is not None:
            self._statements.suspend()
        self._machine.abandon()
        info = install_snapshot(path, self._data, self._identity)
        _require_fit(info, index, term)
        fresh, recovered = open_state_machine(self._data, self._identity.group, self._limits)
        self._machine.become(fresh)
        if self._statements is not None:
            self._statements.resume()
        LOG.info(
            "a snapshot took the store's place: %s",
            recovered.sentence(),
            extra={"log_index": index, "seconds": round(time.monotonic() - started, 3)},
        )


def _require_fit(info: SnapshotInfo, index: int, term: int) -> None:
    """The file's own word against the log's."""
    found = (info.head.log_index, info.head.term)
    require(
        found == (index, term),
        ExitCode.DATA_DAMAGED,
        f"a snapshot announced at record {index} stands at {found[0]}: replace this replica",
    )
