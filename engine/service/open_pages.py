"""What a courier scans: pages of what is open in its group, read on the apply thread."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from engine.service.courier import OpenChain, ReadPage
from engine.service.replica import Replica
from engine.storage.open_chains import OpenChain as Found

JOB_CHAINS_MAX: Final = 64
"""Chains read by one job of the apply thread, which has records to apply in between."""
MILLISECOND_NS: Final = 1_000_000
_POSITION: Final = 6
_TIMESTAMP: Final = 9
LAST: int = (1 << 63) - 1
"""A position behind every other: the page is the last one."""


def pages_of(replica: Replica) -> tuple[ReadPage, ReadPage]:
    """Return readers of the chains that wait for their deciders, and of holds that are past their deadline."""

    grace_ns = replica.place.config.limits.courier_grace_ms * MILLISECOND_NS

    async def chains(after: int, count: int) -> Sequence[OpenChain]:
        found: list[Found] = []
        while len(found) < count:
            job = partial(_chains, replica, after, replica.now_ns() - grace_ns, min(JOB_CHAINS_MAX, count - len(found)))
            part = await replica.applier.run(job)
            if not part:
                break
            found += part
            after = part[-1].word.position
        return [OpenChain(one.word.position, one.deadline_ns, one.word) for one in found]

    async def overdue_holds(after: int, count: int) -> Sequence[OpenChain]:
        now_ns = replica.now_ns()
        found = await replica.applier.run(lambda: replica.machine.overdue_holds(now_ns, after, count))
        return [_hold(one, LAST) for one in found]

    return chains, overdue_holds


def _chains(replica: Replica, after: int, until_ns: int, count: int) -> Sequence[Found]:
    """Read the words only of chains that have had their grace: while routers are at work, nearly all are younger."""
    rows = replica.machine.book.open_chains()
    old = int(np.count_nonzero((rows[:, _POSITION].astype(np.int64) > after) & (rows[:, _TIMESTAMP] <= until_ns)))
    return replica.machine.open_chains(after, min(count, old)) if old else []


def _hold(found: Found, position: int) -> OpenChain:
    return OpenChain(position, found.deadline_ns, found.word)
