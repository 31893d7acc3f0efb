"""One real `RaftLog` on a bench: virtual time, a disk in memory, and peers that are played by the test."""

import asyncio
import random
from collections.abc import Collection, Sequence
from pathlib import Path

from crc32c import crc32c

from engine.exit_codes import EngineStopped
from engine.replication.raft.boot import Machine, Placement
from engine.replication.raft.log import RaftLog
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.frames import Buffer
from engine.replication.transport.messages import (
    Ack,
    AnyMessage,
    Append,
    Hello,
    PreVote,
    PreVoteRequest,
    Vote,
    VoteRequest,
)
from engine.replication.transport.transport import Handshake, Receiver
from tests.simulation.disk import SimulatedDisk
from tests.simulation.history import History
from tests.simulation.replica import abandon
from tests.simulation.store import SimulatedStore
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.worker import SimulatedWorker

CLUSTER = "ab" * 16
GROUP = 3
FOLDER = Path("/bench")


class RecordingTransport:
    """Remembers what the replica says; the test speaks for its peers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, AnyMessage, tuple[Buffer, ...]]] = []
        self.connected: list[str] = []
        self.receiver: Receiver | None = None
        self.handshake: Handshake | None = None
        self.full = False

    async def start(self, receiver: Receiver, handshake: Handshake) -> None:
        self.receiver, self.handshake = receiver, handshake

    def peers(self) -> Collection[str]:
        return self.connected

    def send(self, peer: str, message: AnyMessage, payload: Sequence[Buffer] = ()) -> None:
        if peer in self.connected:
            self.sent.append((peer, message, tuple(payload)))

    def writable(self, peer: str) -> bool:
        return not self.full

    def drop(self, peer: str) -> None:
        self.connected.remove(peer)

    def flush(self) -> None:
        """Sent at once."""

    async def stop(self) -> None:
        self.connected.clear()


async def _at_once(work):
    return work()


def hello(
    replica: str, *, blank: bool = True, replaces: bool = False, incarnation: bytes | None = None, **other
) -> Hello:
    """A peer's greeting."""
    fields = {"protocol": 1, "cluster": CLUSTER, "group": GROUP, "made_at_ns": 1, **other}
    return Hello(
        replica=replica,
        incarnation=incarnation or replica.encode() * 16,
        boot=bytes(16),
        replaces=replaces,
        blank=blank,
        **fields,
    )


class Bench:
    """`voter`: the peers greeted it as blank, so that it was born with them."""

    def __init__(
        self,
        *,
        members: tuple[str, ...] = ("a", "b", "c"),
        settings: RaftSettings | None = None,
        disk: SimulatedDisk | None = None,
        voter: bool = True,
        segment_bytes: int = 64 << 10,
    ) -> None:
        self.loop = VirtualLoop()
        self.members = members
        self.dice = random.Random(7)
        self.disk = disk or SimulatedDisk("a", self.dice)
        self.history = History(self.loop.time)
        self.store = SimulatedStore("a", self.disk, self.dice, self.history)
        self.settings = settings or RaftSettings()
        self.segment_bytes = segment_bytes
        self.voter = voter
        self.applied: list[tuple[int, int, bytes]] = []
        self.stopped: list[EngineStopped] = []
        self.apply_raises: Exception | None = None
        self.boot()

    def boot(self, applied_index: int = 0) -> None:
        """Start the replica; also after `power_cut`."""
        self.transport = RecordingTransport()
        self.worker = SimulatedWorker(self.loop, self.disk, self.dice)
        machine = Machine(
            self.disk, lambda: self.worker, _at_once, self.loop.time, lambda: 5, self.dice, self.segment_bytes
        )
        self.log = RaftLog(
            Placement(CLUSTER, GROUP, "a", self.members),
            FOLDER,
            self.transport,
            self.store,
            stop_process=self.stopped.append,
            settings=self.settings,
            machine=machine,
        )
        self.loop.run_until_complete(self.log.start(self._apply, applied_index))
        peers = [member for member in self.members if member != "a"]
        for peer in peers:
            if self.voter:
                self.transport.handshake.judge(hello(peer))
            self.transport.connected.append(peer)
            self.log._reception.connected(peer)

    def _apply(self, log_index: int, term: int, record) -> None:
        if self.apply_raises is not None:
            raise self.apply_raises
        self.applied.append((log_index, term, bytes(record)))

    def run(self, seconds: float = 0.01) -> None:
        """Let virtual time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def power_cut(self) -> None:
        """The machine loses power; `boot` starts it again."""
        abandon(self.log)
        self.worker.crash()
        self.disk.fall(power=True)

    def close(self) -> None:
        """End of the test."""
        abandon(self.log)
        self.run(0.1)
        self.loop.close()

    # The peers, played.

    def receive(self, peer: str, message: AnyMessage, payload: bytes = b"") -> None:
        """A message arrives."""
        self.loop.call_soon(self.log._reception.received, peer, message, memoryview(payload))
        self.run(0.0)

    def append(self, term: int, previous: tuple[int, int], records: list[tuple[int, bytes]], commit: int = 0, peer="b"):
        """A leader's append: `previous` is (index, term), each record (term, bytes)."""
        message = Append(
            term,
            commit,
            *previous,
            [record_term for record_term, _ in records],
            [len(data) for _, data in records],
            [crc32c(data) for _, data in records],
        )
        self.receive(peer, message, b"".join(data for _, data in records))

    def told(self, kind: type, peer: str | None = None) -> list:
        """What the replica said of one kind, to one peer or to all."""
        return [message for to, message, _ in self.transport.sent if type(message) is kind and peer in {None, to}]

    def elect(self) -> int:
        """Let the replica campaign, grant it everything, return its term."""
        while not self.told(PreVoteRequest):
            self.run(0.05)
        request = self.told(PreVoteRequest)[-1]
        self.receive("b", PreVote(request.term - 1, request.round, True))
        self.run(0.001)
        term = self.told(VoteRequest)[-1].term
        self.receive("b", Vote(term))
        self.run(0.001)
        return term

    def acknowledge(self, peer: str, log_index: int, *, term: int | None = None, learner: bool = False) -> None:
        """A follower holds all up to `log_index`."""
        ack = Ack(term or self.log.status().term, log_index + 1, False, True, learner)
        self.receive(peer, ack)
