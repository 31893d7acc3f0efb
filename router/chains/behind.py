"""What is sent once callers have been told: COMMITs, HOLDs, RELEASEs. Bounded; what does not fit is the couriers'."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from engine.rpc.faults import CallFailed

ROWS_MAX: Final = 1 << 16
"""Transfers whose last steps are on their way behind their callers' answers."""
BEHIND_S_MAX: Final = 5.0
"""How long they are tried: then a courier has taken over."""

TOGETHER_S: Final = 0.05
"""Last steps of small batches go at multiples of this, so that those of many callers share requests and log records:
sent at once, they would meet the first steps of what the same callers post next, and make them wait."""
SOON_S: Final = 0.01
"""As above, where something may follow soon: a hold can be committed only once all of its groups have it."""
LARGE_ROWS: Final = 256
"""A batch of so many is not kept waiting."""

logger = logging.getLogger(__name__)

Finish = Callable[[float], Awaitable[None]]
"""Sends what is left, by a deadline on the loop's clock; may raise `CallFailed`."""


class Behind:
    """The last steps of chains whose callers have their answers."""

    def __init__(self) -> None:
        """Nothing runs yet; needs no event loop."""
        self.rows = 0
        """Transfers that are on their way."""
        self.left_to_couriers = 0
        """Transfers that did not fit, or could not be sent in time."""
        self._running: set[asyncio.Task[None]] = set()

    def send(self, rows: int, finish: Finish, together_s: float = SOON_S) -> None:
        """Finish chains of so many transfers; returns at once. Few of them go at a multiple of `together_s`."""
        if not rows:
            return
        if self.rows + rows > ROWS_MAX:
            self.left_to_couriers += rows
            return
        self.rows += rows
        task = asyncio.create_task(self._finish(rows, finish, together_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Wait for everything that is on its way."""
        while self._running:
            await asyncio.wait(self._running)

    async def _finish(self, rows: int, finish: Finish, together_s: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            if rows < LARGE_ROWS:
                await asyncio.sleep(together_s - loop.time() % together_s)
            await finish(loop.time() + BEHIND_S_MAX)
        except CallFailed as failed:
            self.left_to_couriers += rows
            logger.info("%d transfers are left to their couriers: %s", rows, failed)
        finally:
            self.rows -= rows
