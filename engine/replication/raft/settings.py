"""Every bound and timeout of replication, named once, units last."""

from typing import Final, NamedTuple

from engine.replication.transport.frames import SNAPSHOT_PIECE_BYTES

TICK_S: Final = 0.02
"""Timers are looked at this often; everything else happens in the turn in which its cause arrived."""


class RaftSettings(NamedTuple):
    """What an operator may tune; the defaults suit replicas within one region."""

    election_s_min: float = 0.15
    election_s_max: float = 0.3
    """A follower that hears no leader for a random time between the two asks whether it may campaign."""
    heartbeat_s: float = 0.03
    leader_fallback_s: float = 0.6
    """A leader that no quorum answers for this long steps down."""
    transfer_s_max: float = 1.0
    """A leader that hands over stops proposing for at most this long."""
    own_disk_lag_s_max: float = 1.0
    """A leader whose own disk is behind the quorum for this long hands over: nothing is applied here meanwhile."""
    window_bytes_max: int = 8 << 20
    """Sent to one follower and not yet acknowledged."""
    proposals_max: int = 8192
    """Proposed here and not yet committed; a barrier counts as one."""
    proposal_bytes_max: int = 64 << 20
    cached_bytes_max: int = 16 << 20
    """Records kept in memory once applied, so that followers close behind need no disk."""
    retained_bytes_min: int = 64 << 20
    """The log keeps at least this much below what the store has synced, for followers that come back."""
    retained_bytes_max: int = 1 << 30
    """Beyond this a follower that is still needed for nothing else is left behind: it gets a snapshot."""
    snapshot_piece_bytes: int = SNAPSHOT_PIECE_BYTES
    """Of a snapshot in one message."""
    snapshot_window_bytes: int = 2 << 20
    """Pieces of a snapshot on their way to one follower."""
    snapshot_retry_s: float = 0.5
    """Unanswered for this long, a piece is sent again."""
    hashes_max: int = 4096
    """Remembered (log index, state hash) pairs, to compare with the leader's."""
