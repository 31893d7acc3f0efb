"""Posting through the router: place, send to each group, put the answers together."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.message import DecodeError

from engine.config import LimitsConfig
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault, Reason
from engine.rpc.group_client import ELSEWHERE, Metadata
from postingengine.v1 import posting_service_pb2
from router.batches import Part, cut, join
from router.calls import ServerContext, caller_of, deadline_of
from router.directory import Directory

POST_TRANSFERS: Final = "/postingengine.v1.PostingService/PostTransfers"
AGAIN: Final = ELSEWHERE | {Reason.FATE_UNKNOWN}
RETRY_PAUSE_S: Final = 0.02
RETRY_RESERVE_S: Final = 0.05
"""An answer with faults is better than none: no further try in the last moments before the deadline."""

Request = posting_service_pb2.PostTransfersRequest
Response = posting_service_pb2.PostTransfersResponse


class Posting:
    """PostTransfers and StreamTransfers."""

    def __init__(self, directory: Directory, limits: LimitsConfig) -> None:
        """Send through the groups of `directory`."""
        self._directory, self._limits = directory, limits

    async def post_transfers(self, request: bytes, context: ServerContext) -> bytes:
        """Serve PostTransfers on the wire's own bytes."""
        deadline_s = deadline_of(context, self._limits.post_deadline_ms_default)
        return await self._post(request, deadline_s, caller_of(context))

    async def stream_transfers(self, requests: AsyncIterator[bytes], context: ServerContext) -> AsyncIterator[bytes]:
        """Serve StreamTransfers: batches side by side, a bounded number at a time, answered as they end."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        free = asyncio.Semaphore(self._limits.stream_batches_in_flight_max)
        caller = caller_of(context)

        async def read() -> None:
            running = set()
            async for request in requests:
                await free.acquire()
                task = asyncio.create_task(self._stream_batch(request, caller))
                running.add(task)
                task.add_done_callback(answers.put_nowait)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
            answers.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (task := await answers.get()) is not None:
                yield task.result()
                free.release()  # not before: a caller that does not read its answers must not fill the queue
        finally:
            reader.cancel()

    async def _stream_batch(self, request: bytes, caller: Metadata) -> bytes:
        batch = posting_service_pb2.StreamTransfersRequest()
        answer = posting_service_pb2.StreamTransfersResponse()
        deadline_s = time.monotonic() + self._limits.post_deadline_ms_default / 1000
        try:
            batch.ParseFromString(request)
            answer.batch_number = batch.batch_number
            answer.results.ParseFromString(await self._post(batch.batch.SerializeToString(), deadline_s, caller))
        except DecodeError:
            answer.fault.CopyFrom(faults.status_of(_unreadable()))
        except CallFailed as failed:
            answer.fault.CopyFrom(faults.status_of(failed.fault))
        return answer.SerializeToString()

    async def _post(self, request: bytes, deadline_s: float, caller: Metadata) -> bytes:
        placement = self._directory.placement
        if placement.single is not None:
            return await self._send(placement.single, request, deadline_s, caller)
        try:
            whole = Request.FromString(request)
        except DecodeError as error:
            raise CallFailed(_unreadable()) from error
        parts = cut(whole, placement)
        if len(parts) == 1:
            return await self._send(parts[0].group, request, deadline_s, caller)
        answers = await asyncio.gather(*(self._send_part(part, deadline_s, caller) for part in parts))
        return join(whole, parts, answers).SerializeToString()

    async def _send_part(self, part: Part, deadline_s: float, caller: Metadata) -> Response | Fault:
        try:
            return Response.FromString(
                await self._send(part.group, part.request.SerializeToString(), deadline_s, caller)
            )
        except CallFailed as failed:
            return failed.fault

    async def _send(self, group: int, request: bytes, deadline_s: float, caller: Metadata) -> bytes:
        """Send until no item's fate is open, or the deadline is near; what was posted meanwhile comes back REPLAYED."""
        client = self._directory.client(group)
        while True:
            answer = await client.call(POST_TRANSFERS, request, deadline_s, caller)
            if not _has_open_items(Response.FromString(answer)):
                return answer
            if time.monotonic() + RETRY_PAUSE_S + RETRY_RESERVE_S >= deadline_s:
                return answer
            await asyncio.sleep(RETRY_PAUSE_S)
            request = _next_attempt(request)


def _has_open_items(answer: Response) -> bool:
    statuses = [one.status for one in answer.faults]
    statuses += [one.fault for one in answer.results if one.WhichOneof("answer") == "fault"]
    found = [faults.fault_of(status) for status in statuses]
    return any(one is not None and one.reason in AGAIN for one in found)


def _next_attempt(request: bytes) -> bytes:
    again = Request.FromString(request)
    again.attempt = max(again.attempt, 1) + 1
    return again.SerializeToString()


def _unreadable() -> Fault:
    return faults.invalid(Reason.BATCH_UNREADABLE, "the request is not a readable protobuf message of this call")
