"""Checking a ledger's `balance` assertions against the engine, on the value basis, with Beancount's tolerance."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Final, NamedTuple

import grpc

from cli.beancount.plan import PlannedAccount
from cli.beancount.source import Assertion
from cli.server import from_int128
from cli.times import day_start_ns
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, GetBalanceAtRequest
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub
from postingengine.v1.types_pb2 import Basis

READS_AT_ONCE_MAX: Final = 16
READ_S_MAX: Final = 30.0
ACCOUNTS_PER_READ_MAX: Final = 1000
EXACT: Final = Context(prec=200)
"""Enough digits for any sum of amounts: nothing is rounded."""


class Failed(NamedTuple):
    """An assertion that does not hold in the engine."""

    line: int
    account: str
    date: str
    commodity: str
    expected: str
    found: str


class Reader:
    """Reads balances of planned accounts, as Beancount signs them: debits less credits, in units."""

    def __init__(
        self, channel: grpc.aio.Channel, accounts: Iterable[PlannedAccount], scales: Mapping[str, int]
    ) -> None:
        """`scales` gives the decimal places of each commodity's ledger."""
        self._stub = PostingServiceStub(channel)
        self._accounts = tuple(accounts)
        self._scales = scales
        self._permits = asyncio.Semaphore(READS_AT_ONCE_MAX)

    async def failed(self, assertions: Sequence[Assertion]) -> list[Failed]:
        """Return the assertions that do not hold. Each is about the moment when its date begins."""
        found = await asyncio.gather(*(self._balance_before(one) for one in assertions))
        return [
            Failed(one.line, one.account, str(one.date), one.commodity, str(one.number), str(value))
            for one, value in zip(assertions, found, strict=True)
            if abs(EXACT.subtract(value, one.number)) > one.tolerance
        ]

    async def balances(self) -> dict[tuple[str, str], Decimal]:
        """Return the present balance of every account, by (account, commodity)."""
        balances: dict[tuple[str, str], Decimal] = {}
        for first in range(0, len(self._accounts), ACCOUNTS_PER_READ_MAX):
            asked = self._accounts[first : first + ACCOUNTS_PER_READ_MAX]
            request = GetAccountsRequest(ids=[one.id for one in asked])
            answer = await self._stub.GetAccounts(request, timeout=READ_S_MAX, wait_for_ready=True)
            for account, one in zip(asked, answer.accounts, strict=True):
                if one.HasField("fault"):
                    raise EngineStopped(ExitCode.REFUSED, f"account {account.key.name}: {one.fault.message}")
                balances[account.key] = self._units(from_int128(one.state.balances.balance), account.key.commodity)
        return balances

    async def _balance_before(self, assertion: Assertion) -> Decimal:
        """Sum an account and everything below it, up to the moment when the date begins."""
        below = assertion.account + ":"
        ids = [
            one.id
            for one in self._accounts
            if one.key.commodity == assertion.commodity and (one.key.account + ":").startswith(below)
        ]
        sums = await asyncio.gather(*(self._balance_at(each, day_start_ns(assertion.date) - 1) for each in ids))
        return self._units(sum(sums), assertion.commodity)

    async def _balance_at(self, account: bytes, time_ns: int) -> int:
        request = GetBalanceAtRequest(account=account, basis=Basis.BASIS_VALUE, time=time_ns)
        async with self._permits:
            answer = await self._stub.GetBalanceAt(request, timeout=READ_S_MAX, wait_for_ready=True)
        return from_int128(answer.balance.balance)

    def _units(self, balance: int, commodity: str) -> Decimal:
        """Turn credits less debits, in minor units, into debits less credits, in units."""
        return EXACT.scaleb(Decimal(-balance), -self._scales.get(commodity, 0))
