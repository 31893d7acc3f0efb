"""The asyncio client: one object, one event loop, any number of tasks."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final

import grpc

from postingengine.accounts import Account, AccountState, AccountUpdate, Balance, Ledger
from postingengine.amounts import AMOUNT_ALL, Amount, minor_units
from postingengine.batch import Waiter
from postingengine.bulk import Items, Settling
from postingengine.coalescer import CALLS_IN_FLIGHT_MAX, QUEUE_TRANSFERS_MAX, Coalescer
from postingengine.endpoints import Endpoints, addresses_of
from postingengine.faults import NotFound, Told
from postingengine.ids import NO_ID, Id, as_id, new_id_bytes
from postingengine.items import NewAccounts, PackedTransfers, Updates
from postingengine.messages import account_message, update_message
from postingengine.reading import PAGE_ENTRIES, Consistency, Freshness, Reads
from postingengine.results import BatchResults, Result, results_of_chain
from postingengine.statements import Basis, Entry, PostedBalance, StoredTransfer
from postingengine.transfers import Flag, Kind, Time, Transfer, chain_records, follower, pack, pack_transfer

TIMEOUT_S: Final = 10.0
"""How long a call may take where its caller does not say."""


class AsyncClient:
    """Posts transfers and reads what became of them; belongs to the event loop that first uses it.

    Outcomes are values, refusals too; only faults are raised. Concurrent posts go together in packed calls. Whatever
    fails on the way is asked again, with the same ids, until `timeout_s` has passed; then the fault says whether the
    outcome is unknown.
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
        """`addresses`: "host:port" of one router or node or more, asked in turn when one fails.

        `credentials`: for TLS. At most `calls_in_flight_max` batches of single posts are under way at a time;
        beyond `queue_transfers_max` unanswered posts, `post` waits.
        """
        self._addresses, self._credentials, self._timeout_s = addresses_of(addresses), credentials, timeout_s
        self._calls_max, self._queue_max = calls_in_flight_max, queue_transfers_max
        self._running: _Running | None = None

    async def __aenter__(self) -> "AsyncClient":
        """Bind to this event loop."""
        self._run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Wait for what was submitted, at the latest until its deadline, and disconnect."""
        if self._running is not None:
            await self._running.coalescer.close()
            await self._running.endpoints.close()

    async def post(
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
        running = self._running or self._run()
        minor = amount if type(amount) is int else await self.minor(amount, ledger)
        record = pack(
            Kind.POST,
            new_id_bytes() if id is None else id,
            debit,
            credit,
            minor,
            ledger,
            NO_ID,
            reference,
            code,
            flags,
            0,
            effective_at,
        )
        deadline_s = running.loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        if running.coalescer.is_full:
            await running.coalescer.room(deadline_s)
        answer: asyncio.Future[Result] = running.loop.create_future()
        running.coalescer.submit(record, answer, deadline_s)
        return await answer

    async def post_transfer(self, transfer: Transfer, *, timeout_s: float | None = None) -> Result:
        """Post one transfer of any kind."""
        (result,) = await self.post_chain([transfer], timeout_s=timeout_s)
        return result

    async def reserve(
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
        return await self.post_transfer(transfer, timeout_s=timeout_s)

    async def commit(
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
        return await self.post_transfer(commit, timeout_s=timeout_s)

    async def release(
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
        return await self.post_transfer(release, timeout_s=timeout_s)

    async def reverse(
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
        return await self.post_transfer(reversal, timeout_s=timeout_s)

    async def post_chain(self, transfers: Sequence[Transfer], *, timeout_s: float | None = None) -> list[Result]:
        """Post transfers that all take effect, or none: one result per leg, in order; sets LINKED by itself."""
        minors = [await self.minor(leg.amount, leg.ledger) for leg in transfers]
        records = chain_records(transfers, minors)
        running, deadline_s = self._run(), self._deadline_s(timeout_s)
        await running.coalescer.room(deadline_s)
        answers: list[asyncio.Future[Result]] = [running.loop.create_future() for _ in records]
        running.coalescer.submit_chain(records, answers, deadline_s)
        return results_of_chain(await asyncio.gather(*answers, return_exceptions=True))

    async def post_batch(
        self, batch: bytes | bytearray | Iterable[Transfer], *, timeout_s: float | None = None
    ) -> BatchResults:
        """Post a batch of your own in one call: up to 8190 transfers, or their records of 128 bytes.

        One `Result` or `Fault` per transfer, in order. Raises only if the batch as a whole was never answered.
        """
        if not isinstance(batch, bytes | bytearray):
            batch = b"".join([await self._record(transfer) for transfer in batch])
        return await self._settle(PackedTransfers(batch), timeout_s)

    async def create_accounts(self, accounts: Iterable[Account], *, timeout_s: float | None = None) -> BatchResults:
        """Create up to 8190 accounts; one `Result` or `Fault` per account, in order."""
        asked = [account_message(one, await self.minor(one.overdraft_limit, one.ledger)) for one in accounts]
        return await self._settle(NewAccounts(asked), timeout_s)

    async def create_account(self, account: Account, *, timeout_s: float | None = None) -> Result:
        """Create one account."""
        return (await self.create_accounts([account], timeout_s=timeout_s)).results()[0]

    async def update_accounts(
        self, updates: Iterable[AccountUpdate], *, timeout_s: float | None = None
    ) -> BatchResults:
        """Change limits, freeze, thaw or close up to 8190 accounts; one `Result` or `Fault` per update, in order."""
        asked = [update_message(one, await self.minor(one.overdraft_limit, one.ledger)) for one in updates]
        return await self._settle(Updates(asked), timeout_s)

    async def update_account(self, update: AccountUpdate, *, timeout_s: float | None = None) -> Result:
        """Change one account's limit, freeze, thaw or close it."""
        return (await self.update_accounts([update], timeout_s=timeout_s)).results()[0]

    async def accounts(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[AccountState | None]:
        """Read up to 8190 accounts, in the order of the ids; None where there is no such account."""
        return await self._run().reads.accounts(ids, consistency, self._deadline_s(timeout_s))

    async def account(
        self, id: Id, *, consistency: Freshness = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> AccountState:
        """Read one account; raises `NotFound`."""
        (found,) = await self.accounts([id], consistency=consistency, timeout_s=timeout_s)
        if found is None:
            told = Told(grpc.StatusCode.NOT_FOUND, f"there is no account {as_id(id).hex()}", "ACCOUNT_NOT_FOUND", "no")
            raise NotFound(told, outcome_unknown=False)
        return found

    async def balances(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[Balance | None]:
        """Read what up to 8190 accounts hold, in the order of the ids; None where there is no such account."""
        found = await self.accounts(ids, consistency=consistency, timeout_s=timeout_s)
        return [one and one.balance for one in found]

    async def balance(
        self, id: Id, *, consistency: Freshness = Consistency.LINEARIZABLE, timeout_s: float | None = None
    ) -> Balance:
        """Read what one account holds; raises `NotFound`."""
        return (await self.account(id, consistency=consistency, timeout_s=timeout_s)).balance

    async def balance_at(
        self,
        account: Id,
        time: Time,
        *,
        basis: Basis = Basis.BOOKED,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> PostedBalance:
        """Read what was posted to an account up to and including a time."""
        return await self._run().reads.balance_at(account, time, basis, consistency, self._deadline_s(timeout_s))

    async def statement(
        self,
        account: Id,
        *,
        basis: Basis = Basis.BOOKED,
        from_time: Time = 0,
        to_time: Time = 0,
        page_entries: int = PAGE_ENTRIES,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Entry]:
        """Iterate over an account's entries from a time (0: the beginning) until before another (0: the end).

        Pages are fetched as needed, each with the whole `timeout_s`.
        """
        async for page in self.statement_pages(
            account,
            basis=basis,
            from_time=from_time,
            to_time=to_time,
            page_entries=page_entries,
            consistency=consistency,
            timeout_s=timeout_s,
        ):
            for entry in page:
                yield entry

    def statement_pages(
        self,
        account: Id,
        *,
        basis: Basis = Basis.BOOKED,
        from_time: Time = 0,
        to_time: Time = 0,
        page_entries: int = PAGE_ENTRIES,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> AsyncIterator[list[Entry]]:
        """The same, page by page, as they are fetched."""
        return self._run().reads.statement_pages(
            account, basis, from_time, to_time, page_entries, consistency, lambda: self._deadline_s(timeout_s)
        )

    async def transfers(
        self,
        ids: Iterable[Id],
        *,
        consistency: Freshness = Consistency.LINEARIZABLE,
        timeout_s: float | None = None,
    ) -> list[StoredTransfer | None]:
        """Read up to 8190 transfers with their outcomes, in the order of the ids; None where there is none."""
        return await self._run().reads.transfers(ids, consistency, self._deadline_s(timeout_s))

    async def ledgers(self, *, timeout_s: float | None = None) -> Mapping[int, Ledger]:
        """Read the ledgers, by number."""
        return await self._run().reads.ledgers(self._deadline_s(timeout_s))

    async def minor(self, amount: Amount, ledger: int) -> int:
        """Return an amount in minor units of a ledger; raises ValueError if it is not exact."""
        if not isinstance(amount, int):
            return minor_units(amount, await self._run().reads.scale(ledger, self._deadline_s(None)))
        return minor_units(amount, 0)

    @property
    def seen_log_indexes(self) -> Mapping[int, int]:
        """By group: the log index by which everything acknowledged to this client is applied."""
        return dict(self._run().coalescer.log_indexes)

    async def submit_later(self, records: Sequence[bytes], answers: Sequence[Waiter], timeout_s: float) -> None:
        """Submit packed records, one chain, as soon as there is room; the answers go to the waiters. Raises `Fault`."""
        deadline_s = self._deadline_s(timeout_s)
        await self._run().coalescer.room(deadline_s)
        self._run().coalescer.submit_chain(records, answers, deadline_s)

    def submit_now(self, records: Sequence[bytes], answers: Sequence[Waiter], timeout_s: float) -> bool:
        """The same at once; False if there is no room."""
        coalescer = self._run().coalescer
        if coalescer.is_full:
            return False
        coalescer.submit_chain(records, answers, self._deadline_s(timeout_s))
        return True

    async def _record(self, transfer: Transfer) -> bytes:
        return pack_transfer(transfer, await self.minor(transfer.amount, transfer.ledger))

    async def _settle(self, items: Items, timeout_s: float | None) -> BatchResults:
        running = self._run()
        settling = Settling(running.endpoints, items, self._deadline_s(timeout_s))
        try:
            return await settling.answers()
        finally:
            running.coalescer.saw(settling.log_indexes.items())

    def _deadline_s(self, timeout_s: float | None) -> float:
        return self._run().loop.time() + (self._timeout_s if timeout_s is None else timeout_s)

    def _run(self) -> "_Running":
        if self._running is None:
            endpoints = Endpoints(self._addresses, self._credentials)
            coalescer = Coalescer(endpoints, calls_in_flight_max=self._calls_max, queue_transfers_max=self._queue_max)
            self._running = _Running(endpoints, coalescer)
        return self._running


class _Running:
    """What lives on the event loop."""

    __slots__ = ("coalescer", "endpoints", "loop", "reads")

    def __init__(self, endpoints: Endpoints, coalescer: Coalescer) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoints, self.coalescer = endpoints, coalescer
        self.reads = Reads(endpoints, lambda: coalescer.log_indexes)
