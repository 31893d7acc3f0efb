"""Reads: accounts, transfers, statements, balances of the past, ledgers. Nothing is cached but the ledgers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, TypeVar

import grpc
from google.rpc.status_pb2 import Status

from postingengine import wire
from postingengine.accounts import AccountState, Ledger
from postingengine.endpoints import Endpoints
from postingengine.faults import Told, fault_of, told_by
from postingengine.ids import Id, as_id
from postingengine.messages import account_state, at_least, entry_of, posted_balance, stored_transfer
from postingengine.retry import ATTEMPT_S_MIN, Attempts, pause_s
from postingengine.statements import Basis, Entry, PostedBalance, StoredTransfer
from postingengine.transfers import Time, time_ns
from postingengine.v1 import posting_service_pb2 as messages
from postingengine.v1 import types_pb2

Answer = TypeVar("Answer")

PAGE_ENTRIES: Final = 1000


class Consistency(Enum):
    """How fresh a read must be."""

    LINEARIZABLE = "linearizable"
    """Includes everything acknowledged before, to anybody."""
    OWN_WRITES = "own writes"
    """Includes at least what was acknowledged to this client."""
    STALE = "stale"
    """Whatever the server has at once; the answer says as of when."""


Freshness = Consistency | Mapping[int, int]
"""Or, by group, the log index that a read must at least include."""


class Reads:
    """The reads of one client; deadlines are on the loop's clock. Each raises `Fault`."""

    def __init__(self, endpoints: Endpoints, own_writes: Callable[[], Mapping[int, int]]) -> None:
        """`own_writes` gives, by group, the highest log index that this client knows to be applied."""
        self._endpoints, self._own_writes = endpoints, own_writes
        self.known_ledgers: dict[int, Ledger] = {}

    async def accounts(self, ids: Iterable[Id], freshness: Freshness, deadline_s: float) -> list[AccountState | None]:
        """Read accounts in the order of the ids; None where there is no such account."""
        wanted = [as_id(one, "account") for one in ids]
        request = messages.GetAccountsRequest(ids=wanted, consistency=self._consistency(freshness))
        response = await self._ask(
            wire.GET_ACCOUNTS,
            request.SerializeToString(),
            messages.GetAccountsResponse.FromString,
            lambda answer: [one.fault for one in answer.accounts if one.WhichOneof("answer") != "state"],
            deadline_s,
        )
        found = [(one.state, one.read_at) for one in response.accounts]
        scales = await self._scales({state.account.ledger for state, _ in found if state.account.id}, deadline_s)
        return [
            account_state(state, point, scales[state.account.ledger]) if state.account.id else None
            for state, point in found
        ]

    async def transfers(
        self, ids: Iterable[Id], freshness: Freshness, deadline_s: float
    ) -> list[StoredTransfer | None]:
        """Read transfers in the order of the ids; None where no group has one of that id."""
        wanted = [as_id(one) for one in ids]
        request = messages.GetTransfersRequest(ids=wanted, consistency=self._consistency(freshness))
        response = await self._ask(
            wire.GET_TRANSFERS,
            request.SerializeToString(),
            messages.GetTransfersResponse.FromString,
            lambda answer: [one.fault for one in answer.transfers if one.WhichOneof("answer") != "stored"],
            deadline_s,
        )
        return [
            stored_transfer(one.stored) if one.WhichOneof("answer") == "stored" else None for one in response.transfers
        ]

    async def statement_pages(
        self,
        account: Id,
        basis: Basis,
        from_time: Time,
        to_time: Time,
        page_entries: int,
        freshness: Freshness,
        deadline_of: Callable[[], float],
    ) -> AsyncIterator[list[Entry]]:
        """Yield the pages of an account's statement, none empty; each has a deadline of its own."""
        request = messages.ListEntriesRequest(
            account=as_id(account, "account"),
            basis=f"BASIS_{Basis(basis).name}",
            from_time=time_ns(from_time, "from_time"),
            to_time=time_ns(to_time, "to_time"),
            page_size=page_entries,
            consistency=self._consistency(freshness),
        )
        while True:
            page = await self._ask(
                wire.LIST_ENTRIES,
                request.SerializeToString(),
                messages.ListEntriesResponse.FromString,
                lambda _: [],
                deadline_of(),
            )
            scales = await self._scales({entry.ledger for entry in page.entries}, deadline_of())
            if page.entries:
                yield [entry_of(entry, scales[entry.ledger]) for entry in page.entries]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def balance_at(
        self, account: Id, time: Time, basis: Basis, freshness: Freshness, deadline_s: float
    ) -> PostedBalance:
        """Read what was posted to an account up to and including a time."""
        request = messages.GetBalanceAtRequest(
            account=as_id(account, "account"),
            basis=f"BASIS_{Basis(basis).name}",
            time=time_ns(time, "time"),
            consistency=self._consistency(freshness),
        )
        return posted_balance(
            await self._ask(
                wire.GET_BALANCE_AT,
                request.SerializeToString(),
                messages.GetBalanceAtResponse.FromString,
                lambda _: [],
                deadline_s,
            )
        )

    async def ledgers(self, deadline_s: float) -> dict[int, Ledger]:
        """Read all ledgers, by number, and remember them."""
        request, found = messages.ListLedgersRequest(), dict[int, Ledger]()
        while True:
            page = await self._ask(
                wire.LIST_LEDGERS,
                request.SerializeToString(),
                messages.ListLedgersResponse.FromString,
                lambda _: [],
                deadline_s,
            )
            found |= {one.ledger: Ledger(one.ledger, one.code, one.scale) for one in page.ledgers}
            if not page.next_page_token:
                self.known_ledgers = found
                return found
            request.page_token = page.next_page_token

    async def scale(self, ledger: int, deadline_s: float) -> int:
        """Return a ledger's scale; raises ValueError if the cluster has no such ledger."""
        return (await self._scales({ledger}, deadline_s))[ledger]

    async def _scales(self, ledgers: set[int], deadline_s: float) -> dict[int, int]:
        if not ledgers <= self.known_ledgers.keys():
            await self.ledgers(deadline_s)
        missing = ledgers - self.known_ledgers.keys()
        if missing:
            raise ValueError(f"the cluster has no ledger {min(missing)}: see ledgers()")
        return {ledger: self.known_ledgers[ledger].scale for ledger in ledgers}

    async def _ask(
        self,
        path: str,
        request: bytes,
        read: Callable[[bytes], Answer],
        faults_in: Callable[[Answer], Sequence[Status]],
        deadline_s: float,
    ) -> Answer:
        """Ask until no item has a fault that another attempt may help; raises any fault but "not found"."""
        attempts, rounds = Attempts(self._endpoints, deadline_s, changes=False), 0
        while True:
            answer = read(await attempts.call(path, lambda _: request))
            told = [told_by(status) for status in faults_in(answer)]
            serious = [one for one in told if one.code != grpc.StatusCode.NOT_FOUND]
            if not serious:
                return answer
            rounds += 1
            await self._pause_or_raise(serious[0], attempts, rounds)

    async def _pause_or_raise(self, told: Told, attempts: Attempts, rounds: int) -> None:
        pause = pause_s(told, rounds, 1)
        if not told.is_transient or pause + ATTEMPT_S_MIN >= attempts.left_s():
            raise fault_of(told, outcome_unknown=False, attempts=attempts.count)
        await asyncio.sleep(pause)

    def _consistency(self, freshness: Freshness) -> types_pb2.Consistency:
        if freshness is Consistency.LINEARIZABLE:
            return types_pb2.Consistency(linearizable=types_pb2.Consistency.Linearizable())
        if freshness is Consistency.STALE:
            return types_pb2.Consistency(stale=types_pb2.Consistency.Stale())
        return at_least(freshness if isinstance(freshness, Mapping) else self._own_writes())
