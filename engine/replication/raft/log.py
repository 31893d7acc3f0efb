"""`RaftLog`: the replicated log of one group on this replica, on PySyncObj's core.

Everything happens on the event loop's thread in **turns**. What arrives (a message, a proposal, a finished sync)
changes state at once and asks for a turn; the turn lets the library tick, fills the windows of followers, starts the
next group of writes, sends the one ack that is owed, and only then calls back whoever waits. A record is handed to
`apply` once it is committed by a quorum *and* durable here, so the store never runs ahead of its own log.

What ends the process goes to `stop_process` as an `EngineStopped`; after that this log does nothing more.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pysyncobj.syncobj as library

from engine.core.limits import LOG_RECORD_BYTES_MAX
from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import ApplyRecord, LogStatus, NotProposed, Proposed, Role
from engine.replication.raft.acks import Acks
from engine.replication.raft.boot import Booted, Machine, Placement, boot, this_machine
from engine.replication.raft.core import NO_OP, RaftCore
from engine.replication.raft.election import Election
from engine.replication.raft.freshness import Freshness
from engine.replication.raft.guard import Guard, LibraryMessage
from engine.replication.raft.handover import HandOver
from engine.replication.raft.hashes import StateHashes
from engine.replication.raft.inbox import Inbox
from engine.replication.raft.install import Installer
from engine.replication.raft.parts import Parts
from engine.replication.raft.pending import Pending
from engine.replication.raft.sender import Sender
from engine.replication.raft.settings import TICK_S, RaftSettings
from engine.replication.raft.snapshot import SnapshotReceiver, SnapshotSender, SnapshotStore
from engine.replication.raft.status import log_status
from engine.replication.transport.frames import FrameRefused
from engine.replication.transport.messages import Ack, AnyMessage, Vote, VoteRequest
from engine.replication.transport.transport import Transport

STALL_TICKS: Final = 4
"""A turn later than this many ticks means that this process stood still, not that its leader is dead."""
AFTER_STALL_S: Final = 0.05
"""Time to read what waits in the sockets before a campaign."""

log = logging.getLogger(__name__)


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
        self._stop_process = stop_process
        self._settings = settings or RaftSettings()
        self._machine = machine or this_machine()
        self._now = self._machine.now
        self._pending = Pending(self._settings)
        self._hashes = StateHashes(self._settings.hashes_max)
        self._role_changes: list[Role] = []
        self._role_listeners: list[Callable[[Role, int], None]] = []
        self._heard_at_s: dict[str, float] = {}
        self._synced_index = 0
        self._applying_paused = False
        self._turn_due = False
        self._running = False
        self._closed = False
        self._built = False
        self._halted = False
        self._turned_at_s = self._now()
        self._timer: asyncio.TimerHandle | None = None
        self._freshness = Freshness(self._now)

    # Life.

    async def start(self, apply: ApplyRecord, applied_index: int) -> None:
        """See `interface.ReplicatedLog`."""
        self._loop = asyncio.get_running_loop()
        library.monotonicTime = self._now
        self._apply = apply
        booted = boot(
            self._placement,
            self._folder,
            applied_index,
            settings=self._settings,
            machine=self._machine,
            stop=self._halt,
        )
        self._build(booted)
        self._built = True
        self._core.restarted_at(applied_index)
        self._journal.on_durable(self._became_durable, self._halt)
        self._running = True
        await self._transport.start(self, booted.membership)
        self._tick()

    async def stop(self) -> None:
        """See `interface.ReplicatedLog`."""
        if self._closed or not self._built:
            return
        self._closed = True
        await self._step_down()
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        self._pending.give_up()
        self._snapshots_in.close()
        self._snapshots_out.close()
        await self._transport.stop()
        self._journal.close()
        self._tell()

    def _build(self, booted: Booted) -> None:
        members, settings, machine = self._placement.members, self._settings, self._machine
        peers = tuple(sorted(member for member in members if member != self._placement.replica))
        self._journal, membership = booted.journal, booted.membership
        self._core = RaftCore(
            self,
            replica=self._placement.replica,
            others=peers,
            journal=self._journal,
            settings=settings,
            dice=machine.dice,
            now=self._now,
        )
        self._journal.follow_commit(lambda: self._core.commit_index)
        self._installer = Installer(self._core, self._journal, membership, self._hashes, self._turn_soon)
        self._guard = Guard(self._journal, self._now)
        self._acks = Acks(lambda: not membership.voter)
        self._sender = Sender(
            self._core,
            self._journal,
            self._transport,
            settings,
            behind=lambda peer: self._snapshots_out.needed(peer, self._journal.base_index),
            newest_hash=self._hashes.newest,
        )
        self._hand_over = HandOver(self._core, self._journal, self._sender, self._transport, settings, now=self._now)
        self._election = Election(
            self._core,
            peers,
            settings,
            may_vote=lambda: membership.voter and not self._installer.active,
            last_record=lambda: (self._journal.last_term, self._journal.last_index),
            send=self._transport.send,
            now=self._now,
        )
        self._snapshots_out = SnapshotSender(
            self._store, booted.files, self._transport, settings, now=self._now, stop=self._halt, ready=self._turn_soon
        )
        self._snapshots_in = SnapshotReceiver(
            self._store,
            booted.files,
            stop=self._halt,
            begin_install=self._installer.begin,
            installed=self._installer.finish,
        )
        self._inbox = Inbox(
            Parts(
                core=self._core,
                journal=self._journal,
                membership=membership,
                guard=self._guard,
                acks=self._acks,
                sender=self._sender,
                election=self._election,
                snapshots_out=self._snapshots_out,
                snapshots_in=self._snapshots_in,
                installer=self._installer,
                hashes=self._hashes,
                transport=self._transport,
                now=self._now,
            ),
            self._freshness,
        )

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
        self._turn_soon()

    def barrier(self, done: Proposed) -> None:
        """See `interface.ReplicatedLog`."""
        self._require_leading()
        self._pending.require_room(0)
        self._pending.add_barrier(done, self._journal.last_index)
        self._turn_soon()

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
        self._turn_soon()

    def note_state_hash(self, log_index: int, state_hash: bytes) -> None:
        """The store applied `log_index` and its running hash is this: leaders tell it, followers compare. Call it for
        every record, in order. A difference ends the process with HASH_DIVERGED."""
        try:
            self._hashes.note(log_index, state_hash)
        except EngineStopped as stopped:
            self._halt(stopped)

    def pause_applying(self) -> None:
        """The service's queue is full: hand nothing over until `resume_applying`. Records wait in the log, on disk."""
        self._applying_paused = True

    def resume_applying(self) -> None:
        """There is room again."""
        self._applying_paused = False
        self._turn_soon()

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
        now = self._now()
        silent_s = {peer: now - heard_s for peer, heard_s in self._heard_at_s.items()}
        return log_status(self._placement.replica, self._core, self._journal, self._sender, silent_s)

    # One turn.

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turn_due and self._running:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if not self._running:
            return
        try:
            self._advance()
        except EngineStopped as stopped:
            self._halt(stopped)
        except Exception as error:
            self._halt(_bug(error))
            raise

    def _advance(self) -> None:
        self._notice_stall()
        self._election.before_tick()
        self._core.doTick(0)
        self._election.after_tick()
        if self._core.is_leader:
            self._lead()
            self._transport.flush()  # followers write while this replica does
        self._journal.write_soon()
        ack = self._acks.due(self._core.term, self._journal.durable_index)
        if ack is not None:
            self._transport.send(*ack)
        self._transport.flush()
        self._tell()

    def _notice_stall(self) -> None:
        now = self._now()
        if now - self._turned_at_s > STALL_TICKS * TICK_S:
            self._core.postpone_campaign(AFTER_STALL_S)
        self._turned_at_s = now

    def _lead(self) -> None:
        pending, journal, term = self._pending, self._journal, self._core.term
        if pending.barriers_need_record(journal.last_index):
            journal.add(NO_OP, journal.last_index + 1, term)
        pending.place_barriers(journal.last_index, term)
        self._sender.send_records()
        self._snapshots_out.send_pieces(term)
        self._hand_over.step()

    def _tell(self) -> None:
        """Callbacks run last: they may propose, stop, or ask for the status."""
        if self._role_changes:
            changes, self._role_changes = self._role_changes, []
            for role in changes:
                for listener in self._role_listeners:
                    listener(role, self._core.term)
        self._pending.tell()

    def _halt(self, stopped: EngineStopped) -> None:
        """Nothing more is sent, written or applied by this log; the first reason is the one that is told."""
        self._running = False
        if not self._halted:
            self._halted = True
            log.critical("%s", stopped)
            self._stop_process(stopped)

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
        core, journal = self._core, self._journal
        log_index, limit = core.applied_index, min(core.commit_index, journal.durable_index)
        while log_index < limit and not (self._applying_paused or self._installer.active):
            log_index, term, record, _ = journal.entry_at(log_index + 1)
            if len(record) > len(NO_OP):
                self._hand_to_apply(log_index, term, record)
            core.applied_index = log_index
            self._pending.settle(log_index, term)
        self._freshness.applied(log_index)

    def _hand_to_apply(self, log_index: int, term: int, data: bytes | bytearray | memoryview) -> None:
        try:
            self._apply(log_index, term, data if not isinstance(data, bytearray) else memoryview(data))
        except EngineStopped:
            raise
        except Exception as error:
            raise EngineStopped(
                ExitCode.APPLY_FAILED,
                f"record {log_index} is committed but could not be applied ({error!r}): skipping it would fork the "
                "state, so report this, and start again once it is mended",
            ) from error

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

    # What the transport tells (`transport.Receiver`).

    def connected(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._heard_at_s[peer] = self._now()
        self._sender.connection_changed(peer)
        self._core.connected(peer)
        self._turn_soon()

    def disconnected(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._guard.forget(peer)
        self._sender.connection_changed(peer)
        self._snapshots_out.connection_changed(peer)
        self._core.disconnected(peer)
        if peer == self._core.leader:
            self._election.leader_lost()
        self._turn_soon()

    def drained(self, peer: str) -> None:
        """See `transport.Receiver`."""
        self._turn_soon()

    def received(self, peer: str, message: AnyMessage, payload: memoryview) -> None:
        """See `transport.Receiver`."""
        if not self._running:
            return
        self._heard_at_s[peer] = self._now()
        try:
            self._inbox.take(peer, message, payload)
        except FrameRefused:
            raise
        except EngineStopped as stopped:
            self._halt(stopped)
        except Exception as error:
            self._halt(_bug(error))
            raise
        if not self._needs_no_turn(peer, message):
            self._turn_soon()

    # Within.

    def _needs_no_turn(self, peer: str, message: AnyMessage) -> bool:
        """Of two followers' acks, the later one mostly changes nothing; the next turn or tick is soon enough."""
        if not isinstance(message, Ack) or not self._core.is_leader or self._hand_over.active:
            return False
        return self._sender.ack_changes_nothing(peer, message)

    def _became_durable(self) -> None:
        if self._running and self._core.is_leader:
            self._sender.count_copies()
        self._turn_soon()

    def _require_leading(self) -> None:
        if not self._running or not self._core.is_leader:
            leader = self._core.leader if self._running else None
            raise NotProposed("this replica does not lead its group", leader=leader)
        if self._hand_over.active:
            raise NotProposed("this replica is handing its leadership over")

    async def _step_down(self) -> None:
        self.transfer_leadership()
        while self._running and self._core.is_leader and self._hand_over.active:
            await asyncio.sleep(TICK_S)

    def _needed_by_peers(self) -> int:
        if not self._core.is_leader:
            return self._core.applied_index
        return min((follower.match_index for follower in self._sender.followers.values()), default=self._synced_index)


def _bug(error: Exception) -> EngineStopped:
    return EngineStopped(ExitCode.FAILED, f"the replicated log met a state it cannot be in ({error!r}): report this")
