"""Opening a replica's log: whose it is, whether it is whole, and whether it fits the store (flaw 9's lesson).

A trimmed log whose store is gone would boot, lead, and silently apply nothing; a store whose log was wiped would vote
again in terms in which it voted. Both are refused here, in one sentence each.
"""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engine.exit_codes import EngineStopped, ExitCode, require
from engine.replication.journal.disk import Disk
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity as LogIdentity
from engine.replication.journal.segments import SEGMENT_BYTES_DEFAULT
from engine.replication.raft.files import DiskFiles, RunBlocking
from engine.replication.raft.identity import (
    IDENTITY_FILE,
    Identity,
    Membership,
    decode_identity,
    encode_identity,
    make_identity,
    make_replacement,
)
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.settings import RaftSettings
from engine.replication.worker import ThreadWorker, Worker

LOG_FOLDER: Final = "records"


class Placement(NamedTuple):
    """Which replica this is."""

    cluster: str
    """32 hexadecimal digits."""
    group: int
    replica: str
    members: tuple[str, ...]
    """All replicas of the group, this one included: static."""


class Machine(NamedTuple):
    """What the log takes from the world; the simulation gives its own."""

    disk: Disk
    make_worker: Callable[[], Worker]
    run_blocking: RunBlocking
    now: Callable[[], float]
    """Monotonic seconds; the library is set to the same clock."""
    wall_ns: Callable[[], int]
    dice: random.Random
    segment_bytes: int = SEGMENT_BYTES_DEFAULT


class Booted(NamedTuple):
    """What is ready to run."""

    journal: RaftJournal
    membership: Membership
    files: DiskFiles


def this_machine() -> Machine:
    """The real world; called on the running loop."""
    return Machine(
        Disk(),
        lambda: ThreadWorker(asyncio.get_running_loop()),
        asyncio.to_thread,
        time.monotonic,
        time.time_ns,
        random.Random(),
    )


def prepare_replacement(placement: Placement, folder: Path, disk: Disk | None = None) -> None:
    """The operator's step for a replica that lost its disk: mark its new, empty folder as the successor of the old one.

    Run it once, offline, before the first start on the new disk, with the same `folder` that `RaftLog` gets. The peers
    accept the successor and refuse the lost folder from then on; it votes once a leader has promoted it. Raises
    `EngineStopped(REFUSED)` if the folder is in use.
    """
    disk = disk or Disk()
    disk.make_folder(folder)
    files = DiskFiles(disk, folder, asyncio.to_thread)
    make_replacement(files, placement.cluster, placement.group, placement.replica, time.time_ns())


def boot(
    placement: Placement,
    folder: Path,
    applied_index: int,
    *,
    settings: RaftSettings,
    machine: Machine,
    stop: Callable[[EngineStopped], None],
) -> Booted:
    """Open everything and check that it belongs together. Raises `EngineStopped`."""
    machine.disk.make_folder(folder)
    files = DiskFiles(machine.disk, folder, machine.run_blocking)
    log = SegmentedLog.open(
        folder / LOG_FOLDER,
        LogIdentity(placement.cluster, placement.group, placement.replica),
        worker=machine.make_worker(),
        disk=machine.disk,
        segment_bytes=machine.segment_bytes,
        cache_bytes=settings.cached_bytes_max,
    )
    try:
        identity = _identity(placement, files, log, applied_index, machine.wall_ns())
        identity = _finish_installation(identity, files, log, applied_index)
        require_fit(log.base_index, log.last_index, applied_index)
    except EngineStopped:
        log.close()
        raise
    journal = RaftJournal(log)
    membership = Membership(
        files,
        identity,
        placement.members,
        blank=lambda: log.term == 0 and log.last_index == 0,
        stop=stop,
    )
    return Booted(journal, membership, files)


def require_fit(base_index: int, last_index: int, applied_index: int) -> None:
    """The store must stand within the log: nothing between the two may be missing."""
    require(
        applied_index >= base_index,
        ExitCode.DATA_MISSING,
        f"the log begins behind record {base_index}, but the store has applied only {applied_index}: restore the "
        "store's folder, or replace this replica",
    )
    require(
        applied_index <= last_index,
        ExitCode.DATA_MISSING,
        f"the store has applied record {applied_index}, but the log ends at {last_index}: its newest records, and with "
        "them this replica's promises to its peers, are missing; restore the log's folder, or replace this replica",
    )


def _identity(placement: Placement, files: DiskFiles, log: SegmentedLog, applied_index: int, now_ns: int) -> Identity:
    """Read the identity, or draw one for a folder in which nothing ever was."""
    data = files.read_file(IDENTITY_FILE)
    if data is None:
        require(
            log.term == 0 and log.last_index == 0 and applied_index == 0,
            ExitCode.DATA_MISSING,
            "the replica's identity file is missing from a folder in use: restore the folder, or replace this replica",
        )
        identity = make_identity(placement.cluster, placement.group, placement.replica, now_ns=now_ns)
        files.replace_file(IDENTITY_FILE, encode_identity(identity))
        return identity
    identity = decode_identity(data)
    ours = (identity.cluster, identity.group, identity.replica)
    require(
        ours == placement[:3],
        ExitCode.CLUSTER_MISMATCH,
        f"the folder belongs to replica {identity.replica} of group {identity.group} in cluster {identity.cluster}: "
        "point the configuration at this replica's own folder",
    )
    require(
        log.recovered.began or not identity.voter,
        ExitCode.DATA_MISSING,
        "the log's segments are missing from the replica's folder: restore the folder, or replace this replica",
    )
    return identity


def _finish_installation(identity: Identity, files: DiskFiles, log: SegmentedLog, applied_index: int) -> Identity:
    """A snapshot was being installed when the process ended: the store is the old one, or the log must follow it."""
    installing = identity.installing
    if installing is None:
        return identity
    if applied_index >= installing.index and not _holds(log, installing.index, installing.term):
        log.reset(installing.index, installing.term)
    identity = msgspec.structs.replace(identity, installing=None)
    files.replace_file(IDENTITY_FILE, encode_identity(identity))
    return identity


def _holds(log: SegmentedLog, log_index: int, term: int) -> bool:
    """By the log matching property, the same index and term mean the same records up to there."""
    return log.base_index <= log_index <= log.last_index and log.term_at(log_index) == term
