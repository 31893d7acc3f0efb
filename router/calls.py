"""What every call of the router has: a deadline, a bound on how many run at once, and faults turned into statuses."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from engine.rpc import faults, server
from engine.rpc.faults import CallFailed

CALLER_KEY: Final = "postingengine-caller"
"""Metadata by which a router tells a node who asked it; a node believes it from peers only."""

ServerContext = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[bytes, ServerContext], Awaitable[bytes]]


class Calls(server.Calls):
    """Bounds the calls that run at once; beyond it a call is answered at once that nothing was logged."""

    def admitted(self, handler: Handler) -> Handler:
        """Wrap a handler of bytes: counted, bounded, its `CallFailed` turned into the call's status."""

        async def serve(request: bytes, context: ServerContext) -> bytes:
            try:
                self.enter()
                try:
                    return await handler(request, context)
                finally:
                    self.leave()
            except CallFailed as failed:
                await faults.abort(context, failed.fault)
                raise

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
