"""What a courier scans: pages of what is open in its group, read on the apply thread."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from engine.rpc.faults import MILLISECOND_NS
from engine.service.courier.courier import NONE_BEFORE, OpenChain, ReadPage
from engine.service.courier.patience import POSITION, TIMESTAMP, Patience
from engine.service.replica import Replica
from engine.storage.open_chains import OpenChain as Found

JOB_CHAINS_MAX: Final = 64
"""Chains read by one job of the apply thread, which has records to apply in between."""
HOLDS_EVERY_S: Final = 0.5
"""Between two looks through all reservations: there may be many, and their deadlines are in seconds."""


class OpenPages:
    """Readers of the chains that wait for their deciders, and of holds that are past their deadline."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._patience = Patience(replica.place.config.limits.courier_grace_ms * MILLISECOND_NS)
        self._holds_again_ns = 0

    async def chains(self, after: int, count: int) -> Sequence[OpenChain]:
        """Read up to `count` chains that have had their grace, behind a position."""
        found: list[Found] = []
        while len(found) < count and self._replica.machine.book.open_chain_count:
            job = partial(self._chains, after, min(JOB_CHAINS_MAX, count - len(found)))
            part = await self._replica.applier.run(job)
            if not part:
                break
            found += part
            after = part[-1].position
        return [OpenChain(one.position, one.deadline_ns, one.word) for one in found]

    async def overdue_holds(self, after: int, count: int) -> Sequence[OpenChain]:
        """Read the chains of up to `count` overdue holds behind a position."""
        now_ns, machine = self._replica.now_ns(), self._replica.machine
        if after == NONE_BEFORE and (now_ns < self._holds_again_ns or not machine.book.open_reservation_count):
            return []
        self._holds_again_ns = now_ns + int(HOLDS_EVERY_S * 1000) * MILLISECOND_NS
        found = await self._replica.applier.run(lambda: machine.overdue_holds(now_ns, after, count))
        return [OpenChain(one.position, one.deadline_ns, one.word) for one in found]

    def _chains(self, after: int, count: int) -> Sequence[Found]:
        """Read the words only of chains that have had their grace: with routers at work, nearly all are younger."""
        machine, now_ns = self._replica.machine, self._replica.now_ns()
        rows = machine.open_ages()
        if after == NONE_BEFORE:
            self._patience.look(rows, now_ns)
        had_grace = rows[:, TIMESTAMP].astype(np.int64) <= now_ns - self._patience.grace_ns
        old = int(np.count_nonzero(had_grace & (rows[:, POSITION].astype(np.int64) > after)))
        return machine.open_chains(after, min(count, old)) if old else []


def pages_of(replica: Replica) -> tuple[ReadPage, ReadPage]:
    """Return the readers of a replica."""
    pages = OpenPages(replica)
    return pages.chains, pages.overdue_holds
