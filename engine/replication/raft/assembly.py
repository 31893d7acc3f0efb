"""Wiring the parts of one replica's log."""

from collections.abc import Callable
from typing import NamedTuple

from engine.exit_codes import EngineStopped
from engine.replication.raft.acks import Acks
from engine.replication.raft.boot import Booted, Machine, Placement
from engine.replication.raft.core import CoreOwner, RaftCore
from engine.replication.raft.election import Election
from engine.replication.raft.guard import Guard
from engine.replication.raft.handover import HandOver
from engine.replication.raft.hashes import StateHashes
from engine.replication.raft.install import Installer
from engine.replication.raft.parts import Parts
from engine.replication.raft.precedence import Precedence
from engine.replication.raft.sender import Sender
from engine.replication.raft.settings import RaftSettings
from engine.replication.raft.snapshot import SnapshotReceiver, SnapshotSender, SnapshotStore
from engine.replication.transport.transport import Transport


class Surroundings(NamedTuple):
    """What the parts share beside each other."""

    placement: Placement
    transport: Transport
    store: SnapshotStore
    settings: RaftSettings
    machine: Machine
    hashes: StateHashes
    stop: Callable[[EngineStopped], None]
    """Ends the process."""
    turn_soon: Callable[[], None]
    call_later: Callable[[float, Callable[[int], None], int], None]
    """The loop's."""


def assemble(owner: CoreOwner, booted: Booted, around: Surroundings) -> Parts:
    """Wire the parts around what was booted; `owner` is the log that the core asks."""
    journal, membership = booted.journal, booted.membership
    transport, settings, now = around.transport, around.settings, around.machine.now
    core = _core(owner, booted, around)
    journal.follow_commit(lambda: core.commit_index)
    installer = Installer(core, journal, membership, around.hashes, around.turn_soon)
    snapshots_out = SnapshotSender(
        around.store, booted.files, transport, settings, now=now, stop=around.stop, ready=around.turn_soon
    )
    sender = Sender(
        core,
        journal,
        transport,
        settings,
        behind=lambda peer: snapshots_out.needed(peer, journal.base_index),
        newest_hash=around.hashes.newest,
        precedence=Precedence(
            _peers(around.placement),
            commit_index=lambda: core.commit_index,
            call_later=around.call_later,
            turn_soon=around.turn_soon,
        ),
    )
    election = Election(
        core,
        _peers(around.placement),
        settings,
        may_vote=lambda: membership.voter and not installer.active,
        last_record=lambda: (journal.last_term, journal.last_index),
        send=transport.send,
        now=now,
    )
    snapshots_in = SnapshotReceiver(
        around.store, booted.files, stop=around.stop, begin_install=installer.begin, installed=installer.finish
    )
    return Parts(
        core=core,
        journal=journal,
        membership=membership,
        guard=Guard(journal, now),
        acks=Acks(lambda: not membership.voter),
        sender=sender,
        hand_over=HandOver(core, journal, sender, transport, settings, now=now),
        election=election,
        snapshots_out=snapshots_out,
        snapshots_in=snapshots_in,
        installer=installer,
        hashes=around.hashes,
        transport=transport,
        now=now,
    )


def _core(owner: CoreOwner, booted: Booted, around: Surroundings) -> RaftCore:
    return RaftCore(
        owner,
        replica=around.placement.replica,
        others=_peers(around.placement),
        journal=booted.journal,
        settings=around.settings,
        dice=around.machine.dice,
        now=around.machine.now,
    )


def _peers(placement: Placement) -> tuple[str, ...]:
    return tuple(sorted(member for member in placement.members if member != placement.replica))
