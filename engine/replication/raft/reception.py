"""What the transport tells one replica: who is connected, and what they say."""

from engine.exit_codes import EngineStopped
from engine.replication.raft.inbox import Inbox
from engine.replication.raft.parts import Parts
from engine.replication.raft.turns import Turns
from engine.replication.transport.frames import FrameRefused
from engine.replication.transport.messages import Ack, AnyMessage


class Reception:
    """The log's `transport.Receiver`. Whatever arrives asks for a turn, but for acks that change nothing."""

    def __init__(self, parts: Parts, inbox: Inbox, turns: Turns) -> None:
        """One per replica."""
        self._parts, self._inbox, self._turns = parts, inbox, turns
        self._core, self._sender, self._hand_over = parts.core, parts.sender, parts.hand_over
        self._now = parts.now
        self._heard_at_s: dict[str, float] = {}

    def silent_s(self) -> dict[str, float]:
        """Return, by peer, the seconds since it was heard from; those never heard are left out."""
        now = self._now()
        return {peer: now - heard_s for peer, heard_s in self._heard_at_s.items()}

    def connected(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._heard_at_s[peer] = self._now()
        self._sender.connection_changed(peer)
        self._core.connected(peer)
        self._turns.soon()

    def disconnected(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._parts.guard.forget(peer)
        self._sender.connection_changed(peer)
        self._parts.snapshots_out.connection_changed(peer)
        self._core.disconnected(peer)
        if peer == self._core.leader:
            self._parts.election.leader_lost()
        self._turns.soon()

    def drained(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._turns.soon()

    def received(self, peer: str, message: AnyMessage, payload: memoryview) -> None:
        """See `transport.Receiver`."""
        if not self._turns.running:
            return
        self._heard_at_s[peer] = self._now()
        try:
            self._inbox.take(peer, message, payload)
        except FrameRefused:
            raise
        except EngineStopped as stopped:
            self._turns.halt(stopped)
        except Exception as error:
            self._turns.halt_for(error)
            raise
        if not self._needs_no_turn(peer, message):
            self._turns.soon()

    def _needs_no_turn(self, peer: str, message: AnyMessage) -> bool:
        """Of two followers' acks, the later one mostly changes nothing; the next turn or tick is soon enough."""
        if not isinstance(message, Ack) or not self._core.is_leader or self._hand_over.active:
            return False
        return self._sender.ack_changes_nothing(peer, message)
