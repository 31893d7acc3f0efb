"""Posting planned chains in small paced batches, several in flight; what got no answer is asked again with its ids."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from cli.beancount.plan import PlannedTransfer
from cli.ids import id_text
from cli.server import CHANNEL_OPTIONS, fault_sentence, to_uint128
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import PostTransfersRequest
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub
from postingengine.v1.transfer_pb2 import Transfer, TransferFlag, TransferKind, TransferResult

RETRY_PAUSE_S_MIN: Final = 0.05
RETRY_PAUSE_S_MAX: Final = 0.3
REFUSALS_KEPT_MAX: Final = 20
DETAILS_KEY: Final = "grpc-status-details-bin"
NEVER_RETRIED: Final = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
)
"""Another attempt would get these too. After any other the outcome is unknown, or the batch was not admitted."""

Chain = Sequence[PlannedTransfer]

ATTEMPT_S_MAX: Final = 5.0
DOUBLINGS_MAX: Final = 30


class Pace(NamedTuple):
    """How fast and how patiently to post."""

    batch_transfers: int = 64
    """Transfers that a batch aims at; a longer transaction is a batch of its own."""
    in_flight_batches: int = 4
    transfers_per_s: float = 0
    """0: as fast as answers come."""
    attempt_s: float = 5.0
    """How long the first attempt waits for its answer before it is asked again; each next one twice as long, up to
    `ATTEMPT_S_MAX`: a busy machine that answers slower than one short wait would only be asked ever more."""
    give_up_s: float = 120.0
    """How long one batch is asked again before the import stops; started anew, it resumes."""


class Tally:
    """What became of the transfers so far. Each was posted, replayed (known already) or refused."""

    def __init__(self) -> None:
        self.posted = 0
        self.replayed = 0
        self.refused = 0
        self.refusals: list[tuple[str, str]] = []
        """The first ones: id, outcome."""
        self.unknown = 0
        """Transfers whose outcome was unknown after an attempt, and which were asked again."""
        self.in_flight = 0
        """Batches that wait for their answer at this moment."""
        self.asked_at_s = 0.0
        """When the attempt that was answered last had been sent, on the monotonic clock."""

    @property
    def acknowledged(self) -> int:
        """Transfers with an outcome."""
        return self.posted + self.replayed + self.refused

    def count(self, transfer: PlannedTransfer, result: TransferResult) -> None:
        """Count one outcome."""
        if result.outcome != Outcome.OUTCOME_POSTED:
            self.refused += 1
            if len(self.refusals) < REFUSALS_KEPT_MAX:
                self.refusals.append((id_text(transfer.id), Outcome.Name(result.outcome).removeprefix("OUTCOME_")))
        elif result.replayed:
            self.replayed += 1
        else:
            self.posted += 1


Progress = Callable[[Tally], Awaitable[object] | None]
"""Called after each answer; no more is asked in its place before what it returns has come, if it returns anything."""


class Poster:
    """Posts chains through one router or node."""

    def __init__(self, channel: grpc.aio.Channel, ledgers: Mapping[str, int], pace: Pace, progress: Progress) -> None:
        """`ledgers` gives the number of a commodity's ledger."""
        self.tally = Tally()
        self._stub = PostingServiceStub(channel)
        self._ledgers = ledgers
        self._pace = pace
        self._progress = progress
        self._next_start_s = 0.0

    async def post(self, chains: Iterable[Chain]) -> Tally:
        """Post every chain; raises `EngineStopped` where a batch stays without an answer, or can never get one."""
        batches = batches_of(chains, self._pace.batch_transfers)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._pace.in_flight_batches):
                    group.create_task(self._work(batches))
        except* EngineStopped as stopped:
            failure = stopped.exceptions[0]
        else:
            return self.tally
        raise failure

    async def _work(self, batches: Iterator[list[Chain]]) -> None:
        for batch in batches:  # shared by all workers: each takes the next one
            await self._wait_for_turn(sum(map(len, batch)))
            await self._post_until_answered(batch)

    async def _wait_for_turn(self, transfers: int) -> None:
        """Keep the pace over all workers."""
        if self._pace.transfers_per_s <= 0:
            return
        now_s = time.monotonic()
        start_s = max(now_s, self._next_start_s)
        self._next_start_s = start_s + transfers / self._pace.transfers_per_s
        await asyncio.sleep(start_s - now_s)

    async def _post_until_answered(self, chains: list[Chain]) -> None:
        deadline_s = time.monotonic() + self._pace.give_up_s
        attempt, pause_s = 0, RETRY_PAUSE_S_MIN
        while chains:
            attempt += 1
            chains = await self._attempt(chains, attempt)
            if chains and time.monotonic() > deadline_s:
                words = f"no answer within {self._pace.give_up_s:g} s: start the import again, it resumes where it was"
                raise EngineStopped(ExitCode.UNREACHABLE, words)
            if chains:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_PAUSE_S_MAX)

    async def _attempt(self, chains: list[Chain], attempt: int) -> list[Chain]:
        """Ask once; return the chains to ask again."""
        transfers = [self._message(one) for chain in chains for one in chain]
        request = PostTransfersRequest(transfers=transfers, attempt=attempt)
        self.tally.in_flight += 1
        asked_at_s = time.monotonic()
        try:
            answer = await self._stub.PostTransfers(request, timeout=self._patience_s(attempt))
        except grpc.aio.AioRpcError as error:
            self._note_fault(status_of(error), len(transfers))
            return chains
        finally:
            self.tally.in_flight -= 1
        self.tally.asked_at_s = asked_at_s
        results = iter(answer.results)
        again = [chain for chain in chains if not self._counted(chain, [next(results) for _ in chain])]
        wait = self._progress(self.tally)
        if wait is not None:
            await wait
        return again

    def _patience_s(self, attempt: int) -> float:
        first_s = self._pace.attempt_s
        return max(first_s, min(first_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX), ATTEMPT_S_MAX))

    def _counted(self, chain: Chain, results: list[TransferResult]) -> bool:
        """Count a chain's outcomes; False if it got a fault and is to be asked again, whole."""
        faults = [result.fault for result in results if result.HasField("fault")]
        if faults:
            self._note_fault(faults[0], len(chain))
            return False
        for transfer, result in zip(chain, results, strict=True):
            self.tally.count(transfer, result)
        return True

    def _note_fault(self, fault: Status, transfers: int) -> None:
        if fault.code in NEVER_RETRIED:
            raise EngineStopped(ExitCode.REFUSED, f"the engine cannot take a transfer: {fault_sentence(fault)}")
        if not logged_nothing(fault):
            self.tally.unknown += transfers

    def _message(self, planned: PlannedTransfer) -> Transfer:
        return Transfer(
            id=planned.id,
            debit_account=planned.debit,
            credit_account=planned.credit,
            amount=to_uint128(planned.amount),
            ledger=self._ledgers[planned.commodity],
            kind=TransferKind.TRANSFER_KIND_POST,
            flags=[TransferFlag.TRANSFER_FLAG_LINKED] if planned.linked else [],
            reference=planned.reference,
            effective_at=planned.effective_at_ns,
        )


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel that looks for a server that was away at short intervals; a failed call is an `EngineStopped`."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            raise EngineStopped(ExitCode.UNREACHABLE, f"{address}: {fault_sentence(status_of(error))}") from error


def batches_of(chains: Iterable[Chain], transfers: int) -> Iterator[list[Chain]]:
    """Yield batches of whole chains, each with about `transfers` transfers."""
    batch: list[Chain] = []
    for chain in chains:
        if batch and sum(map(len, batch)) + len(chain) > transfers:
            yield batch
            batch = []
        batch.append(chain)
    if batch:
        yield batch


def status_of(error: grpc.aio.AioRpcError) -> Status:
    """Return the status that a failed call carries; one without details where gRPC itself failed."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return Status.FromString(value)
    return Status(code=error.code().value[0], message=error.details() or "")


def logged_nothing(fault: Status) -> bool:
    """Whether the engine says that nothing of the request was logged; without its word the outcome is unknown."""
    for detail in fault.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return bool(info.metadata.get("logged") == "no")
    return False
