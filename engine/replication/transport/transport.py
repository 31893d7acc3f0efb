"""Connections between the replicas of one group, on asyncio (flaws 13, 17 and 18 of PySyncObj's own transport).

Static membership: of each pair, the replica with the greater id dials the other. Each side's first frame is its
`Hello`; the `Handshake` says who may stay. Everyone else is refused with one logged sentence. Given SSL contexts, both
ends speak TLS; binding is the caller's choice and loopback by default. What is sent leaves at the end of the loop's
turn, in one write per peer.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.transport.connection import STRANGER, Connection
from engine.replication.transport.frames import Buffer, encode_frame
from engine.replication.transport.messages import AnyMessage, Hello, Ping, Refusal

GREETING_S_MAX: Final = 2.0
GREETING_CONNECTIONS_MAX: Final = 64
"""Accepted connections that have not introduced themselves yet."""
DIAL_S_MAX: Final = 1.0
DIAL_PAUSE_S: Final = 0.05
DIAL_PAUSE_REFUSED_S: Final = 1.0
PING_EVERY_S: Final = 0.5
SILENCE_S_MAX: Final = 3.0
"""A connection on which nothing arrives for this long is dead, whatever TCP believes."""
SOCKET_BUFFER_BYTES: Final = 4 << 20

log = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where a replica listens."""

    host: str
    port: int


class PeerSecurity(NamedTuple):
    """mTLS for the peer port. `authorise` gets the peer's certificate (as `getpeercert()` gives it) and the replica id
    that its hello claims, and returns whether they fit."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    authorise: Callable[[Mapping[str, Any], str], bool]


class Receiver(Protocol):
    """What the transport tells the log. All on the loop's thread."""

    def connected(self, peer: str) -> None:
        """A peer's connection was accepted on both sides."""

    def disconnected(self, peer: str) -> None:
        """It ended."""

    def drained(self, peer: str) -> None:
        """It is writable again."""

    def received(self, peer: str, message: AnyMessage, payload: memoryview) -> None:
        """A message arrived; raises `FrameRefused` if its payload is not what it says."""


class Handshake(Protocol):
    """Who we are, and who may be a peer."""

    def hello(self) -> Hello:
        """Introduce this replica."""

    def judge(self, hello: Hello) -> Refusal | None:
        """Return why the sender of `hello` may not stay, or None."""

    def refused(self, peer: str, refusal: Refusal) -> None:
        """A peer did not accept us."""


class Transport(Protocol):
    """What the log asks of the network; the simulation has one of its own."""

    async def start(self, receiver: Receiver, handshake: Handshake) -> None:
        """Listen and dial. Raises `EngineStopped` if the address is taken."""

    def peers(self) -> Collection[str]:
        """Replica ids connected now."""

    def send(self, peer: str, message: AnyMessage, payload: Sequence[Buffer] = ()) -> None:
        """Queue one message for a connected peer; without a connection it is lost, as on any network."""

    def writable(self, peer: str) -> bool:
        """False while the peer's write buffer is full."""

    def drop(self, peer: str) -> None:
        """End the connection to a peer, if there is one: it dials again, or we do."""

    def flush(self) -> None:
        """Write what was queued: the end of a turn."""

    async def stop(self) -> None:
        """Close everything. Idempotent."""


class AsyncioTransport:
    """The real one."""

    def __init__(
        self,
        replica: str,
        addresses: Mapping[str, Address],
        bind: Address | None = None,
        security: PeerSecurity | None = None,
    ) -> None:
        """`addresses`: of all replicas of the group, this one included; `bind` where it differs from our own."""
        self.replica = replica
        self._addresses = addresses
        self._bind = bind or addresses[replica]
        self._security = security
        self._connections: dict[str, Connection] = {}
        self._greeting: set[Connection] = set()
        self._dialing: dict[str, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._pinging: asyncio.TimerHandle | None = None
        self._told: dict[str, str] = {}
        self._stopped = False

    async def start(self, receiver: Receiver, handshake: Handshake) -> None:
        """See `Transport`."""
        self._receiver, self._handshake = receiver, handshake
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await self._loop.create_server(
                lambda: Connection(self, None),
                self._bind.host,
                self._bind.port,
                ssl=self._security.server if self._security else None,
            )
        except OSError as error:
            raise EngineStopped(
                ExitCode.ADDRESS_IN_USE,
                f"cannot listen for peers on {self._bind.host}:{self._bind.port} ({error.strerror}): stop the process "
                "that holds the port, or give this replica another one in cluster.yml",
            ) from error
        for peer in self._addresses:
            if self.replica > peer:
                self._dial_soon(peer)
        self._ping()

    def peers(self) -> Collection[str]:
        """See `Transport`."""
        return self._connections.keys()

    def send(self, peer: str, message: AnyMessage, payload: Sequence[Buffer] = ()) -> None:
        """See `Transport`."""
        connection = self._connections.get(peer)
        if connection is not None:
            connection.write(encode_frame(message, payload), payload)

    def writable(self, peer: str) -> bool:
        """See `Transport`."""
        connection = self._connections.get(peer)
        return connection is not None and not connection.paused

    def drop(self, peer: str) -> None:
        """See `Transport`."""
        connection = self._connections.get(peer)
        if connection is not None:
            connection.abort()

    def flush(self) -> None:
        """See `Transport`."""
        for connection in self._connections.values():
            connection.flush()

    async def stop(self) -> None:
        """See `Transport`."""
        self._stopped = True
        if self._pinging is not None:
            self._pinging.cancel()
        for task in self._dialing.values():
            task.cancel()
        await asyncio.gather(*self._dialing.values(), return_exceptions=True)
        for connection in [*self._connections.values(), *self._greeting]:
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    # What connections report.

    def made(self, connection: Connection) -> None:
        """A socket is open: it must introduce itself in time. The dialling side speaks first."""
        if len(self._greeting) >= GREETING_CONNECTIONS_MAX:
            return connection.refuse(f"too many connections have not introduced themselves; {STRANGER}")
        self._greeting.add(connection)
        tune(connection.raw_socket())
        self._loop.call_later(GREETING_S_MAX, self._greeting_over, connection)
        if connection.dialled is not None:
            connection.say(self._handshake.hello())
        return None

    def greeted(self, connection: Connection, message: AnyMessage) -> None:
        """The first frame arrived: a `Hello` that we accept, or the end of this connection."""
        if isinstance(message, Refusal) and connection.dialled is not None:
            self._tell(connection.dialled, f"replica {connection.dialled} refused this one: {message.reason}")
            self._handshake.refused(connection.dialled, message)
            return connection.close()
        if not isinstance(message, Hello):
            return connection.refuse(f"its first message was no hello; {STRANGER}")
        refusal = self._judge(connection, message)
        if refusal is not None:
            connection.say(refusal)
            return connection.refuse(refusal.reason)
        return self._accept(connection, message.replica)

    def received(self, connection: Connection, message: AnyMessage, payload: memoryview) -> None:
        """A message of an accepted peer."""
        if connection.peer is not None and not isinstance(message, Ping):
            self._receiver.received(connection.peer, message, payload)

    def drained(self, connection: Connection) -> None:
        """The write buffer has room again."""
        if connection.peer is not None:
            self._receiver.drained(connection.peer)

    def lost(self, connection: Connection) -> None:
        """A socket closed, for whatever reason."""
        self._greeting.discard(connection)
        self._forget(connection)
        if connection.dialled is not None:
            self._dial_soon(connection.dialled, 0.0 if connection.peer is not None else DIAL_PAUSE_REFUSED_S)

    def refused(self, connection: Connection, reason: str) -> None:
        """Log the one sentence; the same sentence about the same host is not repeated."""
        host = connection.remote()
        self._tell(host, f"refused a connection with {host}: {reason}")

    # Within.

    def _judge(self, connection: Connection, hello: Hello) -> Refusal | None:
        if connection.dialled is not None and hello.replica != connection.dialled:
            found = (
                f"expected replica {connection.dialled}, found {hello.replica[:80]!r}: check its address in cluster.yml"
            )
            return Refusal(found, hello.incarnation, False)
        if self._security is not None and not self._security.authorise(connection.certificate(), hello.replica):
            return Refusal(
                f"its certificate does not stand for replica {hello.replica}"[:200], hello.incarnation, False
            )
        return self._handshake.judge(hello)

    def _forget(self, connection: Connection) -> None:
        """A connection counts no longer, if it still did."""
        peer = connection.peer
        if peer is not None and self._connections.get(peer) is connection:
            del self._connections[peer]
            self._receiver.disconnected(peer)

    def _accept(self, connection: Connection, peer: str) -> None:
        before = self._connections.get(peer)
        if before is not None:
            before.abort()
            self._forget(before)  # not `lost`: dialling again would replace this one in turn, for ever
        self._greeting.discard(connection)
        if connection.dialled is None:
            connection.say(self._handshake.hello())
        connection.peer = peer
        self._connections[peer] = connection
        self._told.pop(peer, None)
        self._receiver.connected(peer)

    def _greeting_over(self, connection: Connection) -> None:
        if connection in self._greeting:
            connection.refuse(f"it did not introduce itself in time; {STRANGER}")

    def _dial_soon(self, peer: str, pause_s: float = 0.0) -> None:
        before = self._dialing.get(peer)
        if not self._stopped and peer not in self._connections and (before is None or before.done()):
            self._dialing[peer] = self._loop.create_task(self._dial(peer, pause_s))

    async def _dial(self, peer: str, pause_s: float) -> None:
        address = self._addresses[peer]
        context = None if self._security is None else self._security.client
        server_name = None if context is None else address.host
        while True:
            await asyncio.sleep(pause_s)
            pause_s = DIAL_PAUSE_S
            connection = Connection(self, peer)
            try:
                async with asyncio.timeout(DIAL_S_MAX):
                    await self._loop.create_connection(
                        lambda made=connection: made,
                        address.host,
                        address.port,
                        ssl=context,
                        server_hostname=server_name,
                    )
            except ssl.SSLError as error:
                self._tell(peer, f"replica {peer} and this one cannot agree on TLS: {error.reason}")
            except (OSError, TimeoutError):
                connection.abort()  # the deadline may pass just after the socket has opened
            if connection.is_open or peer in self._connections:
                return

    def _ping(self) -> None:
        now = self._loop.time()
        for connection in list(self._connections.values()):
            if now - connection.heard_at_s > SILENCE_S_MAX:
                connection.abort()
            else:
                connection.say(Ping())
        self._pinging = self._loop.call_later(PING_EVERY_S, self._ping)

    def _tell(self, about: str, sentence: str) -> None:
        if self._told.get(about) != sentence:
            if len(self._told) > GREETING_CONNECTIONS_MAX:
                self._told.clear()
            self._told[about] = sentence
            log.warning(sentence)


def tune(raw: socket.socket | None) -> None:
    """No Nagle, and buffers that hold several records."""
    if raw is None or raw.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
