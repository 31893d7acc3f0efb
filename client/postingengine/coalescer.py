"""Many single posts, few calls: what is submitted in one turn of the loop, or while calls are in flight, goes together.

One unary call costs gRPC some hundred microseconds on each side, a record in a batch next to nothing: packing k
transfers into a call multiplies the rate almost by k. All that waits goes in one call: spread over several calls at a
time, 256 posts in flight cost up to twice the processor time, on both sides, and gained nothing on two cores.
Everything here runs on one event loop's thread.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import grpc
import grpc.aio

from postingengine.batch import Batch, Waiter, fail
from postingengine.endpoints import Endpoint, Endpoints
from postingengine.faults import NotAdmitted, Told, Unavailable, told_by, told_by_error
from postingengine.results import PACKED_RESULT, result_of
from postingengine.retry import ATTEMPT_MAX, ATTEMPT_S_MAX, ATTEMPT_S_MIN, pause_s
from postingengine.stream import REQUEST_BYTES_MAX, NotAnswered
from postingengine.transfers import BATCH_TRANSFERS_MAX, RECORD_BYTES
from postingengine.v1.posting_service_pb2 import PostTransfersResponse
from postingengine.wire import POST_TRANSFERS, packed_request

CALLS_IN_FLIGHT_MAX: Final = 4
QUEUE_TRANSFERS_MAX: Final = 65_536
"""Transfers submitted and not yet answered."""
SWEEP_S: Final = 0.05
"""How often the waiting are looked over for passed deadlines."""

_NO_ANSWER: Final = Told(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer came within the deadline")
_NOT_SENT: Final = Told(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before it could be sent", logged="no")
_QUEUE_FULL: Final = Told(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "the client's own queue stayed full until the deadline", "QUEUE_FULL", "no"
)
CLOSED: Final = Told(grpc.StatusCode.UNAVAILABLE, "the client is closed", "CLIENT_CLOSED", "no")


class Coalescer:
    """Sends rows, packed, in a bounded number of calls; asks again until each has an answer or its deadline passes."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        calls_in_flight_max: int = CALLS_IN_FLIGHT_MAX,
        queue_transfers_max: int = QUEUE_TRANSFERS_MAX,
    ) -> None:
        self._endpoints = endpoints
        self._loop = asyncio.get_running_loop()
        self._calls_max, self._queue_max = calls_in_flight_max, queue_transfers_max
        self._filling = Batch()
        self._ready: deque[Batch] = deque()
        self._again = Batch()
        """Rows whose items failed, waiting together for their next attempt."""
        self._sending: dict[Batch, asyncio.Task[None]] = {}
        self._sender: asyncio.Task[None]
        """The task that was made last: it takes the next batch while `_send_is_due`, then is in `_sending`."""
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._send_is_due = self._resume_is_due = self._sweep_is_due = self._again_is_due = False
        self._closed = False
        self._failures, self._resume_s, self._again_s = 0, 0.0, 0.0
        self._rows = 0
        self.log_indexes: dict[int, int] = {}
        """By group: the highest log index at which an outcome given to this client was applied."""

    @property
    def is_full(self) -> bool:
        """Whether a submission has to wait for room."""
        return self._rows >= self._queue_max

    def submit(self, record: bytes, waiter: Waiter, deadline_s: float) -> None:
        """Take one record; `deadline_s` is on the loop's clock. Raises `Unavailable` once closed."""
        if self._closed:
            raise Unavailable(CLOSED, outcome_unknown=False, attempts=0)
        filling = self._filling
        if len(filling.waiters) >= BATCH_TRANSFERS_MAX:
            filling = self._seal()
        filling.add(record, waiter, deadline_s)
        self._rows += 1
        if not self._send_is_due:
            self._send_soon()

    def submit_chain(self, records: Sequence[bytes], waiters: Sequence[Waiter], deadline_s: float) -> None:
        """Take the records of one chain, at most `BATCH_TRANSFERS_MAX`: they travel together."""
        if self._closed:
            raise Unavailable(CLOSED, outcome_unknown=False, attempts=0)
        filling = self._filling
        if len(filling) + len(records) > BATCH_TRANSFERS_MAX:
            filling = self._seal()
        for record, waiter in zip(records, waiters, strict=True):
            filling.add(record, waiter, deadline_s)
        self._rows += len(records)
        self._send_soon()

    async def room(self, deadline_s: float) -> None:
        """Wait until the queue has room; raises `NotAdmitted` at the deadline."""
        while self.is_full:
            waiting = self._loop.create_future()
            self._waiting_for_room.append(waiting)
            try:
                async with asyncio.timeout_at(deadline_s):
                    await waiting
            except TimeoutError:
                raise NotAdmitted(_QUEUE_FULL, outcome_unknown=False, attempts=0) from None

    def saw(self, log_indexes: Iterable[tuple[int, int]]) -> None:
        """Remember (group, log index) pairs at which outcomes were applied."""
        for group, log_index in log_indexes:
            self.log_indexes[group] = max(log_index, self.log_indexes.get(group, 0))

    async def close(self) -> None:
        """Wait until everything submitted is answered, at the latest by its deadline."""
        self._closed = True
        while self._rows:
            await asyncio.sleep(SWEEP_S / 2)

    def _seal(self) -> Batch:
        """Put the batch that is being filled behind the others; return a new one."""
        self._ready.append(self._filling)
        self._filling = Batch()
        return self._filling

    def _send_soon(self) -> None:
        """Send at the end of this turn of the loop, so that all that is submitted in it goes together."""
        if not self._send_is_due and len(self._sending) < self._calls_max:
            self._send_is_due = True
            self._sender = self._loop.create_task(self._send())
        if not self._sweep_is_due:
            self._sweep_is_due = True
            self._loop.call_later(SWEEP_S, self._sweep)

    def _send_on(self) -> None:
        """Send what is left, if anything is."""
        if self._ready or self._filling.waiters:
            self._send_soon()

    def _is_pausing(self) -> bool:
        """Whether nothing is sent yet, because a call failed; then it is later."""
        if self._loop.time() >= self._resume_s:
            self._resume_s = 0.0
            return False
        if not self._resume_is_due:
            self._resume_is_due = True
            self._loop.call_at(self._resume_s, self._resume)
        return True

    def _resume(self) -> None:
        self._resume_is_due = False
        self._send_on()

    def _next(self) -> Batch | None:
        """Return the next batch in which somebody still waits."""
        while self._ready or self._filling.waiters:
            if not self._ready:
                self._seal()
            batch = self._ready.popleft()
            rest = batch.open_rows()
            if rest is batch:
                return batch
            self._leave(len(batch) - len(rest))
            if rest:
                return rest
        return None

    async def _send(self) -> None:
        """Send the next batch; if that leaves any, another task sends on meanwhile."""
        self._send_is_due = False
        batch = None if self._resume_s and self._is_pausing() else self._next()
        if batch is None:
            return
        self._sending[batch] = self._sender
        self._send_on()
        endpoint = self._endpoints.current
        batch.attempts += 1
        timeout_s = max(min(max(batch.deadlines_s) - self._loop.time(), ATTEMPT_S_MAX), 0.0)
        try:
            request = packed_request(batch.packed, min(batch.attempts, ATTEMPT_MAX))
            stream = endpoint.stream
            if stream is not None and len(request) <= REQUEST_BYTES_MAX:
                self._answered(batch, await stream.post(request, timeout_s))
            else:
                self._answered(batch, await _call(endpoint, request, timeout_s))
        except NotAnswered as failed:
            self._failed(batch, endpoint, failed.told)
        except grpc.aio.AioRpcError as error:
            self._failed(batch, endpoint, told_by_error(error))
        except Exception as error:
            self._failed(batch, endpoint, Told(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}"))
        finally:
            del self._sending[batch]
            self._send_on()

    def _answered(self, batch: Batch, response: PostTransfersResponse) -> None:
        results, ids, at = response.packed_results, bytes(batch.packed), 0
        rows = len(batch.waiters)
        if len(results) != rows * PACKED_RESULT.size:
            raise ValueError(f"{rows} transfers were answered with {len(results)} bytes of results")
        for (position, timestamp, outcome, flags, group), waiter in zip(
            PACKED_RESULT.iter_unpack(results), batch.waiters, strict=True
        ):
            if outcome and not waiter.done():
                waiter.set_result(result_of(ids[at : at + 16], position, timestamp, outcome, flags, group))
            at += RECORD_BYTES
        self._failures = 0
        self.saw([(seen.group, seen.log_index) for seen in response.log_indexes])
        if response.faults:
            rows -= self._items_failed(batch, {fault.index: told_by(fault.status) for fault in response.faults})
        self._leave(rows)

    def _items_failed(self, batch: Batch, told: dict[int, Told]) -> int:
        """Ask again for the chains that it may help; answer the others. Returns how many rows are asked again."""
        retried = 0
        for chain in batch.chains(sorted(told)):
            here = {row: told[row] for row in chain if row in told}
            batch.told = here[min(here)]._replace(item=None)
            if all(one.is_transient for one in here.values()):
                self._ask_again(batch, chain, here)
                retried += len(chain)
                continue
            for row, one in here.items():
                unknown = one.may_be_logged or batch.may_be_logged
                place = one._replace(item=row - chain.start)
                fail(batch.waiters[row], place, outcome_unknown=unknown, attempts=batch.attempts)
        return retried

    def _ask_again(self, batch: Batch, chain: range, told: dict[int, Told]) -> None:
        if len(self._again) + len(chain) > BATCH_TRANSFERS_MAX:
            self._release_again()
        again, first = self._again, told[min(told)]._replace(item=None)
        again.extend(batch, chain)
        again.may_be_logged |= any(one.may_be_logged for one in told.values())
        if not self._again_is_due:
            self._again_is_due = True
            self._again_s = self._loop.time() + pause_s(first, batch.attempts, 1)
            self._loop.call_at(self._again_s, self._again_due)
        if again.first_deadline_s <= self._again_s + ATTEMPT_S_MIN:
            again.expire(self._again_s + ATTEMPT_S_MIN, first, outcome_unknown=again.may_be_logged)

    def _again_due(self) -> None:
        self._again_is_due = False
        self._release_again()
        self._send_on()

    def _release_again(self) -> None:
        if self._again:
            self._ready.append(self._again)
            self._again = Batch()

    def _failed(self, batch: Batch, endpoint: Endpoint, told: Told) -> None:
        """The whole call failed: the same rows again, elsewhere or later."""
        batch.told = told
        batch.may_be_logged |= told.may_be_logged
        if not told.is_transient:
            for waiter in batch.waiters:
                fail(waiter, told, outcome_unknown=batch.may_be_logged, attempts=batch.attempts)
            self._leave(len(batch))
            return
        self._failures += 1
        self._endpoints.leave(endpoint)
        self._resume_s = self._loop.time() + pause_s(told, self._failures, len(self._endpoints))
        batch.expire(self._resume_s + ATTEMPT_S_MIN, told, outcome_unknown=batch.may_be_logged)
        self._ready.appendleft(batch)

    def _leave(self, rows: int) -> None:
        """Rows are done with: let as many in."""
        self._rows -= rows
        while rows > 0 and self._waiting_for_room:
            waiting = self._waiting_for_room.popleft()
            if not waiting.done():
                waiting.set_result(None)
                rows -= 1

    def _sweep(self) -> None:
        """Answer those whose deadline has passed."""
        now_s = self._loop.time()
        for batch in self._waiting_batches():
            if batch.first_deadline_s <= now_s:
                told = batch.told or (_NO_ANSWER if batch.attempts else _NOT_SENT)
                batch.expire(now_s, told, outcome_unknown=batch.may_be_logged)
        for batch in self._sending:
            if batch.first_deadline_s <= now_s:
                batch.expire(now_s, _NO_ANSWER, outcome_unknown=True)
        self._sweep_is_due = self._rows > 0
        if self._sweep_is_due:
            self._loop.call_later(SWEEP_S, self._sweep)

    def _waiting_batches(self) -> Iterator[Batch]:
        yield from self._ready
        yield self._filling
        yield self._again


async def _call(endpoint: Endpoint, request: bytes, timeout_s: float) -> PostTransfersResponse:
    """Ask by a call, and open the stream where calls are answered; raises `grpc.aio.AioRpcError`."""
    answer = await endpoint.method(POST_TRANSFERS)(request, timeout=timeout_s)
    endpoint.open_stream()
    return PostTransfersResponse.FromString(answer)
