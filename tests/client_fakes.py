"""A posting service without an engine: real gRPC on a real port, every call recorded, every failure on command."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from engine.core.known import NO_POSITION
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault
from engine.rpc.server import Calls, Service, method_handlers
from engine.rpc.streams import NumberedBatch, Streams
from postingengine.results import PACKED_RESULT
from postingengine.transfers import RECORD_BYTES
from postingengine.v1 import posting_service_pb2, posting_service_pb2_grpc, types_pb2
from postingengine.v1.fault_pb2 import ItemFault
from postingengine.v1.outcomes import Outcome

Context = grpc.aio.ServicerContext[Any, Any]
TIMESTAMP = 1_700_000_000_000_000_000


class FakePosting(posting_service_pb2_grpc.PostingServiceServicer):
    """Posts everything, once per id; `refuse`, `item_faults` and `call_faults` say otherwise."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        """The records of each PostTransfers call, in order."""
        self.attempts: list[int] = []
        self.stored: dict[bytes, int] = {}
        self.refuse: dict[bytes, Outcome] = {}
        self.item_faults: dict[bytes, deque[Fault]] = {}
        """By id: the faults of its next attempts."""
        self.call_faults: deque[Fault | None] = deque()
        """Of the next calls; None: the call is carried out, and its answer lost."""
        self.ledger_calls = 0
        self.calls_now = self.calls_at_once = 0
        self.gate: Callable[[], Any] | None = None
        """Awaited by each PostTransfers call before it answers."""
        self.timeouts_ms: list[int] = []
        """Of each batch that came by a stream."""
        self.streams_opened = self.streams_ended = 0
        """By their callers, or `Streams.end`; broken ones do not count."""

    async def PostTransfers(  # noqa: N802 - the contract names it
        self, request: posting_service_pb2.PostTransfersRequest, context: Any
    ) -> posting_service_pb2.PostTransfersResponse:
        records = [request.packed[at : at + RECORD_BYTES] for at in range(0, len(request.packed), RECORD_BYTES)]
        self.batches.append(records)
        self.attempts.append(request.attempt)
        self.calls_now += 1
        self.calls_at_once = max(self.calls_at_once, self.calls_now)
        try:
            return await self._serve(records, context)
        finally:
            self.calls_now -= 1

    async def by_stream(self, streams: Streams, context: Context) -> None:
        """Serve StreamTransfers as the engine does."""
        self.streams_opened += 1

        async def post_one(numbered: NumberedBatch) -> bytes:
            self.timeouts_ms.append(numbered.timeout_ms)
            request = posting_service_pb2.PostTransfersRequest.FromString(numbered.batch)
            return (await self.PostTransfers(request, _InStream())).SerializeToString()

        await streams.serve(context, post_one)
        self.streams_ended += 1

    async def _serve(self, records: list[bytes], context: Any) -> posting_service_pb2.PostTransfersResponse:
        if self.gate is not None:
            await self.gate()
        if not self.call_faults:
            return self._answer(records)
        fault = self.call_faults.popleft()
        if fault is None:
            self._answer(records)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
        elif isinstance(context, _InStream):
            raise CallFailed(fault)
        else:
            await faults.abort(context, fault)
        raise AssertionError("abort does not return")

    def _answer(self, records: list[bytes]) -> posting_service_pb2.PostTransfersResponse:
        results, missing = [], []
        for index, record in enumerate(records):
            waiting = self.item_faults.get(record[:16])
            if waiting:
                fault = waiting.popleft()._replace(item=index)
                missing.append(ItemFault(index=index, status=faults.status_of(fault)))
                results.append(PACKED_RESULT.pack(NO_POSITION, 0, 0, 0, 0))
            else:
                results.append(self._post(record[:16]))
        return posting_service_pb2.PostTransfersResponse(
            packed_results=b"".join(results),
            faults=missing,
            log_indexes=[types_pb2.GroupLogIndex(group=0, log_index=len(self.batches))],
        )

    def _post(self, id: bytes) -> bytes:
        replayed = id in self.stored
        position = self.stored.setdefault(id, len(self.stored))
        return PACKED_RESULT.pack(position, TIMESTAMP, self.refuse.get(id, Outcome.POSTED), replayed, 0)

    async def ListLedgers(  # noqa: N802 - the contract names it
        self, request: posting_service_pb2.ListLedgersRequest, context: Context
    ) -> posting_service_pb2.ListLedgersResponse:
        self.ledger_calls += 1
        ledgers = [(1, "EUR", 2), (2, "JPY", 0), (3, "WEI", 18)]
        if not request.page_token:
            return posting_service_pb2.ListLedgersResponse(
                ledgers=[types_pb2.Ledger(ledger=n, code=c, scale=s) for n, c, s in ledgers[:2]], next_page_token="2"
            )
        return posting_service_pb2.ListLedgersResponse(
            ledgers=[types_pb2.Ledger(ledger=n, code=c, scale=s) for n, c, s in ledgers[2:]]
        )


class _InStream:
    """A batch of a stream has no call of its own."""

    async def abort(self, *_: Any) -> None:
        raise CallFailed(faults.fate_unknown("connection lost"))


class ServingStreams:
    """A server of the engine's with StreamTransfers; `async with` starts it and stops it at once."""

    def __init__(self, fake: FakePosting, by_stream: Callable[[Context], Awaitable[None]] | None = None) -> None:
        """`by_stream`: what serves streams instead."""
        calls = Calls(100)
        self.streams = Streams(calls, 16)
        self.PostTransfers, self.ListLedgers = fake.PostTransfers, fake.ListLedgers
        self.StreamTransfers = by_stream or (lambda context: fake.by_stream(self.streams, context))
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        descriptor = posting_service_pb2.DESCRIPTOR.services_by_name["PostingService"]
        handlers = method_handlers(Service(descriptor, self), calls)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(descriptor.full_name, handlers),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> "ServingStreams":
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(0)


@asynccontextmanager
async def serving(fake: FakePosting, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serve a fake; yields host:port."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    posting_service_pb2_grpc.add_PostingServiceServicer_to_server(fake, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
