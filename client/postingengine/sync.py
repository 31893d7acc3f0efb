"""The client for programs without asyncio: thread-safe, an event loop of its own in the background."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

import grpc

from postingengine.accounts import Account, AccountState, AccountUpdate, Balance, Ledger
from postingengine.aio import TIMEOUT_S, AsyncClient
from postingengine.amounts import AMOUNT_ALL, Amount, minor_units
from postingengine.coalescer import CALLS_IN_FLIGHT_MAX, CLOSED, QUEUE_TRANSFERS_MAX
from postingengine.faults import Unavailable
from postingengine.ids import NO_ID, Id, new_id_bytes
from postingengine.reading import PAGE_ENTRIES, Consistency, Freshness
from postingengine.results import BatchResults, Result, results_of_chain
from postingengine.statements import Basis, Entry, PostedBalance, StoredTransfer
from postingengine.transfers import Flag, Kind, Time, Transfer, chain_records, follower, pack

Value = TypeVar("Value")

STOP_S_MAX: Final = 30.0


class _Submission(NamedTuple):
    """Records of one transfer or chain, on their way to the loop's thread."""

    records: list[bytes]
    answers: "list[Future[Result]]"
    timeout_s: float


class Client:
    """Posts transfers and reads what became of them, from any number of threads.

    The same promises as `AsyncClient`: outcomes are values, only faults are raised, posts of concurrent threads go
    together in packed calls, and whatever fails is asked again with the same ids until `timeout_s` has passed.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = TIMEOUT_S,
        calls_in_flight_max: int = CALLS_IN_FLIGHT_MAX,
        queue_transfers_max: int = QUEUE_TRANSFERS_MAX,
    ) -> None:
        """As `AsyncClient`; starts the background thread."""
        self._client = AsyncClient(
            addresses,
            credentials=credentials,
            timeout_s=timeout_s,
            calls_in_flight_max=calls_in_flight_max,
            queue_transfers_max=queue_transfers_max,
        )
        self._timeout_s = timeout_s
        self._scales: dict[int, int] = {}
        self._inbox: deque[_Submission] = deque()
        self._is_woken = self._is_closed = False
        self._loop = asyncio.new_event_loop()
        self._waiting_for_room: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="posting-engine-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Client":
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Wait for what was submitted, at the latest until its deadline, disconnect and end the thread. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._call(self._client.close(), STOP_S_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S_MAX)
        self._loop.close()

    def post(
        self,
        debit: Id,
        credit: Id,
        amount: Amount,
        *,
        ledger: int,
        id: Id | None = None,
        code: int = 0,
        reference: Id = NO_ID,
        effective_at: Time = 0,
        flags: Flag = Flag.NONE,
        timeout_s: float | None = None,
    ) -> Result:
        """Move an amount from the debit account to the credit account.

        Give an `id` of your own, kept before the call, wherever you might have to ask again in another process.
        """
        record = pack(
            Kind.POST,
            new_id_bytes() if id is None else id,
            debit,
            credit,
            amount if type(amount) is int else self.minor(amount, ledger),
            ledger,
            NO_ID,
            reference,
            code,
            flags,
            0,
            effective_at,
        )
        return self._answers([record], timeout_s)[0]

    def post_transfer(self, transfer: Transfer, *, timeout_s: float | None = None) -> Result:
        """Post one transfer of any kind."""
        return self.post_chain([transfer], timeout_s=timeout_s)[0]

    def reserve(
        self,
        debit: Id,
        credit: Id,
        amount: Amount,
        *,
        ledger: int,
        expires_after_s: int = 0,
        id: Id | None = None,
        code: int = 0,
        reference: Id = NO_ID,
        effective_at: Time = 0,
        flags: Flag = Flag.NONE,
        timeout_s: float | None = None,
    ) -> Result:
        """Hold an amount until it is committed, released, or `expires_after_s` seconds have passed (0: never)."""
        transfer = Transfer(
            debit,
            credit,
            amount,
            ledger,
            Kind.RESERVE,
            new_id_bytes() if id is None else id,
            flags,
            NO_ID,
            reference,
            code,
            expires_after_s,
            effective_at,
        )
        return self.post_transfer(transfer, timeout_s=timeout_s)

    def commit(
        self,
        reservation: Id,
        debit: Id,
        credit: Id,
        amount: Amount = AMOUNT_ALL,
        *,
        ledger: int,
        keep_rest: bool = False,
        id: Id | None = None,
        code: int = 0,
        reference: Id = NO_ID,
        timeout_s: float | None = None,
    ) -> Result:
        """Post a reservation, up to what is left of it; the rest is released, unless `keep_rest`."""
        flags = Flag.KEEP_REST if keep_rest else Flag.NONE
        commit = follower(Kind.COMMIT, reservation, debit, credit, amount, ledger, id, code, reference, flags)
        return self.post_transfer(commit, timeout_s=timeout_s)

    def release(
        self,
        reservation: Id,
        debit: Id,
        credit: Id,
        *,
        ledger: int,
        id: Id | None = None,
        code: int = 0,
        reference: Id = NO_ID,
        timeout_s: float | None = None,
    ) -> Result:
        """Give back what is left of a reservation."""
        release = follower(Kind.RELEASE, reservation, debit, credit, 0, ledger, id, code, reference)
        return self.post_transfer(release, timeout_s=timeout_s)

    def reverse(
        self,
        transfer: Id,
        debit: Id,
        credit: Id,
        amount: Amount,
        *,
        ledger: int,
        id: Id | None = None,
        code: int = 0,
        reference: Id = NO_ID,
        timeout_s: float | None = None,
    ) -> Result:
        """Move money of an earlier transfer back; accounts in the order of the original."""
        reversal = follower(Kind.REVERSE, transfer, debit, credit, amount, ledger, id, code, reference)
        return self.post_transfer(reversal, timeout_s=timeout_s)

    def post_chain(self, transfers: Sequence[Transfer], *, timeout_s: float | None = None) -> list[Result]:
        """Post transfers that all take effect, or none: one result per leg, in order; sets LINKED by itself."""
        minors = [self.minor(leg.amount, leg.ledger) for leg in transfers]
        return self._answers(chain_records(transfers, minors), timeout_s)

    def post_batch(
        self, batch: bytes | bytearray | Iterable[Transfer], *, timeout_s: float | None = None
    ) -> BatchResults:
        """Post a batch of your own in one call: up to 8190 transfers, or their records of 128 bytes.

        One `Result` or `Fault` per transfer, in order. Raises only if the batch as a whole was never answered.
        """
        return self._call(self._client.post_batch(batch, timeout_s=timeout_s), timeout_s)

    def create_accounts(self, accounts: Iterable[Account], *, timeout_s: float | None = None) -> BatchResults:
        """Create up to 8190 accounts; one `Result` or `Fault` per account, in order."""
        return self._call(self._client.create_accounts(accounts, timeout_s=timeout_s), timeout_s)

    def create_account(self, account: Account, *, timeout_s: float | None = None) -> Result:
        """Create one account."""
        return self._call(self._client.create_account(account, timeout_s=timeout_s), timeout_s)

    def update_accounts(self, updates: Iterable[AccountUpdate], *, timeout_s: float | None = None) -> BatchResults:
        """Change limits, freeze, thaw or close up to 8190 accounts; one `Result` or `Fault` per update, in order."""
        return self._call(self._client.update_accounts(updates, timeout_s=timeout_s), timeout_s)

    def update_account(self, update: AccountUpdate, *, timeout_s: float | None = None) -> Result:
        """Change one account's limit, freeze, thaw or close it."""
        return self._call(self._client.update_account(update, timeout_s=timeout_s), timeout_s)

    def accounts(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[AccountState | None]:
        """Read up to 8190 accounts, in the order of the ids; None where there is no such account."""
        return self._call(self._client.accounts(ids, consistency=consistency, timeout_s=timeout_s), timeout_s)

    def account(
        self, id: Id, *, consistency: Freshness = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> AccountState:
        """Read one account; raises `NotFound`."""
        return self._call(self._client.account(id, consistency=consistency, timeout_s=timeout_s), timeout_s)

    def balances(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[Balance | None]:
        """Read what up to 8190 accounts hold, in the order of the ids; None where there is no such account."""
        return self._call(self._client.balances(ids, consistency=consistency, timeout_s=timeout_s), timeout_s)

    def balance(
        self, id: Id, *, consistency: Freshness = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> Balance:
        """Read what one account holds; raises `NotFound`."""
        return self._call(self._client.balance(id, consistency=consistency, timeout_s=timeout_s), timeout_s)

    def balance_at(
        self,
        account: Id,
        time: Time,
        *,
        basis: Basis = Basis.BOOKED,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> PostedBalance:
        """Read what was posted to an account up to and including a time."""
        asked = self._client.balance_at(account, time, basis=basis, consistency=consistency, timeout_s=timeout_s)
        return self._call(asked, timeout_s)

    def statement(
        self,
        account: Id,
        *,
        basis: Basis = Basis.BOOKED,
        from_time: Time = 0,
        to_time: Time = 0,
        page_entries: int = PAGE_ENTRIES,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> Iterator[Entry]:
        """Iterate over an account's entries from a time (0: the beginning) until before another (0: the end).

        Pages are fetched as needed, each with the whole `timeout_s`.
        """
        pages: AsyncIterator[list[Entry]] = self._client.statement_pages(
            account,
            basis=basis,
            from_time=from_time,
            to_time=to_time,
            page_entries=page_entries,
            consistency=consistency,
            timeout_s=timeout_s,
        )
        while page := self._call(_next_page(pages), timeout_s):
            yield from page

    def transfers(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[StoredTransfer | None]:
        """Read up to 8190 transfers with their outcomes, in the order of the ids; None where there is none."""
        return self._call(self._client.transfers(ids, consistency=consistency, timeout_s=timeout_s), timeout_s)

    def ledgers(self, *, timeout_s: float | None = None) -> Mapping[int, Ledger]:
        """Read the ledgers, by number."""
        found = self._call(self._client.ledgers(timeout_s=timeout_s), timeout_s)
        self._scales = {ledger: one.scale for ledger, one in found.items()}
        return found

    def minor(self, amount: Amount, ledger: int) -> int:
        """Return an amount in minor units of a ledger; raises ValueError if it is not exact."""
        if isinstance(amount, int):
            return minor_units(amount, 0)
        if ledger not in self._scales and ledger not in self.ledgers():
            raise ValueError(f"the cluster has no ledger {ledger}: see ledgers()")
        return minor_units(amount, self._scales[ledger])

    def _answers(self, records: list[bytes], timeout_s: float | None) -> list[Result]:
        """Submit records, one chain, and wait: the loop's sweep answers at the latest at the deadline."""
        if self._is_closed:
            raise Unavailable(CLOSED, outcome_unknown=False, attempts=0)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        answers: list[Future[Result]] = [Future() for _ in records]
        self._inbox.append(_Submission(records, answers, limit_s))
        # One wake-up for all that threads submit until the loop's thread looks: a system call each would be most of
        # a post's cost. Set before it looks into the inbox, so that nothing is left there.
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._look)
        return results_of_chain([answer.exception(limit_s + STOP_S_MAX) or answer.result() for answer in answers])

    def _look(self) -> None:
        """On the loop's thread: submit what lies in the inbox."""
        self._is_woken = False
        while self._inbox:
            one = self._inbox.popleft()
            try:
                if not self._client.submit_now(one.records, one.answers, one.timeout_s):
                    task = self._loop.create_task(self._submit_later(one))
                    self._waiting_for_room.add(task)
                    task.add_done_callback(self._waiting_for_room.discard)
            except Exception as error:
                _fail(one, error)

    async def _submit_later(self, one: _Submission) -> None:
        try:
            await self._client.submit_later(one.records, one.answers, one.timeout_s)
        except Exception as error:
            _fail(one, error)

    def _call(self, coroutine: Coroutine[Any, Any, Value], timeout_s: float | None) -> Value:
        """Run a coroutine on the loop's thread and wait for it; it keeps its own deadline."""
        if self._loop.is_closed():
            coroutine.close()
            raise Unavailable(CLOSED, outcome_unknown=False, attempts=0)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(limit_s + STOP_S_MAX)


async def _next_page(pages: AsyncIterator[list[Entry]]) -> list[Entry]:
    return await anext(pages, [])


def _fail(submission: _Submission, error: Exception) -> None:
    for answer in submission.answers:
        answer.set_exception(error)
