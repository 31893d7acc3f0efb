"""A split account read as one: its balance, its balance at a time, its statement (DESIGN §8).

The sum of the heads is linearizable once two collections agree on all of them: nothing external happened between the
end of the first and the beginning of the second, so that the sum held at one moment of the call. It costs two barriers
in every group, and, while the account is being posted to, more: after `COLLECTIONS_MAX` the caller is told so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import Message

from engine.core.records import AccountFlag
from engine.core.split.pools import Bucket, Counters, Side, agree, balance_of, held_of, limited_side, pool_of
from engine.rpc.faults import CallFailed, Reason, invalid
from engine.rpc.page_tokens import make_token, page_size_of, read_token
from engine.rpc.typed import int128, uint128
from postingengine.v1.account_pb2 import AccountAnswer, Balances, BucketState
from postingengine.v1.posting_service_pb2 import (
    GetAccountsRequest,
    GetAccountsResponse,
    GetBalanceAtRequest,
    GetBalanceAtResponse,
    ListEntriesRequest,
    ListEntriesResponse,
)
from postingengine.v1.statement_pb2 import Entry, EntrySide, PostedBalance
from postingengine.v1.types_pb2 import Basis, Int128, Uint128
from router.split.buckets import Buckets
from router.split.funds import SplitState, contended

COLLECTIONS_MAX: Final = 10
"""How often the groups are asked for two collections that agree."""

M = TypeVar("M", bound=Message)

Ask = Callable[[str, int, Message, type[Any]], Awaitable[Any]]
"""Sends a request to one group: (rpc, group, request, kind of the answer). Raises `CallFailed`."""


class SplitReading:
    """Reads accounts of the map from all groups."""

    def __init__(self, buckets: Buckets, groups: Callable[[], Sequence[int]]) -> None:
        """groups: the cluster's, ascending."""
        self._buckets, self._groups = buckets, groups

    def is_split(self, account: bytes) -> bool:
        """Whether an account was ever split, as far as this router knows."""
        return account in self._buckets.map

    # ---- now ----

    async def account(self, account: bytes, request: GetAccountsRequest, ask: Ask, deadline_s: float) -> AccountAnswer:
        """Return a split account as one; raises `CallFailed`."""
        part = GetAccountsRequest(ids=[account], consistency=request.consistency)
        if request.consistency.WhichOneof("level") == "stale":
            return await self._stale(account, part, ask)
        home: GetAccountsResponse
        home, state = await asyncio.gather(
            ask("GetAccounts", self._buckets.home_of(account), part, GetAccountsResponse),
            self.agreed(account, deadline_s),
        )
        answer = home.accounts[0]
        if answer.WhichOneof("answer") == "state":
            answer.state.balances.CopyFrom(_balances(state.buckets))
            if request.with_buckets:
                answer.buckets.extend(_bucket_state(one, state.log_indexes[one.group]) for one in state.buckets)
        return answer

    async def agreed(self, account: bytes, deadline_s: float) -> SplitState:
        """Return a collection that agrees with the one before it; raises `CallFailed`."""
        before = await self._buckets.collect(account, deadline_s)
        for _ in range(COLLECTIONS_MAX):
            after = await self._buckets.collect(account, deadline_s)
            if agree(before.buckets, after.buckets):
                return after
            before = after
        raise CallFailed(contended())

    async def _stale(self, account: bytes, part: GetAccountsRequest, ask: Ask) -> AccountAnswer:
        """Add up what replicas have applied, without asking whether that is all."""
        home = self._buckets.home_of(account)
        groups = self._groups()
        answers = await asyncio.gather(*(ask("GetAccounts", group, part, GetAccountsResponse) for group in groups))
        found: dict[int, AccountAnswer] = {
            group: answer.accounts[0] for group, answer in zip(groups, answers, strict=True)
        }
        answer = found[home]
        if answer.WhichOneof("answer") == "state":
            heads = [_head(group, one) for group, one in found.items() if one.WhichOneof("answer") == "state"]
            answer.state.balances.CopyFrom(_balances(heads))
            for one in found.values():
                if one.read_at.HasField("stale_ms"):
                    answer.read_at.stale_ms = max(answer.read_at.stale_ms, one.read_at.stale_ms)
        return answer

    # ---- as of a time ----

    async def balance_at(self, request: GetBalanceAtRequest, ask: Ask) -> GetBalanceAtResponse:
        """Add the groups' balances at a time up; raises `CallFailed`."""
        found = await self._each("GetBalanceAt", request, GetBalanceAtResponse, ask)
        balances = [one.balance for _, one in found]
        debits = sum(_number(one.debits_posted) for one in balances)
        credits = sum(_number(one.credits_posted) for one in balances)
        balance = PostedBalance(
            debits_posted=uint128(debits), credits_posted=uint128(credits), balance=int128(credits - debits)
        )
        home = self._buckets.home_of(request.account)
        return GetBalanceAtResponse(balance=balance, read_at=dict(found)[home].read_at)

    async def _each(
        self, rpc: str, request: ListEntriesRequest | GetBalanceAtRequest, kind: type[M], ask: Ask
    ) -> list[tuple[int, M]]:
        """Ask every group; one that has no bucket yet has nothing to say."""
        groups = self._groups()
        answers = await asyncio.gather(*(ask(rpc, group, request, kind) for group in groups), return_exceptions=True)
        found = list[tuple[int, M]]()
        for group, one in zip(groups, answers, strict=True):
            if isinstance(one, CallFailed) and one.fault.reason in _NO_BUCKET and group != self._home(request):
                continue
            if isinstance(one, BaseException):
                raise one
            found.append((group, one))
        return found

    def _home(self, request: ListEntriesRequest | GetBalanceAtRequest) -> int:
        return self._buckets.home_of(request.account)

    # ---- statements ----

    async def entries(self, request: ListEntriesRequest, ask: Ask) -> ListEntriesResponse:
        """Merge the groups' statements into a page of one; raises `CallFailed`."""
        size = page_size_of(request.page_size)
        arguments = (bytes(request.account), int(request.basis), request.from_time, request.to_time)
        cursors = _cursors_of(request.page_token, arguments)
        if cursors is None:
            cursors = {group: await self._opening(group, request, ask) for group in self._groups()}
        read_at, lines = None, dict[int, _Lines]()
        wanted = [(group, cursor) for group, cursor in sorted(cursors.items()) if not cursor.is_at_end]
        pages = await asyncio.gather(*(self._page(group, cursor, request, size, ask) for group, cursor in wanted))
        for (group, cursor), page in zip(wanted, pages, strict=True):
            if page is not None:
                lines[group] = _Lines(cursor, page)
                read_at = page.read_at if read_at is None or group == self._home(request) else read_at
        entries = list(_merged(lines, cursors, request.basis, size))
        after = {group: lines[group].cursor() if group in lines else _END for group in cursors}
        after = {group: cursor._replace(balance=cursors[group].balance) for group, cursor in after.items()}
        is_over = all(cursor.is_at_end for cursor in after.values())
        state = tuple(part for group, one in sorted(after.items()) for part in _packed(group, one))
        token = "" if is_over else make_token(arguments, state)
        return ListEntriesResponse(entries=entries, next_page_token=token, read_at=read_at)

    async def _page(
        self, group: int, cursor: "_Cursor", request: ListEntriesRequest, size: int, ask: Ask
    ) -> ListEntriesResponse | None:
        part = ListEntriesRequest()
        part.CopyFrom(request)
        part.page_token, part.page_size = cursor.token, max(size, cursor.skipped + 1)
        try:
            page: ListEntriesResponse = await ask("ListEntries", group, part, ListEntriesResponse)
            return page
        except CallFailed as failed:
            if failed.fault.reason in _NO_BUCKET and group != self._home(request):
                return None
            raise

    async def _opening(self, group: int, request: ListEntriesRequest, ask: Ask) -> "_Cursor":
        """Return where a group's statement begins, and with which balance."""
        if not request.from_time:
            return _Cursor("", 0, 0, False)
        part = GetBalanceAtRequest(
            account=request.account, basis=request.basis, time=request.from_time - 1, consistency=request.consistency
        )
        try:
            found = await ask("GetBalanceAt", group, part, GetBalanceAtResponse)
        except CallFailed as failed:
            if failed.fault.reason in _NO_BUCKET and group != self._home(request):
                return _END
            raise
        return _Cursor("", 0, _signed(found.balance.balance), False)


class _Cursor(NamedTuple):
    """How far one group's statement has been told."""

    token: str
    """Of the group's page that the next line is on."""
    skipped: int
    """Lines of that page that have been told."""
    balance: int
    """After the last line told."""
    is_at_end: bool


_END: Final = _Cursor("", 0, 0, True)
_NO_BUCKET: Final = frozenset({Reason.PLACED_ELSEWHERE, Reason.ACCOUNT_NOT_FOUND})


class _Lines:
    """The lines of one group's page that have not been told."""

    def __init__(self, cursor: _Cursor, page: ListEntriesResponse) -> None:
        self._cursor, self._entries, self._next_token = cursor, page.entries, page.next_page_token
        self._at = min(cursor.skipped, len(page.entries))

    @property
    def next(self) -> Entry | None:
        """The next line, if there is one on this page."""
        return self._entries[self._at] if self._at < len(self._entries) else None

    @property
    def goes_on(self) -> bool:
        """Whether there are more lines behind this page, whose times are not known."""
        return bool(self._next_token)

    def take(self) -> Entry:
        """Return the next line, and step on."""
        self._at += 1
        return self._entries[self._at - 1]

    def cursor(self) -> _Cursor:
        """Return where to go on."""
        if self._at < len(self._entries):
            return self._cursor._replace(skipped=self._at)
        return _Cursor(self._next_token, 0, 0, not self._next_token)


def _merged(lines: dict[int, _Lines], cursors: dict[int, _Cursor], basis: int, size: int) -> Iterable[Entry]:
    """Yield lines in the order of the basis, then group, with running balances of the whole, until a page is full or a
    group's page ends behind which it has more. Notes each group's balance in its cursor."""
    whole = sum(cursor.balance for cursor in cursors.values())
    for _ in range(size):
        heads = [(line, group) for group, one in lines.items() if (line := one.next) is not None]
        if not heads or any(one.next is None and one.goes_on for one in lines.values()):
            return
        _, group = min(heads, key=lambda head: (_time(head[0], basis), head[1], head[0].position))
        line = lines[group].take()
        amount = _number(line.amount) * (1 if line.side == EntrySide.ENTRY_SIDE_CREDIT else -1)
        whole += amount
        cursors[group] = cursors[group]._replace(balance=cursors[group].balance + amount)
        line.running_balance.CopyFrom(int128(whole))
        yield line


def _time(line: Entry, basis: int) -> int:
    return line.effective_at if basis == Basis.BASIS_VALUE else line.timestamp


def _packed(group: int, cursor: _Cursor) -> tuple[object, ...]:
    return group, cursor.token, cursor.skipped, str(cursor.balance), cursor.is_at_end


def _cursors_of(token: str, arguments: tuple[object, ...]) -> dict[int, _Cursor] | None:
    if not token:
        return None
    state = read_token(token, arguments)
    width = 1 + len(_Cursor._fields)
    found = dict[int, _Cursor]()
    for at in range(0, len(state), width):
        group, page, skipped, balance, is_at_end = state[at : at + width]
        if not (isinstance(group, int) and isinstance(page, str) and isinstance(skipped, int)):
            raise CallFailed(invalid(Reason.PAGE_TOKEN_INVALID, "page_token is not of this list", field="page_token"))
        found[group] = _Cursor(page, skipped, int(str(balance)), bool(is_at_end))
    return found


def _balances(heads: Iterable[Bucket]) -> Balances:
    """Return what the heads hold together: moves cancel, so that they are left out."""
    buckets = [one._replace(share=Counters()) for one in heads]
    counters = Counters(*(sum(column) for column in zip(*(one.head for one in buckets), strict=True)))
    flags = next((one.flags for one in buckets), 0)
    available = sum(pool_of(one, limited_side(flags) or Side.DEBIT) for one in buckets)
    return _told(counters, sum(balance_of(one) for one in buckets), available)


def _bucket_state(one: Bucket, log_index: int) -> BucketState:
    side = limited_side(one.flags) or Side.DEBIT
    moving = one._replace(head=Counters(), overdraft=0)
    return BucketState(
        group=one.group,
        balances=_told(one.head, balance_of(one), pool_of(one, side)),
        moved_in=int128(balance_of(moving)),
        moving_out=uint128(held_of(moving, side)),
        log_index=log_index,
    )


def _told(counters: Counters, balance: int, available: int) -> Balances:
    return Balances(
        debits_posted=uint128(counters.debits_posted),
        credits_posted=uint128(counters.credits_posted),
        debits_reserved=uint128(counters.debits_reserved),
        credits_reserved=uint128(counters.credits_reserved),
        balance=int128(balance),
        available=int128(available),
    )


def _head(group: int, answer: AccountAnswer) -> Bucket:
    state = answer.state
    numbers = (state.balances.debits_posted, state.balances.credits_posted)
    held = (state.balances.debits_reserved, state.balances.credits_reserved)
    flags = AccountFlag(sum(int(flag) for flag in state.account.flags))
    overdraft = _number(state.account.overdraft_limit)
    return Bucket(group, int(flags), Counters(*map(_number, (*numbers, *held))), overdraft=overdraft)


def _number(value: Uint128) -> int:
    return int(value.low | value.high << 64)


def _signed(value: Int128) -> int:
    joined = int(value.low | value.high << 64)
    return joined - (1 << 128) if joined >> 127 else joined
