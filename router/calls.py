"""What every call of the router has: a deadline, a bound on how many run at once, and faults turned into statuses."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from engine.rpc import faults
from engine.rpc.faults import CallFailed

CALLER_KEY: Final = "postingengine-caller"
"""Metadata by which a router tells a node who asked it; a node believes it from peers only."""

ServerContext = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[bytes, ServerContext], Awaitable[bytes]]


class Calls:
    """Bounds the calls that run at once; beyond it a call is answered at once that nothing was logged."""

    def __init__(self, calls_max: int) -> None:
        """Admit up to `calls_max` calls at a time."""
        self.running, self._calls_max = 0, calls_max
        self.refused = 0
        """Calls told to come later."""

    def admitted(self, handler: Handler) -> Handler:
        """Wrap a handler of bytes: counted, bounded, its `CallFailed` turned into the call's status."""

        async def serve(request: bytes, context: ServerContext) -> bytes:
            if self.running >= self._calls_max:
                self.refused += 1
                await faults.abort(context, faults.overloaded(f"{self._calls_max} calls are being served; try again"))
            self.running += 1
            try:
                return await handler(request, context)
            except CallFailed as failed:
                await faults.abort(context, failed.fault)
                raise
            finally:
                self.running -= 1

        return serve


def deadline_of(context: ServerContext, default_ms: int) -> float:
    """Return when the caller stops waiting, on the monotonic clock, seconds."""
    left_s = context.time_remaining()
    return time.monotonic() + (default_ms / 1000 if left_s is None else min(left_s, 3600.0))


def caller_of(context: ServerContext) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata that tells a node who asked: what an upstream router said, else the peer's address."""
    for key, value in context.invocation_metadata() or ():
        if key == CALLER_KEY:
            return ((CALLER_KEY, value),)
    return ((CALLER_KEY, context.peer()),)
