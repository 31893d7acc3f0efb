"""A network that drops, delays, duplicates and reorders messages, and is cut, one way too. Frames are real bytes."""

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from engine.replication.transport.frames import Buffer, FrameRefused, decode_frame, encode_frame
from engine.replication.transport.messages import Ack, AnyMessage, Vote
from engine.replication.transport.transport import Handshake, Receiver

CONNECT_EVERY_S = 0.05
SILENCE_S_MAX = 1.0
"""A cut connection is noticed after this long; the real transport pings."""
QUEUED_FRAMES_MAX = 64


@dataclass
class Weather:
    """Chances per message, and delays in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    long_delay: float = 0.0
    delay_s: float = 0.001
    long_delay_s: float = 0.8


class SimulatedTransport:
    """One replica's end of the network, as
    `engine.replication.transport.transport.Transport`. A new one for each life of the replica."""

    def __init__(self, network: "Network", replica: str) -> None:
        self.network, self.replica = network, replica
        self.receiver: Receiver | None = None
        self.handshake: Handshake | None = None
        self.connected: dict[str, int] = {}

    async def start(self, receiver: Receiver, handshake: Handshake) -> None:
        self.receiver, self.handshake = receiver, handshake
        self.network.ends[self.replica] = self

    def peers(self) -> Collection[str]:
        return self.connected.keys()

    def send(self, peer: str, message: AnyMessage, payload: Sequence[Buffer] = ()) -> None:
        if peer in self.connected:
            if isinstance(message, Vote):
                self.network.voted(self.replica, peer)
            frame = b"".join((encode_frame(message, payload), *payload))
            if isinstance(message, Ack) and message.success:
                self.network.keep_ack(self.replica, peer, message, frame, self.connected[peer])
            self.network.post(self.replica, peer, frame, self.connected[peer])

    def writable(self, peer: str) -> bool:
        return peer in self.connected and self.network.queued[self.replica, peer] < QUEUED_FRAMES_MAX

    def drop(self, peer: str) -> None:
        self.network.disconnect(self.replica, peer)

    def flush(self) -> None:
        """Frames left at once."""

    async def stop(self) -> None:
        self.network.leave(self.replica)


class Network:
    """All links of one cluster."""

    def __init__(self, loop: asyncio.AbstractEventLoop, replicas: Sequence[str], dice: random.Random) -> None:
        self.loop, self.replicas, self.dice = loop, replicas, dice
        self.weather = Weather()
        self.ends: dict[str, SimulatedTransport] = {}
        self.cut: set[tuple[str, str]] = set()
        self.slow: set[str] = set()
        self.queued: dict[tuple[str, str], int] = {(a, b): 0 for a in replicas for b in replicas}
        self.messages = 0
        self._hoard: dict[tuple[str, str], tuple[int, int, bytes]] = {}
        """The ack that claimed most, by link: a network may deliver a message again long after."""
        self._last_arrival_s: dict[tuple[str, str], float] = {}
        self._epoch = 0
        self.failed: Callable[[str, BaseException], None] = lambda _, error: None
        self.voted: Callable[[str, str], None] = lambda voter, candidate: None
        loop.call_later(CONNECT_EVERY_S, self._connect_all)

    def post(self, sender: str, receiver: str, frame: bytes, epoch: int) -> None:
        """Send one frame on its way; where it is cut it is lost without a word."""
        self.messages += 1
        weather, dice = self.weather, self.dice
        if (sender, receiver) in self.cut or dice.random() < weather.drop:
            return
        for _ in range(2 if dice.random() < weather.duplicate else 1):
            at = self.loop.time() + dice.uniform(0.0001, weather.delay_s * (20 if receiver in self.slow else 1))
            if dice.random() < weather.long_delay:
                at += dice.uniform(0.0, weather.long_delay_s)
            elif dice.random() >= weather.reorder:
                at = max(at, self._last_arrival_s.get((sender, receiver), 0.0))
                self._last_arrival_s[sender, receiver] = at
            self.queued[sender, receiver] += 1
            self.loop.call_at(at, self._arrive, sender, receiver, frame, epoch)

    def disconnect(self, one: str, other: str) -> None:
        """The connection ends; what is on its way is lost."""
        for end, peer in ((one, other), (other, one)):
            transport = self.ends.get(end)
            if transport is not None and transport.connected.pop(peer, None) is not None and transport.receiver:
                transport.receiver.disconnected(peer)

    def leave(self, replica: str) -> None:
        """The process ended, or stopped cleanly."""
        transport = self.ends.pop(replica, None)
        if transport is None:
            return
        for peer, epoch in transport.connected.items():
            # What was sent before still arrives; the end of the connection comes behind it.
            at = max(self.loop.time(), self._last_arrival_s.get((replica, peer), 0.0))
            self.loop.call_at(at, self._end, peer, replica, epoch)
        transport.connected = {}

    def cut_link(self, sender: str, receiver: str, *, noticed: bool) -> None:
        """Cut one way; `noticed` at once (a reset), or after a silence."""
        self.cut.add((sender, receiver))
        self.loop.call_later(0.0 if noticed else SILENCE_S_MAX, self._notice_cut, sender, receiver)

    def deliver_again(self, receiver: str) -> None:
        """Old acks reach a replica once more, on the connection on which they were sent."""
        for (sender, to), (epoch, _, frame) in self._hoard.items():
            if to == receiver:
                self.queued[sender, to] += 1
                self.loop.call_later(self.dice.uniform(0.0, 0.01), self._arrive, sender, to, frame, epoch)

    def keep_ack(self, sender: str, receiver: str, ack: Ack, frame: bytes, epoch: int) -> None:
        """Keep a copy of an ack that claims more than any before on this connection."""
        kept_epoch, claimed, _ = self._hoard.get((sender, receiver), (0, 0, b""))
        if epoch != kept_epoch or ack.next_index > claimed:
            self._hoard[sender, receiver] = epoch, ack.next_index, frame

    def heal(self) -> None:
        """All links work, in fair weather."""
        self.cut.clear()
        self.slow.clear()
        self.weather = Weather()

    # Within.

    def _notice_cut(self, sender: str, receiver: str) -> None:
        if (sender, receiver) in self.cut:
            self.disconnect(sender, receiver)

    def _end(self, end: str, peer: str, epoch: int) -> None:
        transport = self.ends.get(end)
        if transport is not None and transport.connected.get(peer) == epoch:
            del transport.connected[peer]
            if transport.receiver is not None:
                transport.receiver.disconnected(peer)

    def _arrive(self, sender: str, receiver: str, frame: bytes, epoch: int) -> None:
        self.queued[sender, receiver] -= 1
        end = self.ends.get(receiver)
        if end is None or end.receiver is None or end.connected.get(sender) != epoch or (sender, receiver) in self.cut:
            return
        try:
            message, payload = decode_frame(frame)
            end.receiver.received(sender, message, payload)
        except FrameRefused:
            self.disconnect(sender, receiver)
        except BaseException as error:
            self.failed(receiver, error)

    def _connect_all(self) -> None:
        self.loop.call_later(CONNECT_EVERY_S, self._connect_all)
        for number, one in enumerate(self.replicas):
            for other in self.replicas[number + 1 :]:
                if one in self.ends and other in self.ends:
                    ours, theirs = self.ends[one].connected.get(other), self.ends[other].connected.get(one)
                    if ours is None or ours != theirs:
                        self._connect(one, other)

    def _connect(self, one: str, other: str) -> None:
        if (one, other) in self.cut or (other, one) in self.cut:
            return
        self.disconnect(one, other)
        try:
            if self._greet(one, other) and self._greet(other, one):
                self._epoch += 1
                self.ends[one].connected[other] = self.ends[other].connected[one] = self._epoch
                for end, peer in ((one, other), (other, one)):
                    receiver = self.ends[end].receiver
                    if receiver is not None:
                        receiver.connected(peer)
        except BaseException as error:
            self.failed(one, error)

    def _greet(self, greeter: str, judge: str) -> bool:
        """One side's hello, judged by the other."""
        end, other = self.ends.get(greeter), self.ends.get(judge)
        if end is None or other is None or end.handshake is None or other.handshake is None:
            return False
        refusal = other.handshake.judge(end.handshake.hello())
        if refusal is not None:
            end.handshake.refused(judge, refusal)
        return refusal is None
