"""Who is told of a lone record first: as many followers as a quorum needs, the quicker ones; the others with the next
heartbeat.

On a machine that replicas share, a follower for whom nobody waits takes the processor from those for whom somebody
does, and writing several records at once takes it hardly more than one (docs/decisions/0015). Records that come close
behind each other, and large ones, go to all at once.
"""

from collections.abc import Callable, Collection
from typing import Final

LONE_BYTES_MAX: Final = 4096
"""A larger record goes to all at once: it takes long enough that the slower disk of two should not add to it."""
FIRST_S_MAX: Final = 0.01
"""If the record is not committed by then, the others are told too."""


class Precedence:
    """One per replica; in use while it leads."""

    def __init__(
        self,
        peers: Collection[str],
        *,
        commit_index: Callable[[], int],
        call_later: Callable[[float, Callable[[int], None], int], None],
        turn_soon: Callable[[], None],
    ) -> None:
        """`call_later(seconds, callback, log_index)` is the loop's; `turn_soon` asks for a turn, in which what is put
        off no longer is sent."""
        self._order = tuple(sorted(peers))
        self._needed = (len(self._order) + 1) // 2
        self.first = self._order[: self._needed]
        """The quicker followers, as many as commit a record together with this replica."""
        self._commit_index, self._call_later, self._turn_soon = commit_index, call_later, turn_soon
        self._first_known_index = 0
        self._until_index = 0

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
        if last_index > self._until_index:
            self._until_index = last_index
            self._call_later(FIRST_S_MAX, self._look_after, last_index)

    def puts_off(self, peer: str, last_index: int) -> bool:
        """Return whether a follower is to wait for what the log holds now."""
        return last_index <= self._until_index and peer not in self.first

    def _look_after(self, log_index: int) -> None:
        if log_index > self._commit_index():
            self._until_index = 0
            self._turn_soon()
