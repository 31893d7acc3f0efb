"""Handing leadership to a follower that holds everything (thesis §3.10): asked for, or because a disk hangs."""

import logging
from collections.abc import Callable

from engine.replication.raft.core import RaftCore
from engine.replication.raft.journal import RaftJournal
from engine.replication.raft.sender import Sender
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.messages import TimeoutNow
from engine.replication.transport.transport import Transport

log = logging.getLogger(__name__)


class HandOver:
    """One per replica. While `active`, nothing is proposed, so that a follower can come to hold everything."""

    def __init__(
        self,
        core: RaftCore,
        journal: RaftJournal,
        sender: Sender,
        transport: Transport,
        settings: RaftSettings,
        *,
        now: Callable[[], float],
    ) -> None:
        """`now` is the monotonic clock, in seconds."""
        self._core = core
        self._journal = journal
        self._sender = sender
        self._transport = transport
        self._settings = settings
        self._now = now
        self._until_s: float | None = None
        self._asked = False
        self._to: str | None = None
        self._disk_behind_since_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether this leader is handing over."""
        return self._until_s is not None

    def begin(self, to: str | None = None) -> None:
        """Try for `transfer_s_max`, with the peer `to` alone if one is named; without effect on a follower, in a group
        of one, or a second time."""
        if self._core.is_leader and self._core.nodes and self._until_s is None:
            self._until_s, self._asked, self._to = self._now() + self._settings.transfer_s_max, False, to

    def end(self) -> None:
        """The role changed."""
        self._until_s = self._disk_behind_since_s = None

    def step(self) -> None:
        """Once a tick, on a leader, and once a turn while it hands over: ask the follower that holds everything, or
        give the attempt up."""
        self._watch_own_disk()
        if self._until_s is None:
            return
        peer = self._sender.most_advanced([one for one in self._transport.peers() if self._to in (None, one)])
        if self._now() > self._until_s:
            self._until_s = None
        elif peer is not None and not self._asked and self._sender.has_all(peer):
            self._transport.send(peer, TimeoutNow(self._core.term))
            self._asked = True

    def _watch_own_disk(self) -> None:
        """A disk that hangs stops this leader's applying, not its heartbeats: nobody else would notice."""
        if self._journal.durable_index >= self._core.commit_index:
            self._disk_behind_since_s = None
        elif self._disk_behind_since_s is None:
            self._disk_behind_since_s = self._now()
        elif self._now() - self._disk_behind_since_s > self._settings.own_disk_lag_s_max:
            self._disk_behind_since_s = None
            log.warning("this leader's disk is behind its followers': handing over")
            self.begin()
