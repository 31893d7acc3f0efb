"""A router's or courier's end of the links to one group's replicas. Where there is no link, gRPC does."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from google.rpc.status_pb2 import Status

from engine.config import split_address
from engine.rpc.faults import Fault, fault_of
from engine.rpc.link_frames import (
    CANCEL,
    METHODS,
    FrameProtocol,
    Kind,
    Metadata,
    decode_answer,
    encode_request,
)

LOG: Final = logging.getLogger(__name__)

DIAL_S_MAX: Final = 1.0
DIAL_PAUSE_S_MIN: Final = 0.05
DIAL_PAUSE_S_MAX: Final = 1.0
SILENT_S_MAX: Final = 4.0
"""A replica from which a link has heard nothing for so long, while calls wait, is stopped or gone."""
_METHOD_NUMBERS: Final = {name: number for number, name in enumerate(METHODS)}
_CALLS: Final = 1 << 32


class LinkFailed(Exception):
    """A call has no answer: the replica's fault says why, or nobody knows what became of it."""

    def __init__(self, fault: Fault | None) -> None:
        super().__init__("the link was lost" if fault is None else fault.message)
        self.fault = fault


class Links:
    """The links to the replicas of one group, each dialled when it is first wanted, and again once it is lost."""

    def __init__(self, greets_with: bytes, addresses: Mapping[str, str]) -> None:
        """`addresses`: of a replica's link, by the address of its API."""
        self._greeting, self._addresses = greets_with, dict(addresses)
        self._links: dict[str, _Link] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}

    def ready(self, address: str, method: str) -> "_Link | None":
        """Return the link to a replica if `method` can go by it now; dial it if it is not there."""
        if address not in self._addresses or method not in _METHOD_NUMBERS:
            return None
        link = self._links.get(address)
        if link is None:
            self._dial_soon(address)
        return None if link is None or link.paused else link

    async def close(self) -> None:
        """Close every link."""
        self._addresses.clear()
        for task in self._dialling.values():
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        for link in list(self._links.values()):
            link.close()

    def opened(self, address: str, link: "_Link") -> None:
        """A replica has greeted."""
        self._links[address] = link

    def lost(self, address: str, link: "_Link") -> None:
        """A link is gone; what waited on it has failed."""
        if self._links.get(address) is link:
            del self._links[address]

    def _dial_soon(self, address: str) -> None:
        running = self._dialling.get(address)
        if running is None or running.done():
            self._dialling[address] = asyncio.get_running_loop().create_task(self._dial(address))

    async def _dial(self, address: str) -> None:
        """Try until the replica greets."""
        host, port = split_address(self._addresses[address])
        pause_s = DIAL_PAUSE_S_MIN
        while True:
            link = _Link(self, address, self._greeting)
            try:
                async with asyncio.timeout(DIAL_S_MAX):
                    await asyncio.get_running_loop().create_connection(lambda made=link: made, host, port)  # type: ignore[misc]
                    await link.settled
            except (OSError, TimeoutError):
                link.abort()
            if address in self._links:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, DIAL_PAUSE_S_MAX)


class _Link(FrameProtocol):
    """One connection to one replica."""

    def __init__(self, links: Links, address: str, greets_with: bytes) -> None:
        super().__init__(greets_with)
        self._links, self._address = links, address
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last_call = 0
        self.settled: asyncio.Future[None] = self._loop.create_future()
        """Resolved once the replica has greeted, or the connection is gone."""

    async def call(self, method: str, request: bytes, timeout_s: float, metadata: Metadata) -> bytes:
        """Send once and return the answer's bytes; raises `LinkFailed`."""
        self._last_call = call = (self._last_call + 1) % _CALLS
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[call] = answer
        left_ms = int(timeout_s * 1000)
        self.write(encode_request(call, _METHOD_NUMBERS[method], left_ms, metadata, request), request)
        expiry = self._loop.call_later(timeout_s, self._expired, answer, self._loop.time())
        try:
            return await answer
        finally:
            expiry.cancel()
            if self._waiting.pop(call, None) is not None:  # nobody waits any more: what is not logged need not be
                self.write(encode_request(call, CANCEL, 0, (), b""), b"")

    def greeted(self) -> None:
        """Calls may go this way."""
        self._links.opened(self._address, self)
        self._settle()

    def frame(self, frame: memoryview) -> None:
        """Hand an answer to whom it belongs."""
        answer = decode_answer(frame)
        waiting = self._waiting.pop(answer.call, None)
        if waiting is None or waiting.done():
            return
        if answer.kind is Kind.ANSWER:
            waiting.set_result(answer.data)
        else:
            waiting.set_exception(LinkFailed(fault_of(Status.FromString(answer.data))))

    def broken(self, reason: str) -> None:
        """The address is somebody else's."""
        LOG.warning("what answers at the link of the replica at %s is not it: %s", self._address, reason)

    def lost(self) -> None:
        """What became of the calls on their way is unknown."""
        self._links.lost(self._address, self)
        self._settle()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(LinkFailed(None))

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

    def _expired(self, answer: "asyncio.Future[bytes]", sent_s: float) -> None:
        if not answer.done():
            answer.set_exception(LinkFailed(None))
        if self._loop.time() - max(self.heard_at_s, sent_s) > SILENT_S_MAX:
            self.abort()
