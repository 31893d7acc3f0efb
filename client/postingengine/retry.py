"""When to ask again: back-off with jitter, the engine's pushback, the caller's deadline; always the same ids."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio

from postingengine.endpoints import Endpoint, Endpoints
from postingengine.faults import Told, fault_of, told_by_error

BACKOFF_FIRST_S: Final = 0.02
BACKOFF_S_MAX: Final = 0.5
BACKOFF_DOUBLINGS_MAX: Final = 5
PUSHBACK_S_MAX: Final = 5.0
ATTEMPT_S_MAX: Final = 3.0
"""A server that does not answer for this long is left for the next one, with the same ids."""
ATTEMPT_S_MIN: Final = 0.01
"""With less time than this left, one more attempt would only make the outcome unknown."""
ATTEMPT_MAX: Final = 65535


def pause_s(told: Told, failures: int, servers: int) -> float:
    """Return how long to wait, seconds, after the `failures`-th failure in a row (from 1).

    The engine's pushback comes first; else another server is asked at once, and a round of all of them doubles the
    pause. Jitter spreads callers that failed together.
    """
    if told.retry_after_s is not None:
        return min(told.retry_after_s, PUSHBACK_S_MAX) * random.uniform(1.0, 1.5)
    rounds, rest = divmod(failures, servers)
    if rest:
        return 0.0
    doublings = min(rounds - 1, BACKOFF_DOUBLINGS_MAX)
    return min(BACKOFF_FIRST_S * 2.0**doublings, BACKOFF_S_MAX) * random.uniform(0.5, 1.0)


def without_answer(told: Told, before: Told | None) -> Told:
    """Return what to tell of an attempt that was cut off by the deadline: what the engine said to one before it."""
    if told.reason or told.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
        return told
    said = f"; an attempt before was told: {before.message}" if before is not None else ""
    return told._replace(message=f"no answer came within the deadline{said}")


class Attempts:
    """The attempts of one call; `deadline_s` is on the loop's clock."""

    def __init__(self, endpoints: Endpoints, deadline_s: float, *, changes: bool) -> None:
        """`changes`: whether the call may take effect; a read has no outcome that could be unknown."""
        self._endpoints, self._deadline_s, self._changes = endpoints, deadline_s, changes
        self._loop = asyncio.get_running_loop()
        self.count, self.may_be_logged = 0, False
        self._engine_told: Told | None = None

    async def call(self, path: str, request_of: Callable[[int], bytes]) -> bytes:
        """Call a unary method until it answers; `request_of(attempt)` is the serialised request. Raises `Fault`.

        For what repeats without harm: reads, and requests whose ids make them so.
        """
        failures = 0
        while True:
            endpoint = self._endpoints.current
            self.count += 1
            request = request_of(min(self.count, ATTEMPT_MAX))
            try:
                answer: bytes = await endpoint.method(path)(request, timeout=min(self.left_s(), ATTEMPT_S_MAX))
            except grpc.aio.AioRpcError as error:
                failures += 1
                await self._failed(told_by_error(error), endpoint, failures)
            else:
                return answer

    def left_s(self) -> float:
        """Return how much time is left, seconds."""
        return max(self._deadline_s - self._loop.time(), 0.0)

    async def _failed(self, told: Told, endpoint: Endpoint, failures: int) -> None:
        """Wait until it is time to ask again; raises the fault if there is no time left, or no use."""
        self.may_be_logged |= self._changes and told.may_be_logged
        pause = pause_s(told, failures, len(self._endpoints))
        if told.reason:
            self._engine_told = told
        if not told.is_transient or pause + ATTEMPT_S_MIN >= self.left_s():
            told = without_answer(told, self._engine_told)
            raise fault_of(told, outcome_unknown=self.may_be_logged, attempts=self.count)
        self._endpoints.leave(endpoint)
        await asyncio.sleep(pause)
