"""Who this replica is, which peers it knows, and whether it may vote. One small file, replaced atomically.

A replica that lost its disk forgot its votes and its acks; under its old name it could help to elect a leader that
lacks acknowledged records. So:

* A data folder draws an **incarnation** when it is made. Peers remember it durably with their first greeting and
  refuse another one under the same name, unless its folder was made by the operator's `replace` step
  (`make_replacement`) and is younger than the one that they know.
* A new folder is a **learner**: its acks steer the flow of records but count towards no quorum, and it neither votes
  nor campaigns. It becomes a voter durably in one of two ways. All peers greet it as blank (no term, no record ever):
  then this is the birth of the group, and nothing can be forgotten. Or a leader promotes it: the leader has committed a
  record of its own term by a quorum that the learner was no part of, and the learner holds everything up to there, thus
  all that was ever committed with the help of the folder that it stands in for.
* A snapshot's installation is noted here before it begins, so that a crash in the midst of it is told at the next
  start from a log that lost its tail.
"""

import secrets
from collections.abc import Callable, Collection
from typing import Final, Protocol

import msgspec
from crc32c import crc32c

from engine.exit_codes import EngineStopped, ExitCode, require
from engine.replication.transport.messages import HELLO_TEXT_MAX, PROTOCOL_VERSION, Hello, Refusal

IDENTITY_FILE: Final = "identity"
IDENTITY_VERSION: Final = 1
CHECKSUM_BYTES: Final = 4
_WRONG_PLACE: Final = "correct the peer addresses in the cluster.yml of one of them"


class Peer(msgspec.Struct, array_like=True, frozen=True):
    """A peer's data folder, as it greeted us first."""

    incarnation: bytes
    made_at_ns: int


class Installation(msgspec.Struct, array_like=True, frozen=True):
    """A snapshot that is being installed: the record it stands at."""

    index: int
    term: int


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    cluster: str
    group: int
    replica: str
    incarnation: bytes
    made_at_ns: int
    voter: bool = False
    replaces: bool = False
    peers: dict[str, Peer] = {}
    installing: Installation | None = None
    version: int = IDENTITY_VERSION


class IdentityStorage(Protocol):
    """Where the file lives; the simulation keeps it on its own disk."""

    def read_file(self, name: str) -> bytes | None:
        """The file's bytes, or None if there is none."""

    def replace_file(self, name: str, data: bytes) -> None:
        """Write, sync, rename, sync the directory: the old bytes or the new ones, never a mixture."""


def make_identity(
    cluster: str, group: int, replica: str, *, now_ns: int, replaces: bool = False, nonce: bytes | None = None
) -> Identity:
    """Draw the identity of a new data folder."""
    return Identity(cluster, group, replica, nonce or secrets.token_bytes(16), now_ns, replaces=replaces)


def encode_identity(identity: Identity) -> bytes:
    """Checksum and msgpack."""
    body = msgspec.msgpack.encode(identity)
    return crc32c(body).to_bytes(CHECKSUM_BYTES, "little") + body


def decode_identity(data: bytes) -> Identity:
    """Inverse of `encode_identity`; raises `EngineStopped(DATA_DAMAGED)` on anything else."""
    body = data[CHECKSUM_BYTES:]
    try:
        require(crc32c(body) == int.from_bytes(data[:CHECKSUM_BYTES], "little"), ExitCode.DATA_DAMAGED, "checksum")
        return msgspec.msgpack.decode(body, type=Identity)
    except (msgspec.DecodeError, EngineStopped) as error:
        raise EngineStopped(
            ExitCode.DATA_DAMAGED,
            f"the replica's identity file is damaged ({error}): replace this replica, or restore its folder",
        ) from error


def make_replacement(storage: IdentityStorage, cluster: str, group: int, replica: str, now_ns: int) -> None:
    """The operator's step for a lost replica: mark an empty folder as its successor. Refuses a folder in use."""
    require(
        storage.read_file(IDENTITY_FILE) is None,
        ExitCode.REFUSED,
        f"the folder already belongs to a replica: to replace {replica}, name an empty folder",
    )
    identity = make_identity(cluster, group, replica, now_ns=now_ns, replaces=True)
    storage.replace_file(IDENTITY_FILE, encode_identity(identity))


class Membership:
    """This replica's identity and its judgement of peers: the transport's `Handshake`."""

    def __init__(
        self,
        storage: IdentityStorage,
        identity: Identity,
        members: Collection[str],
        *,
        blank: Callable[[], bool],
        stop: Callable[[EngineStopped], None],
    ) -> None:
        """`blank` tells whether the log never had a term or a record; `stop` ends the process."""
        self._storage = storage
        self._identity = identity
        self._members = frozenset(members)
        self._blank = blank
        self._stop = stop
        self._boot = secrets.token_bytes(16)
        self._blank_peers: set[str] = set()
        if len(self._members) == 1 and not identity.voter:
            self._become_voter()

    @property
    def identity(self) -> Identity:
        """What the file holds now."""
        return self._identity

    @property
    def voter(self) -> bool:
        """Whether this replica's votes and acks count."""
        return self._identity.voter

    def hello(self) -> Hello:
        """See `transport.Handshake`."""
        me = self._identity
        return Hello(
            PROTOCOL_VERSION,
            me.cluster,
            me.group,
            me.replica,
            me.incarnation,
            me.made_at_ns,
            self._boot,
            me.replaces,
            self._blank(),
        )

    def judge(self, hello: Hello) -> Refusal | None:
        """See `transport.Handshake`. An accepted peer's folder is remembered before this returns."""
        reason = self._stranger(hello)
        if reason is not None:
            return Refusal(reason[:HELLO_TEXT_MAX], hello.incarnation, wiped=False)
        known = self._identity.peers.get(hello.replica)
        if known is not None and known.incarnation != hello.incarnation:
            if not hello.replaces or hello.made_at_ns <= known.made_at_ns:
                return Refusal(_another_folder(hello.replica)[:HELLO_TEXT_MAX], hello.incarnation, wiped=True)
            known = None
        if known is None:
            self._remember(hello)
        self._note_blank(hello)
        return None

    def refused(self, peer: str, refusal: Refusal) -> None:
        """A peer knows another folder under our name: ours was wiped, or another has replaced it."""
        if refusal.wiped and refusal.incarnation == self._identity.incarnation:
            self._stop(
                EngineStopped(
                    ExitCode.DATA_MISSING,
                    f"replica {peer} remembers another folder of {self._identity.replica}: bring that folder back, "
                    "or, if it is lost, empty this one and run the replace command for this replica",
                )
            )

    def promote(self) -> None:
        """A leader found that this learner holds all it must: remember it durably, then vote."""
        if not self._identity.voter:
            self._become_voter()

    def note_installation(self, installing: Installation | None) -> None:
        """Remember durably that a snapshot is being installed, or (None) that none is."""
        if self._identity.installing != installing:
            self._save(msgspec.structs.replace(self._identity, installing=installing))

    # Within.

    def _stranger(self, hello: Hello) -> str | None:
        me = self._identity
        if hello.protocol != PROTOCOL_VERSION:
            return f"it speaks protocol {hello.protocol}, this replica {PROTOCOL_VERSION}: run the same release on both"
        if hello.cluster != me.cluster:
            return f"it belongs to cluster {hello.cluster[:40]}, this replica to {me.cluster}: {_WRONG_PLACE}"
        if hello.group != me.group:
            return f"it belongs to group {hello.group}, this replica to group {me.group}: {_WRONG_PLACE}"
        if hello.replica == me.replica or hello.replica not in self._members:
            return (
                f"{hello.replica[:80]!r} is not a peer of {me.replica} in group {me.group}: check cluster.yml on both"
            )
        return None

    def _remember(self, hello: Hello) -> None:
        peers = {**self._identity.peers, hello.replica: Peer(hello.incarnation, hello.made_at_ns)}
        self._save(msgspec.structs.replace(self._identity, peers=peers))

    def _note_blank(self, hello: Hello) -> None:
        if not hello.blank:
            self._blank_peers.discard(hello.replica)
            return
        self._blank_peers.add(hello.replica)
        newborn = len(self._blank_peers) == len(self._members) - 1 and self._blank()
        if newborn and not self._identity.voter and not self._identity.replaces:
            self._become_voter()

    def _become_voter(self) -> None:
        self._save(msgspec.structs.replace(self._identity, voter=True))

    def _save(self, identity: Identity) -> None:
        self._storage.replace_file(IDENTITY_FILE, encode_identity(identity))
        self._identity = identity


def _another_folder(replica: str) -> str:
    return (
        f"{replica} came with another data folder than the one known here; if it lost its disk, run the replace "
        "command for it: by itself it may not vote under its old name"
    )
