"""What happened, as clients and replicas saw it, and what must never have happened."""

from collections.abc import Callable
from typing import NamedTuple


class Violation(Exception):
    """The replicated log broke a promise; the text says which."""


class Committed(NamedTuple):
    """What some replica applied at an index."""

    term: int
    identity: int


class History:
    """One order; nothing acknowledged lost; nothing applied twice; one leader per term; barrier reads are current."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.committed: dict[int, Committed] = {}
        self.index_of: dict[int, int] = {}
        self.acknowledged: dict[int, int] = {}
        self.leaders: dict[int, str] = {}
        self.proposed = 0
        self.answered = 0
        self.unknown = 0
        self.died_waiting = 0
        """Callbacks of processes that died: they cannot come."""
        self.refused = 0
        self.barriers = 0
        self.snapshots = 0
        self.highest_acknowledged = 0
        self.events: list[str] = []

    def require(self, condition: bool, sentence: str) -> None:
        if not condition:
            raise Violation(sentence)

    def note(self, event: str) -> None:
        """For the story that a failing seed tells."""
        self.events.append(f"{self._now():8.3f} {event}")

    def applied(self, replica: str, log_index: int, term: int, identity: int) -> None:
        before = self.committed.setdefault(log_index, Committed(term, identity))
        self.require(
            before == Committed(term, identity),
            f"ORDER: {replica} applied {identity} of term {term} at {log_index}, where {before} was applied before",
        )
        self.require(
            self.index_of.setdefault(identity, log_index) == log_index,
            f"TWICE: {replica} applied {identity} at {log_index}, it stands at {self.index_of[identity]} already",
        )

    def acknowledge(self, identity: int, log_index: int) -> None:
        committed = self.committed.get(log_index)
        self.require(
            committed is not None and committed.identity == identity,
            f"LOST: {identity} was acknowledged at {log_index}, where {committed} stands",
        )
        self.acknowledged[identity] = log_index
        self.highest_acknowledged = max(self.highest_acknowledged, log_index)

    def leads(self, replica: str, term: int) -> None:
        leader = self.leaders.setdefault(term, replica)
        self.require(leader == replica, f"LEADERS: {leader} and {replica} both lead in term {term}")

    def read(self, replica: str, applied_index: int, floor: int) -> None:
        self.require(
            applied_index >= floor,
            f"STALE: {replica} answered a barrier at {applied_index}; {floor} was acknowledged before it began",
        )

    def final(self, replica: str, identities: list[int]) -> None:
        """All is healed and has converged: what a replica holds in the end."""
        seen = set(identities)
        lost = [identity for identity in self.acknowledged if identity not in seen]
        self.require(not lost, f"LOST: {replica} lacks {len(lost)} acknowledged records, {lost[:5]} for example")
        self.require(
            len(seen) == len(identities), f"TWICE: {replica} holds {len(identities) - len(seen)} records twice"
        )
