"""A batcher on a scripted log, for tests of either lane; a batcher that breaks fails the test."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from engine.config import LimitsConfig
from engine.exit_codes import EngineStopped
from engine.service.batcher import Batcher
from tests.scripted_log import ScriptedLog

NOW_NS = 1_700_000_000_000_000_000
SETTLE_TURNS = 5

_failures: list[EngineStopped] = []
"""Of all benches of the test that runs: raised within a callback of the loop they would be logged, and forgotten."""


class BatcherBench:
    """The test plays callers and commits; subclasses say what they post, and what is answered."""

    def __init__(self, **limits: int) -> None:
        self.log = ScriptedLog()
        self.loop = asyncio.get_running_loop()
        self.batcher = Batcher(
            self.log,
            LimitsConfig(**limits),
            clock_ns=lambda: NOW_NS,
            loop=self.loop,
            address_of=lambda replica: f"{replica}:1",
            failed=_failures.append,
        )

    async def settle(self) -> None:
        """Let the loop turn until nothing more happens by itself."""
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)


def expected_failures() -> list[EngineStopped]:
    """Return why batchers have ended their processes, and take it as meant."""
    taken = _failures.copy()
    _failures.clear()
    return taken


@contextmanager
def no_batcher_fails() -> Iterator[None]:
    """Assert at the end of a test that no batcher ended its process but those that were expected to."""
    _failures.clear()
    yield
    assert expected_failures() == []
