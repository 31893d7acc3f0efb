"""When to campaign: pre-vote, stickiness to a live leader, and quick notice of a dead one.

The library campaigns as soon as its timer fires, and each campaign raises the term: a replica that was cut off would
depose a healthy leader on its return. Here the timer only makes the replica ask (`PreVoteRequest`, Ongaro's thesis
§9.6): peers that hear a leader, or have a longer log, refuse, and nothing changes anywhere. With a quorum of grants the
library is let loose. An answer with a later term is adopted, so that nobody asks in the past for ever.
"""

from collections.abc import Callable, Collection
from typing import Final, Protocol

from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.messages import AnyMessage, PreVote, PreVoteRequest

ORPHAN_CAMPAIGN_FRACTION: Final = 0.3
"""Of the shortest timeout: how soon a follower asks whose leader's connection broke (its process died, most often)."""
LONG_AGO_S: Final = -1e18


class Elector(Protocol):
    """What the election must know of the core (see `core.RaftCore`)."""

    @property
    def term(self) -> int: ...  # noqa: D102
    @property
    def is_leader(self) -> bool: ...  # noqa: D102
    @property
    def leader(self) -> str | None: ...  # noqa: D102
    @property
    def handing_over(self) -> bool: ...  # noqa: D102
    @property
    def campaign_due(self) -> bool: ...  # noqa: D102
    def wait_before_campaign(self, seconds: float) -> None: ...  # noqa: D102
    def campaign_within(self, seconds: float) -> None: ...  # noqa: D102
    def campaign_at_next_tick(self) -> None: ...  # noqa: D102
    def random_timeout_s(self) -> float: ...  # noqa: D102
    def adopt_term(self, term: int) -> None: ...  # noqa: D102


class Election:
    """One per replica."""

    def __init__(
        self,
        core: Elector,
        peers: Collection[str],
        settings: RaftSettings,
        *,
        may_vote: Callable[[], bool],
        last_record: Callable[[], tuple[int, int]],
        send: Callable[[str, AnyMessage], None],
        now: Callable[[], float],
    ) -> None:
        """`last_record` gives (term, index) of the newest record, in the order in which logs are compared."""
        self._core = core
        self._peers = peers
        self._settings = settings
        self._may_vote = may_vote
        self._last_record = last_record
        self._send = send
        self._now = now
        self._round = 0
        self._granted: set[str] = set()
        self._cleared = False
        self._leader_heard_at_s = LONG_AGO_S

    def before_tick(self) -> None:
        """Keep the library from campaigning unless a quorum would have it, or the leader asked for it."""
        if not self._core.campaign_due:
            return
        if not self._may_vote():
            self._core.wait_before_campaign(self._core.random_timeout_s())
        elif not (self._core.handing_over or self._cleared):
            self._ask()

    def after_tick(self) -> None:
        """A clearance holds for one campaign."""
        self._cleared = False

    def leader_heard(self) -> None:
        """A message of the current term's leader arrived."""
        self._leader_heard_at_s = self._now()
        self._cleared = False

    def leader_lost(self) -> None:
        """The connection to the leader broke: ask soon, and no longer stand in others' way."""
        self._leader_heard_at_s = LONG_AGO_S
        self._core.campaign_within(self._core.random_timeout_s() * ORPHAN_CAMPAIGN_FRACTION)

    def asked(self, request: PreVoteRequest) -> PreVote:
        """Answer a peer that would campaign."""
        granted = (
            self._may_vote()
            and request.term > self._core.term
            and not self._core.is_leader
            and not self._leader_is_alive()
            and (request.last_term, request.last_index) >= self._last_record()
        )
        return PreVote(self._core.term, request.round, granted)

    def answered(self, peer: str, answer: PreVote) -> None:
        """Count a grant of this round; campaign once a quorum, this replica included, has granted."""
        if answer.term > self._core.term:
            self._core.adopt_term(answer.term)
        elif answer.granted and answer.round == self._round and not self._core.is_leader:
            self._granted.add(peer)
            self._campaign_with_quorum()

    def _ask(self) -> None:
        self._round += 1
        self._granted.clear()
        self._core.wait_before_campaign(self._core.random_timeout_s())
        last_term, last_index = self._last_record()
        for peer in self._peers:
            self._send(peer, PreVoteRequest(self._core.term + 1, self._round, last_index, last_term))
        self._campaign_with_quorum()

    def _campaign_with_quorum(self) -> None:
        if not self._cleared and 2 * (len(self._granted) + 1) > len(self._peers) + 1:
            self._cleared = True
            self._core.campaign_at_next_tick()

    def _leader_is_alive(self) -> bool:
        return self._core.leader is not None and self._now() - self._leader_heard_at_s < self._settings.election_s_min
