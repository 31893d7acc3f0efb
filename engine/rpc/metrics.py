"""Metrics over HTTP, in Prometheus's text format: `GET /metrics`, one answer a connection (DESIGN §12).

Served on the event loop of the process that it tells of, and asked for now and then: so there is no thread and no
framework, and whatever is not that one request is refused.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.config import split_address
from engine.exit_codes import EngineStopped, ExitCode

PREFIX: Final = "posting_engine_"
REQUEST_S_MAX: Final = 5.0
REQUEST_BYTES_MAX: Final = 8192
CONNECTIONS_MAX: Final = 16

logger = logging.getLogger(__name__)

Collect = Callable[[], Awaitable[Iterable[Metric]]]
"""Returns what the process tells of itself; may raise TimeoutError."""


def gauge(name: str, help_text: str, value: float) -> Metric:
    """Return one figure that goes up and down."""
    return GaugeMetricFamily(PREFIX + name, help_text, value=value)


def counter(name: str, help_text: str, value: float) -> Metric:
    """Return one count since the process started."""
    return CounterMetricFamily(PREFIX + name, help_text, value=value)


class MetricsServer:
    """One listener; `address` is host:port."""

    def __init__(self, address: str, collect: Collect) -> None:
        self._address, self._collect = address, collect
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen; raises `EngineStopped(ADDRESS_IN_USE)`."""
        host, port = split_address(self._address)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES_MAX)
        except OSError as error:
            message = f"{self._address} is in use or not this machine's; free it or name another in cluster.yml"
            raise EngineStopped(ExitCode.ADDRESS_IN_USE, message) from error
        logger.info("metrics are served at %s", self._address)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            logger.debug("a request for metrics was not a whole one")
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: bytes) -> bytes:
        if self._connections > CONNECTIONS_MAX:
            return _response("503 Service Unavailable", b"too many ask for metrics at a time\n")
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method != b"GET" or path != b"/metrics":
            return _response("404 Not Found", b"there is only GET /metrics\n")
        try:
            return _response("200 OK", exposition(await self._collect()), CONTENT_TYPE_PLAIN_0_0_4)
        except Exception:
            logger.exception("the metrics could not be collected")
            return _response("500 Internal Server Error", b"the metrics could not be collected: see the log\n")


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return metrics in Prometheus's text format, with those of the process: memory, processor time, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collected(list(metrics)))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _response(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
