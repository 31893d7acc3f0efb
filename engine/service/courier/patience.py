"""How long a courier leaves open chains to the routers that drive them: longer than those take under load (DESIGN §7).

A courier that drives what a live router is driving doubles the work just where there is too much of it already: then
chains take longer still, and more of them have had their grace. So each look notes the oldest chain that is still the
routers'. If it is gone at the next look, it took so long, and the others may take twice that, within bounds.
"""

from typing import Final

import numpy as np

from engine.core.records import Words

TIMES: Final = 2
"""How much longer than the slowest chain of late another one may take before a courier drives it."""
GRACES_MAX: Final = 2
"""The bound, in graces: a router that died under load keeps its chains open for no longer."""
STANDSTILL_NS: Final = 1_000_000_000
"""If the oldest chain that has had the least grace is open for so long still, nobody drives it."""
LOOKS_APART_NS_MAX: Final = 500_000_000
"""With more time between two looks, the first says nothing of when a chain ended: none was open, or another led."""
REMEMBERED_NS: Final = 5_000_000_000
"""For how long one slow chain makes a courier more patient."""
POSITION: Final = 0
TIMESTAMP: Final = 1
"""Of an open chain, as a look sees it (`engine.storage.open_chains.ages_of`)."""


class Patience:
    """The grace of one group's open chains. Used by one thread."""

    def __init__(self, grace_ns: int) -> None:
        """`grace_ns`: the least."""
        self._least_ns = grace_ns
        self._watched: tuple[int, int] | None = None
        self._oldest, self._oldest_since_ns = -1, 0
        self._slowest_ns, self._noted_ns, self._looked_ns = 0, 0, 0
        self.grace_ns = grace_ns
        """How old a chain must be to be driven."""

    def look(self, rows: Words, now_ns: int) -> None:
        """Take in what is open now: position and time of each chain, shape (n, 2), in any order."""
        if now_ns - self._looked_ns > LOOKS_APART_NS_MAX:
            self._watched = None
        self._looked_ns = now_ns
        if self._watched is not None and not (rows[:, POSITION] == self._watched[0]).any():
            self._took(now_ns - self._watched[1], now_ns)
        if now_ns - self._noted_ns > REMEMBERED_NS:
            self._slowest_ns = 0
        self.grace_ns = max(self._least_ns, min(TIMES * self._slowest_ns, GRACES_MAX * self._least_ns))
        if self._stands_still(rows, now_ns):
            self.grace_ns = self._least_ns
        self._watched = self._oldest_left(rows, now_ns)

    def _stands_still(self, rows: Words, now_ns: int) -> bool:
        """Whether the oldest of the chains that have had the least grace has been that for long."""
        overdue = rows[rows[:, TIMESTAMP].astype(np.int64) <= now_ns - self._least_ns]
        oldest = int(overdue[:, POSITION].min()) if len(overdue) else -1
        if oldest != self._oldest:
            self._oldest, self._oldest_since_ns = oldest, now_ns
        return oldest >= 0 and now_ns - self._oldest_since_ns >= STANDSTILL_NS

    def _took(self, age_ns: int, now_ns: int) -> None:
        if age_ns >= self._slowest_ns or now_ns - self._noted_ns > REMEMBERED_NS:
            self._slowest_ns, self._noted_ns = age_ns, now_ns

    def _oldest_left(self, rows: Words, now_ns: int) -> tuple[int, int] | None:
        """Return position and time of the oldest chain that is not for the courier yet."""
        left = rows[rows[:, TIMESTAMP].astype(np.int64) > now_ns - self.grace_ns]
        if not len(left):
            return None
        oldest = left[left[:, POSITION].argmin()]
        return int(oldest[POSITION]), int(oldest[TIMESTAMP])
