"""An asyncio event loop whose time is virtual: nothing waits, and the same seed gives the same run."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Instead of waiting for sockets, of which there are none, let the time pass."""

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again in this simulation")
        self._loop.virtual_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`virtual_s` is the time; it moves only when every callback due has run."""

    def __init__(self) -> None:
        self.virtual_s = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.virtual_s


def virtually(work: Coroutine[Any, Any, T], *, to_the_end: bool = False) -> T:
    """Run it in virtual time; `to_the_end`: and whatever goes on behind."""
    loop = VirtualLoop()
    try:
        done = loop.run_until_complete(work)
        while to_the_end and (left := asyncio.all_tasks(loop)):
            loop.run_until_complete(asyncio.wait(left))
        return done
    finally:
        loop.close()
