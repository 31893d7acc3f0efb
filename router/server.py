"""The router's process: one gRPC server over bytes, a directory of groups, nothing else to lose."""

import asyncio
import logging
import signal
from functools import partial
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine.config import ClusterConfig, RouterConfig, metrics_address
from engine.exit_codes import EngineStopped, ExitCode
from engine.rpc.group_client import MESSAGE_BYTES_MAX
from engine.rpc.metrics import MetricsServer
from engine.rpc.process import settle_memory
from engine.rpc.server import streaming
from engine.rpc.streams import Streams
from postingengine.v1 import admin_service_pb2, posting_service_pb2
from router.administration import Administration
from router.calls import Calls, Handler
from router.chains.behind import Behind
from router.directory import Directory
from router.lanes import Lanes
from router.metrics import RouterMetrics
from router.posting import Posting
from router.reading import Reading
from router.split.buckets import Buckets
from router.split.rebalancing import Rebalancing
from router.split.splitting import Splitting

POSTING_SERVICE: Final = "postingengine.v1.PostingService"
ADMIN_SERVICE: Final = "postingengine.v1.AdminService"
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),
)

logger = logging.getLogger(__name__)


class Router:
    """One router: start it, stop it."""

    def __init__(self, config: ClusterConfig, section: RouterConfig) -> None:
        """Prepare to serve at `section.grpc`; call inside a running event loop."""
        self._config, self._address = config, section.grpc
        self._directory = Directory(config)
        self._buckets = Buckets(self._directory, Lanes(self._directory), Behind())
        self._splitting = Splitting(self._directory, config.limits, self._buckets)
        self._rebalancing = Rebalancing(self._directory, self._buckets, self._splitting)
        self._posting = Posting(self._directory, config.limits, self._buckets)
        self._calls = Calls(config.limits.calls_max)
        self._streams = Streams(self._calls, config.limits.stream_batches_in_flight_max)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._metrics: MetricsServer | None = None
        if (metrics := metrics_address(section)) is not None:
            told = RouterMetrics(self._calls, self._buckets.behind, self._buckets, self._rebalancing)
            self._metrics = MetricsServer(metrics, told.collect)
        self._health = health.aio.HealthServicer()
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; healthy once a node has answered. Raises `EngineStopped(ADDRESS_IN_USE)`."""
        self._add_services()
        try:
            bound = self._server.add_insecure_port(self._address)
        except RuntimeError:
            bound = 0
        if not bound:
            message = f"{self._address} is in use or not this machine's; free it or name another in cluster.yml"
            raise EngineStopped(ExitCode.ADDRESS_IN_USE, message)
        if self._metrics is not None:
            await self._metrics.start()
        await self._server.start()
        self._refreshing = asyncio.create_task(self._stay_fresh())
        logger.info("router serves at %s", self._address)

    async def stop(self) -> None:
        """Refuse new calls, let running ones end within the drain bound, close."""
        await self._health.enter_graceful_shutdown()
        self._streams.end()
        await self._server.stop(self._config.limits.drain_ms_max / 1000)
        await self._posting.drain()
        if self._metrics is not None:
            await self._metrics.stop()
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._directory.close()

    async def _stay_fresh(self) -> None:
        fresh = asyncio.create_task(self._directory.keep_fresh())
        behind = [asyncio.create_task(one) for one in (self._buckets.keep_fresh(), self._rebalancing.keep_on())]
        try:
            await self._directory.answered.wait()
            for service in ("", POSTING_SERVICE, ADMIN_SERVICE):
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            await fresh
        finally:
            fresh.cancel()
            for task in behind:
                task.cancel()

    def _add_services(self) -> None:
        limits = self._config.limits
        calls, posting = self._calls, self._posting
        unary = {"PostTransfers": posting.post_transfers, **Reading(self._directory, limits, self._buckets).handlers()}
        methods = {name: _unary(calls.admitted(handler)) for name, handler in unary.items()}
        stream = streaming(partial(posting.stream_transfers, self._streams))
        methods["StreamTransfers"] = grpc.stream_stream_rpc_method_handler(stream)
        administration = Administration(self._directory, limits).handlers()
        administration |= self._splitting.handlers()
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(POSTING_SERVICE, methods),
                grpc.method_handlers_generic_handler(
                    ADMIN_SERVICE, {name: _unary(calls.admitted(handler)) for name, handler in administration.items()}
                ),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (
            posting_service_pb2.DESCRIPTOR.services_by_name["PostingService"].full_name,
            admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self._server)


async def run_router(config: ClusterConfig, section: RouterConfig) -> None:
    """Serve until SIGTERM or SIGINT; raises `EngineStopped`."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stopped.set)
    router = Router(config, section)
    await router.start()
    settle_memory()
    await stopped.wait()
    await router.stop()


def _unary(handler: Handler) -> "grpc.RpcMethodHandler[bytes, bytes]":
    return grpc.unary_unary_rpc_method_handler(handler)
