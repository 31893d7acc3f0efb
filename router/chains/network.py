"""How a batch reaches the groups, and what a router knows while it does: under one placement."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import sides_of
from engine.core.records import Words
from engine.rpc.faults import Fault
from router.chains.batch import internal_alone
from router.chains.behind import Behind
from router.chains.driven import LaneOf
from router.chains.sending import SentAs
from router.split.funds import Funds
from router.split.map import SplitMap


class LocalAnswers(NamedTuple):
    """What a group answered to rows that lie in it whole."""

    results: npt.NDArray[np.void]
    """Shape (n,), dtype `RESULT`."""
    faults: list[Fault]
    """Each with its item, a row number among those sent."""
    log_index: int


PostLocal = Callable[[int, Words, float, int], Awaitable[LocalAnswers]]
"""Posts rows, shape (n, 16), that lie in one group whole: (group, rows, deadline, the newest epoch of the map of split
accounts that placed some of them, else 0). Raises `CallFailed`."""
MakeBuckets = Callable[[int, Sequence[bytes], float], Awaitable[None]]
"""Gives a group its buckets of these accounts: (group, accounts, deadline). Raises `CallFailed`."""


class Splits(NamedTuple):
    """What a router knows of split accounts, and what it does for them."""

    map: SplitMap
    funds: Funds
    make: MakeBuckets
    refresh: Callable[[], Awaitable[SplitMap]]
    """Reads the directory again and returns the newest map; the same object where nothing was split since."""


class Network(NamedTuple):
    """How the groups are reached, under one placement."""

    lane_of: LaneOf
    post_local: PostLocal
    group_of_slot: npt.NDArray[np.uint16]
    """Shape (4096,)."""
    hash_seed: int
    behind: Behind
    splits: Splits


class Errand(NamedTuple):
    """One batch and where it goes: what those who post its parts share."""

    words: Words
    """Shape (n, 16): valid rows, in which no chain is cut."""
    sides: npt.NDArray[np.uint16]
    """Shape (n, 2): the groups of each row's debit and credit side."""
    by_map: npt.NDArray[np.bool_] | None
    """Shape (n,): rows placed by the map of split accounts; None: none was."""
    network: Network
    sent_as: SentAs
    deadline_s: float
    """On the loop's clock."""
    deadline_ns: int
    """The same, UTC."""


def errand(words: Words, network: Network, sent_as: SentAs, deadline_s: float, deadline_ns: int) -> Errand:
    """Place rows by today's placement and map."""
    homes = sides_of(words, network.group_of_slot, network.hash_seed)
    sides, by_map = network.splits.map.routed(words, internal_alone(words, homes))
    return Errand(words, sides, by_map, network, sent_as, deadline_s, deadline_ns)
