"""A replica's end of its links: takes calls, hands them to the servicers that gRPC has too, sends their answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias, cast

from engine.config import split_address
from engine.exit_codes import EngineStopped, ExitCode
from engine.rpc.faults import CallFailed, fate_unknown, status_of
from engine.rpc.link_frames import (
    CANCEL,
    METHODS,
    FrameProtocol,
    Kind,
    LinkBroken,
    Metadata,
    Request,
    decode_request,
    encode_answer,
    request_data_at,
)
from engine.rpc.server import Calls, Unary

LOG: Final = logging.getLogger(__name__)

LINKS_MAX: Final = 256
"""More connections than this are closed at once: routers and couriers have one each."""
GREETING_S_MAX: Final = 2.0
PACKED_FIELD_HEAD_BYTES: Final = 4


class LinkContext:
    """What a servicer asks of a call that came by link."""

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        self._loop, self._metadata, self._peer = loop, request.metadata, peer
        self._until_s = loop.time() + request.left_ms / 1000

    def time_remaining(self) -> float:
        """Seconds until the caller's deadline."""
        left_s = self._until_s - self._loop.time()
        return left_s if left_s > 0.0 else 0.0

    def invocation_metadata(self) -> Metadata:
        """What the caller said beside the request."""
        return self._metadata

    def peer(self) -> str:
        """Where the call came from."""
        return self._peer


_Method: TypeAlias = Callable[[memoryview, LinkContext], Awaitable[bytes]]


class LinkServer:
    """Serves some methods on one address, or nowhere without one."""

    def __init__(self, address: str | None, greets_with: bytes, methods: Mapping[str, Unary], calls: Calls) -> None:
        """Nothing listens before `start`. `methods` raise `CallFailed`, and no other way of failing."""
        self._address, self.greets_with, self.calls = address, greets_with, calls
        # Whoever reads a request takes a buffer for bytes, and a link has all of gRPC's context that is asked.
        self.methods = tuple(cast(_Method, methods[name]) for name in METHODS)
        self.links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises `EngineStopped` (ADDRESS_IN_USE)."""
        if self._address is None:
            return
        host, port = split_address(self._address)
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: _Link(self), host, port)
        except OSError as error:
            message = f"{self._address} is in use or not an address of this machine; free it, or name another one"
            raise EngineStopped(ExitCode.ADDRESS_IN_USE, message) from error

    async def stop(self, grace_s: float) -> None:
        """Take no new links; let the calls that run end within `grace_s`."""
        if self._server is None:
            return
        self._server.close()
        running = [task for link in self.links for task in link.running]
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for link in list(self.links):
            link.close()
        await self._server.wait_closed()


class _Link(FrameProtocol):
    """One caller's connection."""

    def __init__(self, server: LinkServer) -> None:
        super().__init__(server.greets_with)
        self._server = server
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._peer = ""
        self._ungreeted: asyncio.TimerHandle | None = None

    @property
    def running(self) -> list["asyncio.Task[None]"]:
        """The calls that are being served."""
        return list(self._calls.values())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it in, unless there are too many."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self._peer = f"ipv4:{name[0]}:{name[1]}" if isinstance(name, tuple) else "link"
        self._ungreeted = self._loop.call_later(GREETING_S_MAX, self.abort)
        self._server.links.add(self)
        if len(self._server.links) > LINKS_MAX:
            LOG.warning("a link was refused: there are %s, as many as may", LINKS_MAX)
            self.abort()

    def greeted(self) -> None:
        """It is a router's, or a courier's."""
        if self._ungreeted is not None:
            self._ungreeted.cancel()

    def broken(self, reason: str) -> None:
        """Say so once, and go on without it."""
        LOG.warning("a link from %s was closed: %s", self._peer, reason)

    def lost(self) -> None:
        """Nobody waits for what runs: as if each call had been cancelled."""
        self.greeted()
        self._server.links.discard(self)
        for task in self.running:
            task.cancel()

    def pause_writing(self) -> None:
        """A caller that does not read its answers gets no more calls served."""
        super().pause_writing()
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self.transport is not None:
            self.transport.resume_reading()

    def payload_at(self, start: memoryview) -> int:
        """A large request is mostly one field of packed records: behind its tag, and its length in three bytes."""
        return request_data_at(start) + PACKED_FIELD_HEAD_BYTES

    def frame(self, frame: memoryview) -> None:
        """Begin to serve a call, or give one up."""
        request = decode_request(frame)
        if request.method == CANCEL:
            running = self._calls.get(request.call)
            if running is not None:
                running.cancel()
            return
        if request.method >= len(self._server.methods) or request.call in self._calls:
            raise LinkBroken(f"call {request.call} asks for method {request.method}: it is of another release")
        context = LinkContext(request, self._loop, self._peer)
        behaviour = self._server.methods[request.method]
        self._calls[request.call] = self._loop.create_task(self._serve(request, behaviour, context))

    async def _serve(self, request: Request, behaviour: _Method, context: LinkContext) -> None:
        kind = Kind.FAULT
        try:
            self._server.calls.enter()
            try:
                data = await behaviour(request.data, context)
                kind = Kind.ANSWER
            finally:
                self._server.calls.leave()
        except CallFailed as failed:
            data = status_of(failed.fault).SerializeToString()
        except Exception:
            LOG.exception("a call by link failed")
            data = status_of(fate_unknown("the replica met a bug; ask again with the same ids")).SerializeToString()
        finally:
            del self._calls[request.call]
        self.write(encode_answer(request.call, kind, data), data)
