"""gRPC servers of the contract: bytes in, bytes out, faults as statuses (DESIGN §4).

The generated registration would parse and serialise every message inside gRPC, where a malformed one becomes INTERNAL.
Here each handler gets the bytes: bulk calls keep them as they are, all others are parsed with a fault of their own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine.exit_codes import EngineStopped, ExitCode
from engine.rpc.faults import CallFailed, Reason, abort, invalid, overloaded

LOG: Final = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 4 << 20
"""gRPC's own bound, above ours: what is larger gets gRPC's status, without our ErrorInfo."""
CONCURRENT_STREAMS_MAX: Final = 8192
"""Of one connection; above `calls_max`, so that it is our own refusal, with its ErrorInfo, that a caller meets."""
KEEPALIVE_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", CONCURRENT_STREAMS_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    # Otherwise two processes share a port, and each gets half of the calls.
    ("grpc.so_reuseport", 0),
)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Unary: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]
Stream: TypeAlias = Callable[[Context], Awaitable[None]]


class Calls:
    """How many calls are served at a time, bounded."""

    def __init__(self, calls_max: int) -> None:
        self._calls_max = calls_max
        self.running = self.refused = 0
        """Being served now, and told to come later so far."""

    def enter(self) -> None:
        """Count one in; raises `CallFailed` (RESOURCE_EXHAUSTED) above the bound."""
        if self.running >= self._calls_max:
            self.refused += 1
            raise CallFailed(overloaded(f"{self.running} calls are being served, as many as may; slow down"))
        self.running += 1

    def leave(self) -> None:
        """Count one out."""
        self.running -= 1


class Service(NamedTuple):
    """A service of the contract and what serves it.

    `raw` methods take and return bytes; all others take and return messages. Streams are always raw: `(context)`.
    """

    descriptor: ServiceDescriptor
    servicer: object
    raw: frozenset[str] = frozenset()


class Server:
    """A gRPC server on one address, with health and reflection."""

    def __init__(self, address: str, services: Iterable[Service], calls: Calls) -> None:
        """Nothing listens before `start`."""
        self._address, self._services, self._calls = address, list(services), calls
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen; raises `EngineStopped` (ADDRESS_IN_USE)."""
        names = [service.descriptor.full_name for service in self._services]
        for service in self._services:
            handlers = method_handlers(service, self._calls)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers),)
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._bind(credentials)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether to send calls here."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.descriptor.full_name for service in self._services)):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls; let those that run end within `grace_s`."""
        await self._server.stop(grace_s)

    def _bind(self, credentials: grpc.ServerCredentials | None) -> None:
        try:
            if credentials is None:
                self._server.add_insecure_port(self._address)
            else:
                self._server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            message = f"{self._address} is in use or not an address of this machine; free it, or name another one"
            raise EngineStopped(ExitCode.ADDRESS_IN_USE, message) from error


def method_handlers(service: Service, calls: Calls) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
    """Return gRPC's handlers of all methods of a service."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.descriptor.methods:
        if not hasattr(service.servicer, method.name):
            continue  # gRPC says UNIMPLEMENTED, as an older node would
        behaviour = getattr(service.servicer, method.name)
        if method.client_streaming:
            handlers[method.name] = grpc.stream_stream_rpc_method_handler(streaming(behaviour))
        else:
            over_bytes = behaviour_of(service, method.name)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_unary(over_bytes, calls))
    return handlers


def behaviour_of(service: Service, name: str) -> Unary:
    """Return a method over bytes, raw or not; it raises `CallFailed`."""
    behaviour: Unary = getattr(service.servicer, name)
    if name in service.raw:
        return behaviour
    return _parsed(
        getattr(service.servicer, name), GetMessageClass(service.descriptor.methods_by_name[name].input_type)
    )


def deadline_s(context: Context, default_s: float) -> float:
    """Return the call's deadline on the loop's clock; `default_s` from now if the caller set none."""
    remaining_s = context.time_remaining()
    return asyncio.get_running_loop().time() + (default_s if remaining_s is None else remaining_s)


def _parsed(behaviour: Callable[[Message, Context], Awaitable[Message]], kind: type[Message]) -> Unary:
    async def call(data: bytes, context: Context) -> bytes:
        try:
            request = kind.FromString(data)
        except DecodeError as error:
            message = f"the request is not a {kind.DESCRIPTOR.name}"
            raise CallFailed(invalid(Reason.BATCH_UNREADABLE, message)) from error
        return (await behaviour(request, context)).SerializeToString()

    return call


def _unary(behaviour: Unary, calls: Calls) -> Unary:
    async def call(data: bytes, context: Context) -> bytes:
        try:
            calls.enter()
            try:
                return await behaviour(data, context)
            finally:
                calls.leave()
        except CallFailed as failed:
            await abort(context, failed.fault)
            raise

    return call


def streaming(behaviour: Stream) -> "Callable[[object, Context], Awaitable[None]]":
    """Return gRPC's behaviour of a stream, its `CallFailed` turned into the call's status.

    It counts for no call: an open stream may be idle, and what comes by it is counted one by one.
    """

    async def call(_: object, context: Context) -> None:
        try:
            await behaviour(context)
        except CallFailed as failed:
            await abort(context, failed.fault)
            raise

    return call
