"""A caller that keeps books of its own: what it asked for, what was acknowledged, what is unknown.

It shares no code with the engine or its client: it speaks the contract through the generated stubs, one typed transfer
after the other, and adds up balances in a dict. What it finds is evidence for that reason.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc

from postingengine.v1 import (
    account_pb2,
    posting_service_pb2,
    posting_service_pb2_grpc,
    transfer_pb2,
    types_pb2,
)
from tests.chaos.calling import (
    CALL_S,
    HEAL_S_MAX,
    LEDGER,
    PATIENT_CALL_S,
    POSTED,
    create_accounts,
    open_channel,
    tried,
    until_answered,
)

FOUND_A_CALL: Final = 500


@dataclass
class Books:
    """What the caller knows. `acknowledged` maps an id to what was posted under it; `unknown` likewise, unanswered."""

    acknowledged: dict[bytes, transfer_pb2.Transfer] = field(default_factory=dict)
    unknown: dict[bytes, transfer_pb2.Transfer] = field(default_factory=dict)
    acknowledged_ns: dict[bytes, int] = field(default_factory=dict)
    """When each was acknowledged, on the monotonic clock that all processes of the machine share."""
    were_unknown: int = 0
    """How many transfers were ever unanswered: a run without any has killed an idle process."""

    def balances(self) -> dict[bytes, int]:
        """Return credits less debits of every account, from the acknowledged transfers alone."""
        total: dict[bytes, int] = {}
        for transfer in self.acknowledged.values():
            total[transfer.debit_account] = total.get(transfer.debit_account, 0) - transfer.amount.low
            total[transfer.credit_account] = total.get(transfer.credit_account, 0) + transfer.amount.low
        return total


class Caller:
    """Posts random transfers between a few accounts, from several tasks, through one address."""

    def __init__(self, address: str, *, seed: int, accounts: int = 20) -> None:
        """Draw everything from `seed`; no account exists yet."""
        self.address, self.random, self.books = address, random.Random(seed), Books()
        self.accounts = [self.random.randbytes(16) for _ in range(accounts)]
        self.calls_open = 0
        """Calls sent and not yet answered."""
        self.answered_begun_s = 0.0
        """When the latest call began in which something was acknowledged, on the monotonic clock."""

    def open(self) -> grpc.aio.Channel:
        """Open a channel that reconnects at once."""
        return open_channel(self.address)

    async def create_accounts(self) -> None:
        """Create the accounts, retrying until the cluster answers or `HEAL_S_MAX` is over."""
        accounts = [account_pb2.Account(id=one, ledger=LEDGER, code=1) for one in self.accounts]
        async with asyncio.timeout(HEAL_S_MAX), self.open() as channel:
            await create_accounts(posting_service_pb2_grpc.PostingServiceStub(channel), accounts)

    async def post_until(self, stopped: asyncio.Event, *, tasks: int = 8, batch: int = 20) -> None:
        """Post batches from `tasks` tasks until the event is set; unanswered ones go to `unknown`."""
        async with self.open() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            await asyncio.gather(*(self._post_batches(stub, stopped, batch) for _ in range(tasks)))

    async def until_acknowledged(self, load: "asyncio.Task[None]", *, begun_s: float) -> None:
        """Wait until something is acknowledged that was asked for after `begun_s`: an answer may have been on its way.

        load: what posts; its failure is raised here.
        """
        await self._until(lambda: self.answered_begun_s >= begun_s, load)

    async def until_called(self, load: "asyncio.Task[None]") -> None:
        """Wait until calls are under way, which pause after a fault: a kill that hits an idle cluster shows nothing."""
        await self._until(lambda: self.calls_open > 0, load)

    async def _until(self, met: Callable[[], bool], load: "asyncio.Task[None]") -> None:
        async with asyncio.timeout(HEAL_S_MAX):
            while not met():
                if load.done():
                    load.result()
                await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Retry every unknown transfer under its id until it is answered; raises TimeoutError after `HEAL_S_MAX`."""
        async with asyncio.timeout(HEAL_S_MAX), self.open() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            while self.books.unknown:
                chosen = list(self.books.unknown.values())[:FOUND_A_CALL]
                await self._post(stub, chosen, PATIENT_CALL_S)
                await asyncio.sleep(0.02)

    async def differences(self, since: int = 0) -> list[str]:
        """Compare the cluster with the books, linearizable: one sentence for each thing that differs.

        Of the acknowledged transfers, the first `since` are not looked up again; all are in the balances.
        """
        async with asyncio.timeout(HEAL_S_MAX), self.open() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            return await self._wrong_transfers(stub, since) + await self._wrong_balances(stub)

    async def _post_batches(
        self, stub: posting_service_pb2_grpc.PostingServiceStub, stopped: asyncio.Event, batch: int
    ) -> None:
        while not stopped.is_set():
            if not await self._post(stub, [self._transfer() for _ in range(batch)]):
                await asyncio.sleep(0.02)

    def _transfer(self) -> transfer_pb2.Transfer:
        debit, credit = self.random.sample(self.accounts, 2)
        return transfer_pb2.Transfer(
            id=self.random.randbytes(16),
            debit_account=debit,
            credit_account=credit,
            amount=types_pb2.Uint128(low=self.random.randint(1, 1000)),
            ledger=LEDGER,
            kind=transfer_pb2.TRANSFER_KIND_POST,
            code=7,
            reference=self.random.randbytes(16),
        )

    async def _post(
        self,
        stub: posting_service_pb2_grpc.PostingServiceStub,
        transfers: list[transfer_pb2.Transfer],
        call_s: float = CALL_S,
    ) -> bool:
        books = self.books
        fresh = [one for one in transfers if one.id not in books.unknown]
        books.unknown.update({one.id: one for one in transfers})
        self.calls_open += 1
        begun_s = time.monotonic()
        request = posting_service_pb2.PostTransfersRequest(transfers=transfers)
        answer = await tried(stub.PostTransfers(request, timeout=call_s))
        self.calls_open -= 1
        if answer is None:
            books.were_unknown += len(fresh)
            return False
        now_ns = time.monotonic_ns()
        for transfer, result in zip(transfers, answer.results, strict=True):
            if result.WhichOneof("answer") == "fault":
                continue
            if result.outcome != POSTED:
                raise AssertionError(
                    f"transfer {transfer.id.hex()} between unlimited accounts ended as {result.outcome}"
                )
            books.acknowledged[transfer.id] = books.unknown.pop(transfer.id, transfer)
            books.acknowledged_ns.setdefault(transfer.id, now_ns)
            self.answered_begun_s = max(self.answered_begun_s, begun_s)
        return True

    async def _wrong_transfers(self, stub: posting_service_pb2_grpc.PostingServiceStub, since: int) -> list[str]:
        wrong, ids = [], list(self.books.acknowledged)[since:]
        for start in range(0, len(ids), FOUND_A_CALL):
            chosen = ids[start : start + FOUND_A_CALL]
            answer = await until_answered(
                lambda chosen=chosen: stub.GetTransfers(
                    posting_service_pb2.GetTransfersRequest(ids=chosen), timeout=PATIENT_CALL_S
                )
            )
            for one, found in zip(chosen, answer.transfers, strict=True):
                wrong += self._wrong_transfer(one, found)
        return wrong

    def _wrong_transfer(self, one: bytes, found: posting_service_pb2.TransferAnswer) -> list[str]:
        if found.WhichOneof("answer") != "stored":
            return [f"acknowledged transfer {one.hex()} is not there: {found.fault.message}"]
        asked, stored = self.books.acknowledged[one], found.stored.transfer
        fields = ("id", "debit_account", "credit_account", "amount", "ledger", "kind", "code", "reference")
        return [
            f"field {name} of transfer {one.hex()} differs"
            for name in fields
            if getattr(asked, name) != getattr(stored, name)
        ]

    async def _wrong_balances(self, stub: posting_service_pb2_grpc.PostingServiceStub) -> list[str]:
        request = posting_service_pb2.GetAccountsRequest(ids=self.accounts)
        answer = await until_answered(lambda: stub.GetAccounts(request, timeout=PATIENT_CALL_S))
        expected = self.books.balances()
        found = {
            one: state.state.balances.credits_posted.low - state.state.balances.debits_posted.low
            for one, state in zip(self.accounts, answer.accounts, strict=True)
        }
        return [
            f"account {one.hex()} has {found[one]}, not {expected.get(one, 0)}"
            for one in self.accounts
            if found[one] != expected.get(one, 0)
        ]
