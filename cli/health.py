"""Whether a server answers the standard gRPC health check with SERVING."""

import asyncio
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

CHECK_METHOD: Final = "/grpc.health.v1.Health/Check"
CHECK_S_MAX: Final = 1.0
PAUSE_S: Final = 0.05
# gRPC's own first pause between tries is a second, too long for a server that is just starting.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def until_serving(address: str) -> None:
    """Return once the server serves; the caller sets the deadline."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        while not await _serving(channel):
            await asyncio.sleep(PAUSE_S)


async def _serving(channel: grpc.aio.Channel) -> bool:
    check = channel.unary_unary(
        CHECK_METHOD,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await check(health_pb2.HealthCheckRequest(), timeout=CHECK_S_MAX)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
