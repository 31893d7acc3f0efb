"""ListEntries and GetBalanceAt, from the read models (DESIGN §9).

The read models follow what is saved. So a read that must be fresh first has the apply thread save what it has applied,
then waits until the models cover it. They are closed and opened anew when a snapshot replaces the store.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from engine.core.records import RECORD as ROW
from engine.exit_codes import EngineStopped
from engine.rpc.faults import (
    NOT_FOUND,
    CallFailed,
    Fault,
    Reason,
    deadline_passed,
    invalid,
    overloaded,
    unavailable,
)
from engine.rpc.page_tokens import make_token, page_size_of, read_token
from engine.rpc.typed import ID_BYTES, NO_ID, int128, uint128, words_of_ids
from engine.service.accounts import not_here
from engine.service.replica import Replica
from engine.storage.views.statements import TIME_MAX, Basis, Covered, Page, Posted, Resume
from engine.storage.views.views import Views
from postingengine.v1.posting_service_pb2 import (
    GetBalanceAtRequest,
    GetBalanceAtResponse,
    ListEntriesRequest,
    ListEntriesResponse,
)
from postingengine.v1.statement_pb2 import Entry, EntrySide, PostedBalance
from postingengine.v1.transfer_pb2 import TransferKind
from postingengine.v1.types_pb2 import Consistency, ReadPoint

T = TypeVar("T")

THREADS: Final = 4
"""Statements read at a time; each waits for disk or for the read models."""
READS_MAX: Final = 256
"""Statements asked for and not yet answered."""
SLICE_S: Final = 0.25
"""The longest that a read keeps a snapshot from being installed."""
_TOO_MANY: Final = "too many statements are being read; ask again later"
_LATE: Final = "the read models did not get that far before the deadline; retry with a longer one"


class Statements:
    """The read models of one replica. On the event loop's thread, but for `suspend` and `resume`."""

    def __init__(self, replica: Replica, folder: Path) -> None:
        """Nothing is opened before `resume`."""
        self._replica, self._folder = replica, folder
        self._views: Views | None = None
        self._changed = threading.Condition()
        self._readers = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="statements")
        self._reads = 0

    # -- for the owner of the store

    def resume(self) -> None:
        """Open the read models of the store as it is now. Any thread."""
        machine = self._replica.machine
        bound = self._replica.place.config.limits.store_map_bytes_max
        views = Views(self._folder, machine.store, machine.book, map_bytes_max=bound)
        views.start()
        with self._changed:
            self._views = views
            self._changed.notify_all()

    def suspend(self) -> None:
        """Let go of the store, once the reads that use it have ended. Any thread."""
        with self._changed:
            views, self._views = self._views, None
            while self._readers:
                self._changed.wait()
        if views is not None:
            views.stop()

    def close(self) -> None:
        """End for good, before the store is closed."""
        self.suspend()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """The store saved something. Any thread."""
        views = self._views
        if views is not None:
            views.wake()

    def lag(self) -> int:
        """Return how many journal positions the read models are behind; all while they are closed."""
        views, end = self._views, self._replica.machine.book.next_position
        return end if views is None else max(0, end - views.covered.position)

    # -- for callers

    async def list_entries(self, request: ListEntriesRequest, deadline_s: float) -> ListEntriesResponse:
        """Read a page of a statement; raises `CallFailed`."""
        account, basis = _account_of(request.account), _basis_of(request.basis)
        arguments = (account, int(basis), request.from_time, request.to_time)
        resume = _resume_of(request.page_token, arguments)
        size = page_size_of(request.page_size)

        def read(views: Views) -> ListEntriesResponse | None:
            page = views.list_entries(account, basis, request.from_time, request.to_time or TIME_MAX, size, resume)
            return None if page is None else self._page(account, page, arguments)

        return await self._read(request.consistency, deadline_s, account, read)

    async def balance_at(self, request: GetBalanceAtRequest, deadline_s: float) -> GetBalanceAtResponse:
        """Read a balance of the past; raises `CallFailed`."""
        account, basis = _account_of(request.account), _basis_of(request.basis)

        def read(views: Views) -> GetBalanceAtResponse | None:
            found = views.balance_at(account, basis, min(request.time, TIME_MAX - 1))
            return None if found is None else self._balance(*found)

        return await self._read(request.consistency, deadline_s, account, read)

    # -- within

    async def _read(
        self, consistency: Consistency, deadline_s: float, account: bytes, read: Callable[[Views], T | None]
    ) -> T:
        """Wait until the read models are fresh enough, then read on a thread of their own."""
        if self._reads >= READS_MAX:
            raise CallFailed(overloaded(_TOO_MANY))
        self._reads += 1
        try:
            wanted = await self._saved_index(consistency, deadline_s)
            loop = asyncio.get_running_loop()
            until_s = time.monotonic() + max(0.0, deadline_s - loop.time())
            found: T | None = await loop.run_in_executor(self._threads, partial(self._read_at, wanted, until_s, read))
        except EngineStopped as stopped:  # the read models failed; money goes on moving
            raise CallFailed(unavailable(Reason.NOT_READY, str(stopped))) from stopped
        finally:
            self._reads -= 1
        if found is None:
            raise CallFailed(await self._unknown(account, deadline_s))
        return found

    async def _saved_index(self, consistency: Consistency, deadline_s: float) -> int:
        """Return the log index that the read models must cover; it is saved."""
        if consistency.WhichOneof("level") == "stale":
            return 0
        machine = self._replica.machine

        def save() -> int:
            machine.save()
            return machine.applied_index

        saved = await self._replica.read(consistency, deadline_s, save)
        self.wake()
        return saved

    def _read_at(self, wanted: int, until_s: float, read: Callable[[Views], T | None]) -> T | None:
        """Read once the models cover `wanted`. On a thread of ours."""
        while True:
            with self._using() as views:
                if views is not None and views.wait(wanted, min(until_s, time.monotonic() + SLICE_S)):
                    return read(views)
            if time.monotonic() >= until_s:
                raise CallFailed(deadline_passed(_LATE))

    @contextlib.contextmanager
    def _using(self) -> Iterator[Views | None]:
        """Keep the read models open within the block; None if they are closed for longer than a slice."""
        with self._changed:
            if self._views is None:
                self._changed.wait(SLICE_S)
            views = self._views
            self._readers += 1
        try:
            yield views
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    async def _unknown(self, account: bytes, deadline_s: float) -> Fault:
        """Tell an account that is not there from one that is somewhere else."""
        replica, ids = self._replica, words_of_ids([account])
        stale = Consistency(stale=Consistency.Stale())
        placed = await replica.read(stale, deadline_s, lambda: replica.machine.book.place_accounts(ids))
        if placed[0] < -1:
            return not_here(replica.place.group, "account")
        return Fault(NOT_FOUND, Reason.ACCOUNT_NOT_FOUND, "there is no account of that id", field="account")

    def _page(self, account: bytes, page: Page, arguments: tuple[object, ...]) -> ListEntriesResponse:
        return ListEntriesResponse(
            entries=[self._entry(account, page, line) for line in range(len(page.positions))],
            next_page_token="" if page.resume is None else make_token(arguments, (page.resume.pack(),)),
            read_at=self._read_point(page.covered),
        )

    def _entry(self, account: bytes, page: Page, line: int) -> Entry:
        row = page.rows[line].view(ROW)[0]
        debits_low, debits_high, credits_low, credits_high = (int(word) for word in page.posted[line])
        debit, credit = row["debit"].tobytes(), row["credit"].tobytes()
        timestamp, effective_at = int(row["timestamp"]), int(row["effective_at"])
        return Entry(
            transfer_id=row["id"].tobytes(),
            kind=TransferKind.Name(int(row["kind"])),
            side=EntrySide.ENTRY_SIDE_DEBIT if page.debited[line] else EntrySide.ENTRY_SIDE_CREDIT,
            amount=uint128(int(row["amount_low"]) | int(row["amount_high"]) << 64),
            running_balance=int128((credits_low | credits_high << 64) - (debits_low | debits_high << 64)),
            counter_account=credit if debit == account else debit,
            ledger=int(row["ledger"]),
            code=int(row["code"]),
            reference=_unless_zero(row["reference"].tobytes()),
            followed=_unless_zero(row["followed"].tobytes()),
            timestamp=timestamp,
            effective_at=effective_at or timestamp,
            group=self._replica.place.group,
            position=int(page.positions[line]),
        )

    def _balance(self, posted: Posted, covered: Covered) -> GetBalanceAtResponse:
        balance = PostedBalance(
            debits_posted=uint128(posted.debits),
            credits_posted=uint128(posted.credits),
            balance=int128(posted.credits - posted.debits),
        )
        return GetBalanceAtResponse(balance=balance, read_at=self._read_point(covered))

    def _read_point(self, covered: Covered) -> ReadPoint:
        return ReadPoint(group=self._replica.place.group, log_index=covered.log_index, as_of=covered.timestamp_ns)


def _account_of(account: bytes) -> bytes:
    if len(account) != ID_BYTES or account == NO_ID:
        message = f"account has {len(account)} bytes, or is all zeros; an id has {ID_BYTES}"
        raise CallFailed(invalid(Reason.ID_LENGTH_INVALID, message, field="account"))
    return account


def _basis_of(basis: int) -> Basis:
    if basis not in (0, Basis.BOOKED, Basis.VALUE):
        raise CallFailed(invalid(Reason.VALUE_OUT_OF_RANGE, f"basis {basis} is unknown", field="basis"))
    return Basis(basis or Basis.BOOKED)


def _resume_of(token: str, arguments: tuple[object, ...]) -> Resume | None:
    if not token:
        return None
    state = read_token(token, arguments)
    try:
        if isinstance(state[0], bytes):
            return Resume.unpack(state[0])
    except (ValueError, IndexError):
        pass
    raise CallFailed(invalid(Reason.PAGE_TOKEN_INVALID, "page_token is not of this list", field="page_token"))


def _unless_zero(identity: bytes) -> bytes:
    return b"" if identity == NO_ID else identity
