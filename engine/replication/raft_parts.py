"""The parts of one replica's log, wired once (`raft_log`) and shared by those who connect them."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.replication.guard import Guard
from engine.replication.raft_acks import Acks
from engine.replication.raft_core import RaftCore
from engine.replication.raft_election import Election
from engine.replication.raft_hashes import StateHashes
from engine.replication.raft_identity import Membership
from engine.replication.raft_install import Installer
from engine.replication.raft_journal import RaftJournal
from engine.replication.raft_sender import Sender
from engine.replication.raft_snapshot import SnapshotReceiver, SnapshotSender
from engine.replication.transport import Transport


@dataclass(frozen=True, slots=True)
class Parts:
    """One noun per field; see the module of each."""

    core: RaftCore
    journal: RaftJournal
    membership: Membership
    guard: Guard
    acks: Acks
    sender: Sender
    election: Election
    snapshots_out: SnapshotSender
    snapshots_in: SnapshotReceiver
    installer: Installer
    hashes: StateHashes
    transport: Transport
    now: Callable[[], float]
