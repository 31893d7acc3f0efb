"""What replicas say to each other: one msgspec struct per message, arrays on the wire."""

from typing import Annotated, Final

import msgspec

PROTOCOL_VERSION: Final = 1
"""A peer that speaks another version is refused by name; a rolling change would raise it by one and speak both."""
HELLO_TEXT_MAX: Final = 256

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Text = Annotated[str, msgspec.Meta(max_length=HELLO_TEXT_MAX)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, msgspec.Meta(max_length=64)]


class Message(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """What every message is: an array on the wire; never changed once made."""


class Hello(Message, tag=1):
    """The first frame of each side. Who is not in the static membership goes no further."""

    protocol: Count
    cluster: Text
    group: Count
    replica: Text
    incarnation: Nonce
    """Drawn when the data folder was made: a wiped replica comes back with another one."""
    made_at_ns: Count
    """When that was, by the clock of its machine: of two folders of one name, peers keep to the younger."""
    boot: Nonce
    """Drawn at each start of the process."""
    replaces: bool
    """An operator made this folder to stand in for a lost one of the same name."""
    blank: bool
    """Neither a term nor a record was ever stored here."""


class Refusal(Message, tag=2):
    """The answer to a `Hello` that is not accepted; `incarnation` echoes it."""

    reason: Text
    incarnation: Nonce
    wiped: bool
    """The peer remembers another data folder under this name."""


class Ping(Message, tag=3):
    """Says that the sender is alive on a connection without traffic."""


class Append(Message, tag=4):
    """The leader's records behind `previous_index`, or a heartbeat without any."""

    term: Count
    commit_index: Count
    previous_index: Count
    previous_term: Count
    terms: list[Count]
    lengths: list[Count]
    checksums: list[Count]
    hashed_index: Count = 0
    state_hash: Digest = b""


class Ack(Message, tag=5):
    """Everything before `next_index` is durable here (`success`), or: send from `next_index` on (`reset`)."""

    term: Count
    next_index: Count
    reset: bool
    success: bool
    learner: bool
    """Counts for the flow of records, not towards a quorum."""


class StaleTerm(Message, tag=6):
    """The sender of an `Append` is behind: its follower has seen `term`."""

    term: Count


class VoteRequest(Message, tag=7):
    """A campaign, as in Raft §5.2."""

    term: Count
    last_index: Count
    last_term: Count


class Vote(Message, tag=8):
    """A vote for the receiver in `term`."""

    term: Count


class PreVoteRequest(Message, tag=9):
    """Would you vote for me in `term`? Changes nothing on either side (Ongaro's thesis §9.6)."""

    term: Count
    round: Count
    last_index: Count
    last_term: Count


class PreVote(Message, tag=10):
    """The answer; `term` is the answerer's own."""

    term: Count
    round: Count
    granted: bool


class TimeoutNow(Message, tag=11):
    """The leader hands over: campaign at once (thesis §3.10)."""

    term: Count


class Promote(Message, tag=12):
    """The leader tells a learner that it holds all that was committed without it: it may vote from now on."""

    term: Count
    index: Count


class SnapshotPiece(Message, tag=13):
    """One piece of a snapshot file."""

    term: Count
    index: Count
    """The snapshot stands at this log index ..."""
    index_term: Count
    """... and the record there has this term."""
    size: Count
    digest: Digest
    """BLAKE3 of the whole file."""
    offset: Count
    checksum: Count
    """CRC-32C of the payload."""


class SnapshotAck(Message, tag=14):
    """Which offset to send next; `installed` ends the transfer."""

    term: Count
    index: Count
    offset: Count
    installed: bool


AnyMessage = (
    Hello
    | Refusal
    | Ping
    | Append
    | Ack
    | StaleTerm
    | VoteRequest
    | Vote
    | PreVoteRequest
    | PreVote
    | TimeoutNow
    | Promote
    | SnapshotPiece
    | SnapshotAck
)
