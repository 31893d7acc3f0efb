"""What peers say, taken one message at a time: the rules of each are in the part that it concerns."""

from collections.abc import Callable
from typing import Any

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.freshness import Freshness
from engine.replication.raft.parts import Parts
from engine.replication.transport.frames import split_records
from engine.replication.transport.messages import (
    Ack,
    AnyMessage,
    Append,
    PreVote,
    PreVoteRequest,
    Promote,
    SnapshotAck,
    SnapshotPiece,
    StaleTerm,
    TimeoutNow,
    Vote,
    VoteRequest,
)


class Inbox:
    """One per replica."""

    def __init__(self, parts: Parts, freshness: Freshness) -> None:
        """`freshness` learns what leaders say is committed."""
        self._parts = parts
        self.freshness = freshness
        self._takers: dict[type, Callable[[str, Any, memoryview], None]] = {
            Append: self._take_append,
            Ack: self._take_ack,
            StaleTerm: self._take_stale_term,
            VoteRequest: self._take_vote_request,
            Vote: self._take_vote,
            PreVoteRequest: self._take_pre_vote_request,
            PreVote: self._take_pre_vote,
            TimeoutNow: self._take_timeout_now,
            Promote: self._take_promote,
            SnapshotPiece: self._take_piece,
            SnapshotAck: self._take_snapshot_ack,
        }

    def take(self, peer: str, message: AnyMessage, payload: memoryview) -> None:
        """Raises `FrameRefused` for a damaged payload, `EngineStopped` where the group has gone wrong."""
        taker = self._takers.get(type(message))
        if taker is not None:
            taker(peer, message, payload)

    def answer(self, peer: str, next_index: int, *, reset: bool) -> None:
        """Tell a leader that its append was not taken, and where to go on (`reset`)."""
        learner = not self._parts.membership.voter
        self._parts.transport.send(peer, Ack(self._parts.core.term, next_index, reset, False, learner))

    def _take_append(self, peer: str, append: Append, payload: memoryview) -> None:
        if append.term < self._parts.core.term:
            return self._parts.transport.send(peer, StaleTerm(self._parts.core.term))
        records = split_records(append, payload)
        self._hear_leader(peer, append.term)
        if self._parts.installer.active:
            return self.answer(peer, self._parts.journal.last_index + 1, reset=False)
        verdict = self._parts.guard.judge(peer, append, records)
        self._parts.core.deliver(peer, verdict.deliver)
        if verdict.answer is not None and verdict.answer.success:
            self._parts.acks.matched(peer, self._parts.core.term, verdict.answer.next_index - 1)
        elif verdict.answer is not None:
            self.answer(peer, verdict.answer.next_index, reset=verdict.answer.reset)
        if append.hashed_index:
            self._parts.hashes.expect(append.hashed_index, append.state_hash)
        self.freshness.heard(append.commit_index)
        return None

    def _take_ack(self, peer: str, ack: Ack, _: memoryview) -> None:
        if self._parts.guard.counts_ack(ack, self._parts.core.term):
            if self._parts.core.is_leader:
                self._parts.sender.acknowledged(peer, ack)
        else:
            self._parts.core.adopt_term(ack.term)

    def _take_vote_request(self, peer: str, request: VoteRequest, _: memoryview) -> None:
        if self._parts.membership.voter and not self._parts.installer.active:
            message = {"last_log_index": request.last_index, "last_log_term": request.last_term}
            self._parts.core.deliver(peer, {"type": "request_vote", "term": request.term, **message})

    def _take_vote(self, peer: str, vote: Vote, _: memoryview) -> None:
        if self._parts.guard.counts_vote(peer, vote.term, self._parts.core.term):
            self._parts.core.deliver(peer, {"type": "response_vote", "term": vote.term})

    def _take_timeout_now(self, peer: str, message: TimeoutNow, _: memoryview) -> None:
        if self._parts.membership.voter and not self._parts.installer.active:
            self._parts.core.hand_over_received(peer, message.term)

    def _take_promote(self, peer: str, promote: Promote, _: memoryview) -> None:
        current = promote.term == self._parts.core.term and peer == self._parts.core.leader
        if current and self._parts.journal.durable_index >= promote.index:
            self._parts.membership.promote()

    def _take_piece(self, peer: str, piece: SnapshotPiece, payload: memoryview) -> None:
        if piece.term < self._parts.core.term:
            return self._parts.transport.send(peer, StaleTerm(self._parts.core.term))
        self._hear_leader(peer, piece.term)
        heartbeat = {"type": "append_entries", "term": piece.term, "commit_index": self._parts.core.commit_index}
        self._parts.core.deliver(peer, heartbeat)
        if self._parts.installer.holds(piece.index, piece.index_term):
            return self._parts.transport.send(peer, SnapshotAck(piece.term, piece.index, piece.size, installed=True))
        return self._parts.transport.send(peer, self._parts.snapshots_in.piece(piece, payload))

    def _take_snapshot_ack(self, peer: str, ack: SnapshotAck, _: memoryview) -> None:
        if ack.term == self._parts.core.term and self._parts.core.is_leader:
            installed = self._parts.snapshots_out.acknowledged(peer, ack)
            if installed is not None:
                self._parts.sender.holds_snapshot(peer, installed)

    def _take_stale_term(self, _: str, message: StaleTerm, __: memoryview) -> None:
        self._parts.core.adopt_term(message.term)

    def _take_pre_vote_request(self, peer: str, request: PreVoteRequest, _: memoryview) -> None:
        self._parts.transport.send(peer, self._parts.election.asked(request))

    def _take_pre_vote(self, peer: str, answer: PreVote, _: memoryview) -> None:
        self._parts.election.answered(peer, answer)

    def _hear_leader(self, peer: str, term: int) -> None:
        core = self._parts.core
        if term == core.term and core.is_leader:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED,
                f"{peer} leads in term {term}, and so does this replica: one of them forgot a vote; find out which "
                "data folder was put back or wiped, and replace that replica",
            )
        self._parts.election.leader_heard()
