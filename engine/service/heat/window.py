"""Windows of heat: what was counted from one moment to another."""

from typing import Final, NamedTuple

from engine.service.heat.sketch import Counted, Sketch

ACCOUNTS_TOLD_MAX: Final = 100
"""Accounts of one window that are kept: as many as can have a share of one per cent each, or close to it."""
NS_PER_S: Final = 10**9


class Window(NamedTuple):
    """What a group's leader counted from one moment to another. Estimates, see `engine.service.heat.sketch`."""

    length_ns: int
    transfers: int
    """Transfers with an account of this group."""
    crossing: int
    """Of those, the ones with an account of another group, too."""
    accounts: tuple[Counted, ...]
    """Most entries first."""

    def share_percent(self, counted: Counted) -> int:
        """Return an account's share of the transfers, whole per cent: an account has one entry in a transfer."""
        return 100 * counted.entries // self.transfers if self.transfers else 0

    def per_s(self, count: int) -> int:
        """Return what a count in this window makes in a second."""
        return count * NS_PER_S // self.length_ns if self.length_ns else 0


def read_window(sketch: Sketch, length_ns: int) -> Window:
    """Return what the sketch has."""
    return Window(length_ns, sketch.transfers, sketch.crossing, sketch.top(ACCOUNTS_TOLD_MAX))
