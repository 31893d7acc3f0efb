"""The follower's side of replication: an ack says what is durable here, never more (flaw 5), and in which term (4)."""

from collections.abc import Callable
from typing import NamedTuple

from engine.replication.transport.messages import Ack


class Matched(NamedTuple):
    """Up to `log_index` this log equals that of `leader` in `term`."""

    leader: str
    term: int
    log_index: int


class Acks:
    """At most one ack a turn: acks are cumulative."""

    def __init__(self, learner: Callable[[], bool]) -> None:
        """`learner()`: whether this replica's acks count towards no quorum."""
        self._learner = learner
        self._matched = Matched("", 0, 0)
        self._told_index = 0
        self._answer_due = False

    def matched(self, leader: str, term: int, log_index: int) -> None:
        """An append of the leader was taken, or known already, up to `log_index`.

        What is new here is acknowledged once it is durable, and only then: an ack before that says nothing, and costs
        the leader a turn. A leader's heartbeat is answered at once, whatever the disk does.
        """
        if (leader, term) != self._matched[:2]:
            self._matched, self._told_index, self._answer_due = Matched(leader, term, log_index), 0, True
        elif log_index > self._matched.log_index:
            self._matched = Matched(leader, term, log_index)
        else:
            self._answer_due = True

    def due(self, term: int, durable_index: int) -> tuple[str, Ack] | None:
        """The ack to send now: an answer is owed, or more of what matched became durable since the last one."""
        matched = self._matched
        log_index = min(matched.log_index, durable_index)
        if matched.term != term or not (self._answer_due or log_index > self._told_index):
            return None
        self._answer_due, self._told_index = False, log_index
        return matched.leader, Ack(term, log_index + 1, reset=False, success=True, learner=self._learner())
