"""What one replica knows of its group: the `LogStatus` of `interface`."""

from collections.abc import Mapping
from typing import Final

from engine.replication.interface import LogStatus, ReplicaStatus, Role
from engine.replication.raft.core import RaftCore
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.sender import Sender

NEVER_HEARD_S: Final = 1e9


def log_status(
    replica: str, core: RaftCore, journal: RaftJournal, sender: Sender, silent_s: Mapping[str, float]
) -> LogStatus:
    """`silent_s`: seconds since each peer was heard from. Only a leader knows what its peers hold."""
    own = ReplicaStatus(replica, core.role, journal.durable_index, 0.0)
    peers = [
        ReplicaStatus(
            peer,
            Role.LEADER if peer == core.leader else Role.FOLLOWER,
            sender.followers[peer].match_index if core.is_leader else 0,
            silent_s.get(peer, NEVER_HEARD_S),
        )
        for peer in core.nodes
    ]
    return LogStatus(
        replica,
        core.role,
        core.leader,
        core.term,
        journal.base_index + 1,
        journal.last_index,
        core.commit_index,
        core.applied_index,
        journal.durable_index,
        journal.log_bytes,
        (own, *peers),
    )
