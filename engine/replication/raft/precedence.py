"""Who is told of a lone record first: as many followers as a quorum needs, the quicker ones; the others a moment later.

On a machine that replicas share, a follower for whom nobody waits takes the processor from those for whom somebody
does (docs/decisions/0015). Records that come close behind each other, and large ones, go to all at once.
"""

from collections.abc import Callable, Collection
from typing import Final

LONE_BYTES_MAX: Final = 4096
"""A larger record goes to all at once: it takes long enough that the slower disk of two should not add to it."""
OTHERS_AFTER_S: Final = 0.003
"""The others are told so much later, whoever has answered by then."""


class Precedence:
    """One per replica; in use while it leads."""

    def __init__(self, peers: Collection[str], *, turn_after: Callable[[float, Callable[[], None]], None]) -> None:
        """`turn_after(seconds, before)` calls `before` in so many seconds, and asks for a turn."""
        self._order = tuple(sorted(peers))
        self._needed = (len(self._order) + 1) // 2
        self.first = self._order[: self._needed]
        """The quicker followers, as many as commit a record together with this replica."""
        self._turn_after = turn_after
        self._first_known_index = 0
        self._until_index = 0
        self._is_timed = False

    def begin_term(self) -> None:
        """Nobody is told later than others by what another term left."""
        self._until_index = self._first_known_index = 0

    def holds(self, peer: str, log_index: int, last_index: int) -> None:
        """A voter acknowledged all up to `log_index`; the log ends at `last_index`. Whoever is first is quicker."""
        if log_index == last_index > self._first_known_index:
            self._first_known_index = last_index
            if peer in self.first:
                return
            self._order = (peer, *(other for other in self._order if other != peer))
            self.first = self._order[: self._needed]

    def put_off(self, last_index: int) -> None:
        """Let the others wait for all up to `last_index`."""
        self._until_index = last_index
        if not self._is_timed:
            self._is_timed = True
            self._turn_after(OTHERS_AFTER_S, self._over)

    def puts_off(self, peer: str, last_index: int) -> bool:
        """Return whether a follower is to wait for what the log holds now."""
        return last_index <= self._until_index and peer not in self.first

    def _over(self) -> None:
        self._is_timed, self._until_index = False, 0
