"""Time that passes when a test says so, and not otherwise."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def let_pass(seconds: float) -> None:
    """Set the running loop's clock forward: what is due by then is due at once. Others' clocks, as gRPC's, stay."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


@contextmanager
def standing_still() -> Iterator[None]:
    """Stop the running loop's clock within the block: no timer is due there."""
    loop = asyncio.get_running_loop()
    before, now_s = loop.time, loop.time()
    loop.time = lambda: now_s  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.time = before  # type: ignore[method-assign]
