"""The clocks of the product's modules, replaced by the loop's virtual time while a seed runs."""

import asyncio
import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

BEGIN_NS = 1_700_000_000_000_000_000
CLOCKED = (
    "router.split.buckets",
    "router.calls",
    "router.chains.posting",
    "router.local_posts",
    "router.posting",
    "engine.rpc.group_client",
    "engine.service.courier.neighbours",
    "engine.service.open_list",
)
"""Modules that look at `time` themselves."""


class VirtualClock:
    """Stands in for the module `time`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def time_ns(self) -> int:
        return BEGIN_NS + int(self._loop.time() * 1e9)


@contextmanager
def virtual_time(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let time be the loop's."""
    clock = VirtualClock(loop)
    with ExitStack() as patches:
        for name in CLOCKED:
            patches.enter_context(mock.patch.object(importlib.import_module(name), "time", clock))
        yield
