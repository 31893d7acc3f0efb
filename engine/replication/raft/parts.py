"""The parts of one replica's log, wired once (`assembly`) and shared by those who connect them."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.replication.raft.acks import Acks
from engine.replication.raft.core import RaftCore
from engine.replication.raft.election import Election
from engine.replication.raft.guard import Guard
from engine.replication.raft.handover import HandOver
from engine.replication.raft.hashes import StateHashes
from engine.replication.raft.identity import Membership
from engine.replication.raft.install import Installer
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.sender import Sender
from engine.replication.raft.snapshot import SnapshotReceiver, SnapshotSender
from engine.replication.transport.transport import Transport


@dataclass(frozen=True, slots=True)
class Parts:
    """One noun per field; see the module of each."""

    core: RaftCore
    journal: RaftJournal
    membership: Membership
    guard: Guard
    acks: Acks
    sender: Sender
    hand_over: HandOver
    election: Election
    snapshots_out: SnapshotSender
    snapshots_in: SnapshotReceiver
    installer: Installer
    hashes: StateHashes
    transport: Transport
    now: Callable[[], float]
