"""`RaftLog`: the replicated log of one group on this replica, on PySyncObj's core.

Everything happens on the event loop's thread in **turns**. What arrives (a message, a proposal, a finished sync)
changes state at once and asks for a turn. A turn lets the library tick if it is time; a leader commits, fills the
windows of followers and starts the next group of writes; a follower writes, sends the one ack that it owes and hands
over what is committed; only then whoever waits is called back. A record is handed to `apply` once it is committed by
a quorum *and* durable here, so the store never runs ahead of its own log.

What ends the process goes to `stop_process` as an `EngineStopped`; after that this log does nothing more.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pysyncobj.syncobj as library

from engine.core.limits import LOG_RECORD_BYTES_MAX
from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import ApplyRecord, LogStatus, NotProposed, Proposed, Role
from engine.replication.raft.applying import Applying
from engine.replication.raft.assembly import Surroundings, assemble
from engine.replication.raft.boot import Booted, Machine, Placement, boot, this_machine
from engine.replication.raft.core import NO_OP
from engine.replication.raft.freshness import Freshness
from engine.replication.raft.guard import LibraryMessage
from engine.replication.raft.hashes import StateHashes
from engine.replication.raft.inbox import Inbox
from engine.replication.raft.pending import Pending
from engine.replication.raft.reception import Reception
from engine.replication.raft.settings import TICK_S, RaftSettings
from engine.replication.raft.snapshot import SnapshotStore
from engine.replication.raft.status import log_status
from engine.replication.raft.turns import Turns
from engine.replication.transport.messages import Vote, VoteRequest
from engine.replication.transport.transport import Transport

AFTER_STALL_S: Final = 0.05
"""Time to read what waits in the sockets before a campaign."""


class RaftLog:
    """See `interface.ReplicatedLog`; besides: `note_state_hash`, `pause_applying`, `resume_applying`, `staleness_s`."""

    def __init__(
        self,
        placement: Placement,
        folder: Path,
        transport: Transport,
        store: SnapshotStore,
        *,
        stop_process: Callable[[EngineStopped], None],
        settings: RaftSettings | None = None,
        machine: Machine | None = None,
    ) -> None:
        """`folder` is this log's own; nothing is touched before `start`."""
        self._placement = placement
        self._folder = folder
        self._transport = transport
        self._store = store
        self._settings = settings or RaftSettings()
        self._machine = machine or this_machine()
        self._now = self._machine.now
        self._pending = Pending(self._settings)
        self._hashes = StateHashes(self._settings.hashes_max)
        self._role_changes: list[Role] = []
        self._role_listeners: list[Callable[[Role, int], None]] = []
        self._synced_index = 0
        self._closed = self._built = self._writes_in_turn = False
        self._turns = Turns(self._advance, stop_process, self._now)
        self._freshness = Freshness(self._now)

    # Life.

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """See `interface.ReplicatedLog`."""
        library.monotonicTime = self._now
        booted = boot(
            self._placement,
            self._folder,
            applied_index,
            settings=self._settings,
            machine=self._machine,
            stop=self._turns.halt,
        )
        self._build(booted, apply)
        self._built = True
        self._core.restarted_at(applied_index)
        self._journal.on_durable(self._became_durable, self._turns.halt)
        self._turns.begin()
        await self._transport.start(self._reception, booted.membership)
        self._turns.tick()

    async def stop(self) -> None:
        """See `interface.ReplicatedLog`."""
        if self._closed or not self._built:
            return
        self._closed = True
        await self._step_down()
        self._turns.end()
        self._pending.give_up()
        self._snapshots_in.close()
        self._snapshots_out.close()
        await self._transport.stop()
        self._journal.close()
        self._tell()

    def _build(self, booted: Booted, apply: ApplyRecord) -> None:
        parts = assemble(
            self,
            booted,
            Surroundings(
                self._placement,
                self._transport,
                self._store,
                self._settings,
                self._machine,
                self._hashes,
                stop=self._turns.halt,
                turn_soon=self._turns.soon,
                call_later=self._turns.call_later,
            ),
        )
        self._core, self._journal, self._acks, self._installer = parts.core, parts.journal, parts.acks, parts.installer
        self._sender, self._hand_over, self._election = parts.sender, parts.hand_over, parts.election
        self._snapshots_out, self._snapshots_in = parts.snapshots_out, parts.snapshots_in
        self._inbox = Inbox(parts, self._freshness)
        self._reception = Reception(parts, self._inbox, self._turns)
        self._applying = Applying(parts, self._pending, self._freshness, apply)

    # What the service asks.

    def propose(self, record: bytes, proposed: Proposed) -> None:
        """See `interface.ReplicatedLog`."""
        if not len(NO_OP) < len(record) <= LOG_RECORD_BYTES_MAX:
            raise ValueError(f"a record has 2 to {LOG_RECORD_BYTES_MAX} bytes, not {len(record)}")
        self._require_leading()
        self._pending.require_room(len(record))
        log_index = self._journal.last_index + 1
        self._journal.add(record, log_index, self._core.term)
        self._pending.add(log_index, self._core.term, len(record), proposed)
        self._turns.soon()

    def barrier(self, done: Proposed) -> None:
        """See `interface.ReplicatedLog`."""
        self._require_leading()
        self._pending.require_room(0)
        self._pending.add_barrier(done, self._journal.last_index)
        self._turns.soon()

    def truncate_below(self, log_index: int) -> None:
        """See `interface.ReplicatedLog`. What slow followers and the snapshot in use still need stays, within
        `retained_bytes_max`."""
        self._synced_index = max(self._synced_index, log_index)
        limit = min(self._synced_index, self._core.applied_index)
        if self._journal.log_bytes <= self._settings.retained_bytes_max:
            limit = min(limit, self._needed_by_peers())
        held = self._snapshots_out.held_index()
        self._journal.forget_to(limit if held is None else min(limit, held), self._settings.retained_bytes_min)

    def transfer_leadership(self, to: str | None = None) -> None:
        """See `interface.ReplicatedLog`. Proposals are refused until a follower took over, or for `transfer_s_max`."""
        self._hand_over.begin(to)
        self._turns.soon()

    def note_state_hash(self, log_index: int, state_hash: bytes) -> None:
        """The store applied `log_index` and its running hash is this: leaders tell it, followers compare. Call it for
        every record, in order. A difference ends the process with HASH_DIVERGED."""
        try:
            self._hashes.note(log_index, state_hash)
        except EngineStopped as stopped:
            self._turns.halt(stopped)

    def pause_applying(self) -> None:
        """The service's queue is full: hand nothing over until `resume_applying`. Records wait in the log, on disk."""
        self._applying.paused = True

    def resume_applying(self) -> None:
        """There is room again."""
        self._applying.paused = False
        self._turns.soon()

    def staleness_s(self) -> float | None:
        """How old this replica's state is at most: seconds since it had applied all that a leader had then committed;
        0.0 on a leader, None before any leader was heard."""
        if self._core.is_leader:
            return 0.0
        return self._freshness.age_s()

    def on_role_change(self, changed: Callable[[Role, int], None]) -> None:
        """See `interface.ReplicatedLog`."""
        self._role_listeners.append(changed)

    def status(self) -> LogStatus:
        """See `interface.ReplicatedLog`."""
        silent_s = self._reception.silent_s()
        return log_status(self._placement.replica, self._core, self._journal, self._sender, silent_s)

    # One turn.

    def _advance(self) -> None:
        ticks = self._turns.take_tick() or self._core.campaign_due
        if ticks:
            self._tick()
        if self._core.is_leader:
            self._lead(ticks)
        else:
            self._follow()
        self._tell()

    @property
    def _hands_over(self) -> bool:
        """Whether anything is committed and durable here that the service has not got."""
        core = self._core
        return core.applied_index < min(core.commit_index, self._journal.durable_index)

    def _tick(self) -> None:
        if self._turns.stalled():
            self._core.postpone_campaign(AFTER_STALL_S)
        self._election.before_tick()
        if self._core.is_leader:
            self._sender.before_tick()
        self._core.doTick(0)
        self._election.after_tick()

    def _lead(self, ticks: bool) -> None:
        """First what somebody waits for. What the core would do between its ticks is done without it: looking at its
        timers in every turn costs more than most turns do."""
        self._core.commit(self._sender.quorum_index)
        if self._hands_over:
            self._applying.advance()
        pending, journal, term = self._pending, self._journal, self._core.term
        if pending.has_barriers:
            if pending.barriers_need_record(journal.last_index):
                journal.add(NO_OP, journal.last_index + 1, term)
            pending.place_barriers(journal.last_index, term)
        self._sender.send_records()
        self._snapshots_out.send_pieces(term)
        if ticks or self._hand_over.active:
            self._hand_over.step()
        self._transport.flush()  # followers write while this replica does
        self._journal.write_soon()

    def _follow(self) -> None:
        """First what the leader waits for."""
        self._writes_in_turn = True
        self._journal.write_soon()
        self._writes_in_turn = False
        ack = self._acks.due(self._core.term, self._journal.durable_index)
        if ack is not None:
            self._transport.send(*ack)
        self._transport.flush()
        if self._hands_over:
            self._applying.advance()

    def _tell(self) -> None:
        """Callbacks run last: they may propose, stop, or ask for the status."""
        if self._role_changes:
            changes, self._role_changes = self._role_changes, []
            for role in changes:
                for listener in self._role_listeners:
                    listener(role, self._core.term)
        self._pending.tell()

    # What the core asks (`core.CoreOwner`).

    def send_library_message(self, peer: str, message: LibraryMessage) -> None:
        """Translate what the library says. Its successes are acknowledged once durable, one ack a turn."""
        kind, term = message["type"], self._core.term
        if kind == "next_node_idx" and message["success"]:
            self._acks.matched(peer, term, message["next_node_idx"] - 1)
        elif kind == "next_node_idx":
            self._inbox.answer(peer, message["next_node_idx"], reset=message["reset"])
        elif kind == "request_vote":
            self._transport.send(peer, VoteRequest(term, message["last_log_index"], message["last_log_term"]))
        elif kind == "response_vote":
            self._transport.send(peer, Vote(message["term"]))
        else:
            raise EngineStopped(ExitCode.FAILED, f"the Raft library wants to send {kind!r}: report this as a bug")

    def send_heartbeats(self) -> None:
        """See `core.CoreOwner`."""
        self._sender.send_heartbeats()

    def apply_committed(self) -> None:
        """Hand over what is committed by a quorum and durable here."""
        self._applying.advance()

    def role_changed(self, role: Role) -> None:
        """See `core.CoreOwner`. A leader that is one no longer gives up all that waits: unknown."""
        self._role_changes.append(role)
        if role is not Role.LEADER:
            self._pending.give_up()
            self._snapshots_out.end_term()
            self._hand_over.end()
        if role is Role.FOLLOWER:
            self._core.postpone_campaign(self._core.random_timeout_s())

    def leader_began(self) -> None:
        """See `core.CoreOwner`."""
        self._sender.begin_term()
        self._hand_over.end()

    # Within.

    def _became_durable(self) -> None:
        if not self._turns.running:
            return
        if self._core.is_leader:
            self._sender.count_copies()
            if self._sender.quorum_index > self._core.commit_index or self._hands_over:
                self._turns.soon()
        elif not self._writes_in_turn:  # the turn that writes goes on to acknowledge, and to hand over
            self._turns.soon()

    def _require_leading(self) -> None:
        if not self._turns.running or not self._core.is_leader:
            leader = self._core.leader if self._turns.running else None
            raise NotProposed("this replica does not lead its group", leader=leader)
        if self._hand_over.active:
            raise NotProposed("this replica is handing its leadership over")

    async def _step_down(self) -> None:
        self.transfer_leadership()
        while self._turns.running and self._core.is_leader and self._hand_over.active:
            await asyncio.sleep(TICK_S)

    def _needed_by_peers(self) -> int:
        if not self._core.is_leader:
            return self._core.applied_index
        return min((follower.match_index for follower in self._sender.followers.values()), default=self._synced_index)
