"""One socket between two replicas: frames in, frames out. A thin mechanical shell; who may speak is not decided here.

A large frame is received straight into the buffer in which its records will live; small ones are copied out of a
fixed buffer. Before the peer has introduced itself, nothing larger than a hello is kept.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, cast

from engine.replication.transport.frames import (
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    PREFIX,
    Buffer,
    FrameRefused,
    Prefix,
    decode_header,
    encode_frame,
    parse_prefix,
)
from engine.replication.transport.messages import AnyMessage

RECEIVE_BYTES: Final = 64 << 10
WRITE_BUFFER_BYTES: Final = 8 << 20
"""More than this not yet taken by the kernel, and the peer counts as not writable."""
LARGE_FRAME_BYTES: Final = RECEIVE_BYTES // 2
JOIN_BYTES_MAX: Final = 4096
"""Smaller buffers are joined before a write; larger ones go as they are."""
STRANGER: Final = "let nobody but this group's replicas, all of one release, reach the peer port"
DAMAGED: Final = "it is dialled again; if this goes on, check the network and the memory of both machines"


class Owner(Protocol):
    """What a connection tells its transport."""

    def made(self, connection: "Connection") -> None:
        """The socket is open."""

    def greeted(self, connection: "Connection", message: AnyMessage) -> None:
        """The first frame arrived."""

    def received(self, connection: "Connection", message: AnyMessage, payload: memoryview) -> None:
        """A later frame arrived."""

    def drained(self, connection: "Connection") -> None:
        """Its write buffer has room again."""

    def refused(self, connection: "Connection", reason: str) -> None:
        """The connection is being closed for `reason`."""

    def lost(self, connection: "Connection") -> None:
        """The socket is closed."""


class Connection(asyncio.BufferedProtocol):
    """`dialled` is the replica that we called, None for a connection that we accepted; `peer` is set once accepted."""

    def __init__(self, owner: Owner, dialled: str | None) -> None:
        """Made by the loop's connection factory."""
        self.dialled = dialled
        self.peer: str | None = None
        self.paused = False
        self.heard_at_s = 0.0
        self._owner = owner
        self._now = asyncio.get_running_loop().time
        self._socket: asyncio.Transport | None = None
        self._small = memoryview(bytearray(RECEIVE_BYTES))
        self._filled = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._outgoing: list[Buffer] = []
        self._closing = False

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._socket = cast(asyncio.Transport, transport)
        self.heard_at_s = self._now()
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._owner.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._closing = True
        self._outgoing.clear()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.paused = False
        self._owner.drained(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._small[self._filled :] if self._large is None else self._large[self._large_filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        self.heard_at_s = self._now()
        try:
            if self._large is None:
                self._filled += nbytes
                self._take_frames()
            else:
                self._fill_large(nbytes)
        except FrameRefused as refused:
            self.refuse(f"{refused}; {STRANGER if self.peer is None else DAMAGED}")

    # Called by the transport.

    def say(self, message: AnyMessage) -> None:
        """Send one message at once: greetings and pings."""
        self.write(encode_frame(message), ())
        self.flush()

    def write(self, head: bytes, payload: Sequence[Buffer]) -> None:
        """Queue one frame until `flush`."""
        self._outgoing.append(head)
        self._outgoing.extend(payload)

    def flush(self) -> None:
        """Hand what is queued to the socket: one write."""
        if not self._outgoing or self._socket is None:
            return
        outgoing, self._outgoing = self._outgoing, []
        if not self._closing:
            self._socket.writelines(joined(outgoing))

    def refuse(self, reason: str) -> None:
        """Close, with one sentence in the log."""
        if not self._closing:
            self._owner.refused(self, reason)
            self.close()

    def close(self) -> None:
        """Close once what was written has left."""
        self._closing = True
        if self._socket is not None:
            self._socket.close()

    def abort(self) -> None:
        """Close now."""
        self._closing = True
        if self._socket is not None:
            self._socket.abort()

    @property
    def is_open(self) -> bool:
        """Whether the socket has opened and nobody has closed it."""
        return self._socket is not None and not self._closing

    def raw_socket(self) -> socket.socket | None:
        """The socket, to set options on."""
        return None if self._socket is None else self._socket.get_extra_info("socket")

    def remote(self) -> str:
        """The other end's address, for people."""
        name = None if self._socket is None else self._socket.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else "a closed socket"

    def certificate(self) -> Mapping[str, Any]:
        """The peer's certificate under TLS, else an empty mapping."""
        return {} if self._socket is None else self._socket.get_extra_info("peercert") or {}

    # Within.

    def _take_frames(self) -> None:
        start = 0
        while self._filled - start >= PREFIX.size and not self._closing:
            length_max = HELLO_BYTES_MAX if self.peer is None else FRAME_BYTES_MAX
            prefix = parse_prefix(self._small, start, length_max)
            end = start + PREFIX.size + prefix.length
            if end > self._filled:
                if end - start > LARGE_FRAME_BYTES:
                    return self._begin_large(start, end)
                break
            self._handle(memoryview(bytes(self._small[start:end])), prefix)
            start = end
        return self._keep_rest(start)

    def _keep_rest(self, start: int) -> None:
        rest = self._filled - start
        if start and rest:
            self._small[:rest] = bytes(self._small[start : self._filled])
        self._filled = rest

    def _begin_large(self, start: int, end: int) -> None:
        self._large = memoryview(bytearray(end - start))
        self._large_filled = self._filled - start
        self._large[: self._large_filled] = self._small[start : self._filled]
        self._filled = 0

    def _fill_large(self, nbytes: int) -> None:
        self._large_filled += nbytes
        if self._large is not None and self._large_filled == len(self._large):
            frame, self._large = self._large, None
            self._handle(frame, parse_prefix(frame, 0, FRAME_BYTES_MAX))

    def _handle(self, frame: memoryview, prefix: Prefix) -> None:
        header_end = PREFIX.size + prefix.header_length
        message = decode_header(frame[PREFIX.size : header_end], prefix)
        if self.peer is None:
            self._owner.greeted(self, message)
        else:
            self._owner.received(self, message, frame[header_end:])


def joined(buffers: list[Buffer]) -> list[Buffer]:
    """Join neighbouring small buffers: a system call per buffer costs more than the copy."""
    result: list[Buffer] = []
    small: list[Buffer] = []
    for buffer in buffers:
        if len(buffer) < JOIN_BYTES_MAX:
            small.append(buffer)
            continue
        if small:
            result.append(b"".join(small))
            small.clear()
        result.append(buffer)
    if small:
        result.append(b"".join(small))
    return result
