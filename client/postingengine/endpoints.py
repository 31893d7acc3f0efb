"""The servers that a client may ask, one at a time: routers, or nodes; when one fails, the next."""

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio

from postingengine.stream import Stream
from postingengine.wire import STREAM_TRANSFERS

MESSAGE_BYTES_MAX: Final = 16 << 20
_WITH_PORT: Final = re.compile(r"([^:/\s]+|\[[0-9A-Fa-f:.%\w]+\]):[0-9]{1,5}")
_NAMED_BY_SCHEME: Final = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:")
"""gRPC's own, for those who know them."""
RECONNECT_FIRST_MS: Final = 50
RECONNECT_MS_MAX: Final = 500
CONNECT_MS_MAX: Final = 2000
STREAM_PAUSE_FIRST_S: Final = 0.1
STREAM_PAUSE_S_MAX: Final = 30.0
STREAM_DOUBLINGS_MAX: Final = 9
"""How long to do without a stream after one that ended: longer the more often none answered anything."""
OPTIONS: Final = (
    # gRPC's own first back-off is 1 s and its longest 2 minutes: a restart of a router would cost that much.
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Retries are ours: they count attempts, honour the engine's pushback and change the server.
    ("grpc.enable_retries", 0),
    # A connection of one's own, not one shared with other clients of this process.
    ("grpc.use_local_subchannel_pool", 1),
)


class Endpoint:
    """One server: its channel, the stream that takes posts, and by method what calls it with bytes."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._stream: Stream | None = None
        self._streams_failed, self._reopen_s = 0, 0.0

    def method(self, path: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
        """Return the callable of a unary method; it takes and gives serialised messages."""
        found = self._methods.get(path)
        if found is None:
            # Bytes in and out: messages of a megabyte are not copied by (de)serialisers, and each call is cheaper.
            found = self._methods[path] = self._open().unary_unary(path)
        return found

    @property
    def stream(self) -> Stream | None:
        """The stream that takes posts; None while there is none that is ready."""
        return self._stream if self._stream is not None and self._stream.is_ready else None

    def open_stream(self) -> None:
        """Open the stream in the background; after one that ended, not too soon."""
        if self._channel is None:
            return  # closed
        before, now_s = self._stream, asyncio.get_running_loop().time()
        if before is not None and before.ended_s is None:
            return
        if before is not None and before.ended_s is not None:
            self._stream = None
            self._streams_failed = 0 if before.has_answered else self._streams_failed + 1
            doublings = min(self._streams_failed, STREAM_DOUBLINGS_MAX)
            pause_s = min(STREAM_PAUSE_FIRST_S * 2.0**doublings, STREAM_PAUSE_S_MAX) * random.uniform(0.5, 1.0)
            self._reopen_s = before.ended_s + pause_s
        if now_s >= self._reopen_s:
            self._stream = Stream(self._channel.stream_stream(STREAM_TRANSFERS)())

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.address, options=OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(self.address, self._credentials, options=OPTIONS)
        return self._channel

    async def close(self) -> None:
        """Close the stream, then the channel; calls in flight are cancelled."""
        if self._stream is not None:
            await self._stream.close()
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            await channel.close()


class Endpoints:
    """All servers, and which of them to ask now. Lives on one event loop."""

    def __init__(self, addresses: Sequence[str], credentials: grpc.ChannelCredentials | None) -> None:
        if not addresses:
            raise ValueError("no address given: name at least one router or node as host:port")
        self._all = [Endpoint(address, credentials) for address in addresses]
        self._at = 0

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self._all)

    @property
    def current(self) -> Endpoint:
        """The server to ask now."""
        return self._all[self._at]

    def leave(self, failed: Endpoint) -> None:
        """Go on to the next server, unless another call has done so already."""
        if failed is self.current:
            self._at = (self._at + 1) % len(self._all)

    async def close(self) -> None:
        """Close all channels."""
        for endpoint in self._all:
            await endpoint.close()


def addresses_of(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """Return addresses given as "host:port", as several with commas between, or as a sequence; raises ValueError."""
    if isinstance(addresses, str):
        addresses = addresses.split(",")
    found = tuple(address.strip() for address in addresses if address.strip())
    for address in found:
        if _WITH_PORT.fullmatch(address) is None and not address.startswith(_NAMED_BY_SCHEME):
            # Else gRPC would ask port 443, or resolve for as long as the caller waits.
            raise ValueError(f"{address!r} is no address: write host:port, such as 127.0.0.1:7000")
    return found
