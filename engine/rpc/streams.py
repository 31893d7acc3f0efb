"""StreamTransfers: batches in a pipeline over one call, bounded in flight, answered as they are ready."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from engine.rpc.batch import encode_varint, read_fields
from engine.rpc.faults import CallFailed, Reason, invalid, status_of
from engine.rpc.server import Context
from postingengine.v1.posting_service_pb2 import StreamTransfersRequest, StreamTransfersResponse

_NUMBER_TAG: Final = 0x08
_BATCH_TAG: Final = 0x12
_RESULTS_TAG: Final = b"\x12"

PostBatch = Callable[[bytes], Awaitable[bytes]]
"""A serialised `PostTransfersRequest` in, a serialised `PostTransfersResponse` out; raises `CallFailed`."""


class NumberedBatch(NamedTuple):
    """One message of the stream."""

    number: int
    batch: bytes


async def serve_stream(context: Context, post: PostBatch, in_flight_max: int) -> None:
    """Read batches while fewer than `in_flight_max` wait for their answers; write each answer as it comes.

    A batch that fails as a whole is answered with its status, and the stream goes on.
    """
    places, writing = asyncio.Semaphore(in_flight_max), asyncio.Lock()
    async with asyncio.TaskGroup() as answering:
        while True:
            await places.acquire()
            data = await context.read()
            if not isinstance(data, bytes):  # gRPC's mark of the end
                break
            numbered = read_numbered_batch(data)
            answering.create_task(_answer(context, post, numbered, places, writing))


def read_numbered_batch(data: bytes) -> NumberedBatch:
    """Read one message without parsing the batch; raises `CallFailed` (INVALID_ARGUMENT)."""
    fields = read_fields(data, {_NUMBER_TAG, _BATCH_TAG})
    if fields is not None:
        number, batch = fields.get(_NUMBER_TAG, 0), fields.get(_BATCH_TAG, b"")
        if isinstance(number, int) and not isinstance(batch, int):
            return NumberedBatch(number & (1 << 64) - 1, bytes(batch))
    try:
        request = StreamTransfersRequest.FromString(data)
    except DecodeError as error:
        message = "a message of the stream is not a StreamTransfersRequest"
        raise CallFailed(invalid(Reason.BATCH_UNREADABLE, message)) from error
    return NumberedBatch(request.batch_number, request.batch.SerializeToString())


async def _answer(
    context: Context, post: PostBatch, numbered: NumberedBatch, places: asyncio.Semaphore, writing: asyncio.Lock
) -> None:
    try:
        response = await post(numbered.batch)
        answer = _with_results(numbered.number, response)
    except CallFailed as failed:
        fault = status_of(failed.fault)
        answer = StreamTransfersResponse(batch_number=numbered.number, fault=fault).SerializeToString()
    async with writing:  # gRPC takes one write at a time
        await context.write(answer)
    places.release()


def _with_results(number: int, response: bytes) -> bytes:
    head = b"\x08" + encode_varint(number) if number else b""
    return b"".join((head, _RESULTS_TAG, encode_varint(len(response)), response))
