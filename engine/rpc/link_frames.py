"""The bytes of a link: calls of the hot path between a router (or a courier) and a replica, on a socket of our own.

Both sides greet with `GREETING`; whoever finds another one closes. Then frames, little-endian::

    length    u32   bytes behind it
    call      u32   the caller's number of this call; its answer carries the same
    request:  method u8 (`METHODS`, or `CANCEL`), metadata bytes u16, time left ms u32, metadata (msgpack), request
    answer:   kind u8 (`Kind`), then the answer's bytes, or a serialised `google.rpc.Status`

The requests and answers are those of gRPC, byte for byte; gRPC serves the same methods to everybody else
(docs/decisions/0013).
"""

import asyncio
import socket
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final, cast

import msgspec
import numpy as np

POST_TRANSFERS: Final = "/postingengine.v1.PostingService/PostTransfers"
STEP: Final = "/engine.peer.v1.PeerService/Step"
METHODS: Final = (POST_TRANSFERS, STEP)
"""What goes by link, by number: append, never renumber."""
CANCEL: Final = 255
"""Instead of a method: nobody waits for this call any more."""
FRAME_BYTES_MAX: Final = 4 << 20
"""As much as a node takes by gRPC."""
RECEIVE_BYTES: Final = 64 << 10
LARGE_FRAME_BYTES: Final = RECEIVE_BYTES // 2
WRITE_BUFFER_BYTES: Final = 8 << 20
"""More than this not yet taken by the kernel, and the other side counts as not reading."""
SOCKET_BUFFER_BYTES: Final = 4 << 20
UNANSWERED_MS_MAX: Final = 5000
"""What the other machine's kernel has not acknowledged for so long: the machine is gone."""

METADATA_KEPT: Final = 256
"""A router says the same beside each request of a caller; of so many both sides know the bytes."""

Metadata = tuple[tuple[str, str | bytes], ...]

GREETING: Final = struct.Struct("<8sI32s")
_ALIGNMENT: Final = 8
_MAGIC: Final = b"PE-LINK1"
_LENGTH: Final = struct.Struct("<I")
_REQUEST: Final = struct.Struct("<IIBHI")
_ANSWER: Final = struct.Struct("<IIB")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = lru_cache(METADATA_KEPT)(msgspec.msgpack.Decoder(tuple[tuple[str, str], ...]).decode)


class LinkBroken(ValueError):
    """The other side does not speak this protocol: one sentence for the log, and the connection is closed."""


class Kind(IntEnum):
    """What an answer is."""

    ANSWER = 0
    FAULT = 1


_KINDS: Final = tuple(Kind)


class Request(msgspec.Struct, frozen=True):
    """A call as it arrives."""

    call: int
    method: int
    left_ms: int
    metadata: Metadata
    data: memoryview


class Answer(msgspec.Struct, frozen=True):
    """What came back of a call."""

    call: int
    kind: Kind
    data: bytes


def greeting(cluster_id: str, group: int) -> bytes:
    """Return what both sides of a link to a replica of `group` say first."""
    return GREETING.pack(_MAGIC, group, cluster_id.encode())


def encode_request(call: int, method: int, left_ms: int, metadata: Metadata, data: bytes) -> bytes:
    """Return the head of a request; `data` goes behind it as it is. Only metadata of text travels."""
    encoded = _encoded(metadata)
    length = _REQUEST.size - _LENGTH.size + len(encoded) + len(data)
    return _REQUEST.pack(length, call, method, len(encoded), left_ms) + encoded


def request_data_at(start: memoryview) -> int:
    """Return where the request itself lies in a frame of which this is the start; 0 if that is too short to say."""
    return _REQUEST.size + _REQUEST.unpack_from(start)[3] if len(start) >= _REQUEST.size else 0


def decode_request(frame: memoryview) -> Request:
    """Read a request; raises `LinkBroken`."""
    if len(frame) < _REQUEST.size:
        raise LinkBroken(f"a request of {len(frame)} bytes is shorter than its head")
    _, call, method, metadata_bytes, left_ms = _REQUEST.unpack_from(frame)
    data_at = _REQUEST.size + metadata_bytes
    try:
        metadata: Metadata = _decode(bytes(frame[_REQUEST.size : data_at])) if metadata_bytes else ()
    except msgspec.DecodeError as error:
        raise LinkBroken(f"a request's metadata cannot be read: {error}") from error
    return Request(call, method, left_ms, metadata, frame[data_at:])


def encode_answer(call: int, kind: Kind, data: bytes) -> bytes:
    """Return the head of an answer; `data` goes behind it as it is."""
    return _ANSWER.pack(_ANSWER.size - _LENGTH.size + len(data), call, kind)


def decode_answer(frame: memoryview) -> Answer:
    """Read an answer; raises `LinkBroken`."""
    if len(frame) < _ANSWER.size:
        raise LinkBroken(f"an answer of {len(frame)} bytes is shorter than its head")
    _, call, kind = _ANSWER.unpack_from(frame)
    if kind >= len(_KINDS):
        raise LinkBroken(f"an answer of kind {kind} is of another release")
    return Answer(call, _KINDS[kind], bytes(frame[_ANSWER.size :]))


@lru_cache(METADATA_KEPT)
def _encoded(metadata: Metadata) -> bytes:
    return _encode([pair for pair in metadata if isinstance(pair[1], str)]) if metadata else b""


class FrameProtocol(asyncio.BufferedProtocol):
    """One socket of a link: the greeting, then frames in and out. What they mean is the subclass's business.

    A large frame is received straight into a buffer of its own; small ones are copied out of a fixed one.
    """

    def __init__(self, greets_with: bytes) -> None:
        """Made by the loop's connection factory."""
        self.paused = False
        self.heard_at_s = 0.0
        self._greeting, self._greeted = greets_with, False
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._small = memoryview(bytearray(RECEIVE_BYTES))
        self._large: memoryview | None = None
        self._filled = 0

    # -- what a subclass fills in

    def greeted(self) -> None:
        """The other side is who it should be."""

    def frame(self, frame: memoryview) -> None:
        """One whole frame, its length included; raises `LinkBroken`."""

    def payload_at(self, start: memoryview) -> int:
        """Return where in a large frame, of which this is the start, something lies that should be aligned."""
        return 0

    def broken(self, reason: str) -> None:
        """The other side is no link of ours, for `reason`; the connection is closed."""

    def lost(self) -> None:
        """The socket is closed."""

    # -- for subclasses

    def write(self, head: bytes, data: bytes) -> None:
        """Send one frame."""
        if self._transport is None:
            return
        if len(data) <= LARGE_FRAME_BYTES:
            self._transport.write(head + data)
        else:
            self._transport.write(head)
            self._transport.write(data)

    def close(self) -> None:
        """Close once what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The socket's transport, while there is one."""
        return self._transport

    # -- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.heard_at_s = self._loop.time()
        _tune(self._transport.get_extra_info("socket"))
        self._transport.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._transport = None
        self.lost()

    def pause_writing(self) -> None:
        """The other side does not read."""
        self.paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self.paused = False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return (self._small if self._large is None else self._large)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        self.heard_at_s = self._loop.time()
        self._filled += nbytes
        try:
            if self._large is None:
                self._take_small()
            elif self._filled == len(self._large):
                whole, self._large, self._filled = self._large, None, 0
                self.frame(whole)
        except LinkBroken as broken:
            self.abort()
            self.broken(str(broken))

    # -- within

    def _take_small(self) -> None:
        at = 0 if self._greeted else self._take_greeting()
        while self._greeted and self._filled - at >= _LENGTH.size:
            size = _LENGTH.size + _LENGTH.unpack_from(self._small, at)[0]
            if size > FRAME_BYTES_MAX:
                raise LinkBroken(f"a frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}")
            if at + size > self._filled:
                if size > LARGE_FRAME_BYTES:
                    return self._begin_large(at, size)
                break
            self.frame(memoryview(bytes(self._small[at : at + size])))
            at += size
        rest = self._filled - at
        if at and rest:
            self._small[:rest] = bytes(self._small[at : self._filled])
        self._filled = rest
        return None

    def _take_greeting(self) -> int:
        if self._filled < GREETING.size:
            return 0
        if self._small[: GREETING.size] != self._greeting:
            raise LinkBroken("it is no link to this group: compare the cluster.yml of both sides")
        self._greeted = True
        self.greeted()
        return GREETING.size

    def _begin_large(self, at: int, size: int) -> None:
        room = np.empty(size + _ALIGNMENT, np.uint8)  # not a bytearray: that would be filled with zeros first
        first = -(room.ctypes.data + self.payload_at(self._small[at : self._filled])) % _ALIGNMENT
        self._large = room[first : first + size].data
        rest = self._filled - at
        self._large[:rest] = self._small[at : self._filled]
        self._filled = rest


def _tune(raw: socket.socket | None) -> None:
    """No Nagle, room for several batches, and an end to connections to machines that are gone."""
    if raw is None or raw.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX)
