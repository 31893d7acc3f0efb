"""A caller of everything that may cross groups, with books of its own: posts, chains, holds and their ends, reversals.

Like `tests.chaos.caller` it shares no code with the engine or its client. It knows what it asked for and what it was
told; from that alone follow all balances, and what must be true of the whole cluster at rest.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from postingengine.v1 import (
    account_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
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

FUNDS: Final = 300
"""Of a wallet, which may not go below zero: some of what is asked of it is refused."""
HOLD_S_MAX: Final = 3
ASKS_A_CALL: Final = 200

Transfer = transfer_pb2.Transfer


@dataclass
class Ask:
    """One chain, mostly of one transfer, and what it was answered."""

    legs: list[Transfer]
    outcomes: tuple[int, ...] = ()

    @property
    def took_effect(self) -> bool:
        return bool(self.outcomes) and all(outcome == POSTED for outcome in self.outcomes)


@dataclass
class MixedBooks:
    """What the caller knows."""

    told: list[Ask] = field(default_factory=list)
    unknown: list[Ask] = field(default_factory=list)
    were_unknown: int = 0
    """How many asks were ever unanswered."""
    differences: list[str] = field(default_factory=list)
    """What was found wrong on the way."""

    def balances(self) -> dict[bytes, int]:
        """Credits less debits of every account, from what took effect."""
        total: dict[bytes, int] = {}
        for ask in self.told:
            for leg in ask.legs if ask.took_effect else ():
                amount = moved_by(leg)
                total[leg.debit_account] = total.get(leg.debit_account, 0) - amount
                total[leg.credit_account] = total.get(leg.credit_account, 0) + amount
        return total


def moved_by(leg: Transfer) -> int:
    """What a transfer that took effect moves from its debit to its credit account."""
    if leg.kind in (transfer_pb2.TRANSFER_KIND_POST, transfer_pb2.TRANSFER_KIND_COMMIT):
        return leg.amount.low
    return -leg.amount.low if leg.kind == transfer_pb2.TRANSFER_KIND_REVERSE else 0


class MixedCaller:
    """Asks at random, through any of some routers, from several tasks."""

    def __init__(self, addresses: Sequence[str], *, seed: int, banks: int = 9, wallets: int = 9) -> None:
        """Draw everything from `seed`; no account exists yet."""
        self.random, self.books = random.Random(seed), MixedBooks()
        self.banks = [self.random.randbytes(16) for _ in range(banks)]
        self.wallets = [self.random.randbytes(16) for _ in range(wallets)]
        self.accounts = [*self.banks, *self.wallets]
        self._addresses = list(addresses)
        self._holds: list[Transfer] = []
        self._posts: list[Transfer] = []

    async def open_accounts(self) -> None:
        """Create the accounts and fund the wallets, retrying until the cluster answers."""
        limited = [account_pb2.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS]
        accounts = [account_pb2.Account(id=one, ledger=LEDGER, code=1) for one in self.banks]
        accounts += [account_pb2.Account(id=one, ledger=LEDGER, code=1, flags=limited) for one in self.wallets]
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            await create_accounts(posting_service_pb2_grpc.PostingServiceStub(channel), accounts)
        self.books.unknown += [Ask([self._transfer(self.banks[0], wallet, FUNDS)]) for wallet in self.wallets]
        await self.settle()

    async def ask_until(self, stopped: asyncio.Event, *, tasks: int = 6, batch: int = 6) -> None:
        """Ask batches from `tasks` tasks until the event is set; what stays unanswered goes to `unknown`."""

        async def ask_batches(number: int) -> None:
            async with self._channel(number) as channel:
                stub = posting_service_pb2_grpc.PostingServiceStub(channel)
                while not stopped.is_set():
                    if not await self._post(stub, [self._new_ask() for _ in range(batch)]):
                        await asyncio.sleep(0.02)

        await asyncio.gather(*(ask_batches(number) for number in range(tasks)))

    async def settle(self) -> None:
        """Retry every unknown ask under its ids until it is answered; raises TimeoutError after `HEAL_S_MAX`."""
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            while self.books.unknown:
                chosen, self.books.unknown = self.books.unknown[:ASKS_A_CALL], self.books.unknown[ASKS_A_CALL:]
                if not await self._post(stub, chosen, PATIENT_CALL_S):
                    await asyncio.sleep(0.05)

    async def check_answers(self, asks: Sequence[Ask]) -> list[str]:
        """Ask everything again, by another router maybe: each id has one outcome, and of a chain all legs or none."""
        wrong = [
            f"chain {ask.legs[0].id.hex()} took effect in part: {ask.outcomes}"
            for ask in asks
            if POSTED in ask.outcomes and not ask.took_effect
        ]
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            for first in range(0, len(asks), ASKS_A_CALL):
                wrong += await self._ask_again(stub, asks[first : first + ASKS_A_CALL])
        return wrong

    async def check_balances(self) -> list[str]:
        """Compare every account with the books, at rest: one sentence for each thing that differs."""
        request = posting_service_pb2.GetAccountsRequest(ids=self.accounts)
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            stub = posting_service_pb2_grpc.PostingServiceStub(channel)
            answer = await until_answered(lambda: stub.GetAccounts(request, timeout=PATIENT_CALL_S))
        expected, wrong = self.books.balances(), []
        for one, found in zip(self.accounts, answer.accounts, strict=True):
            balances = found.state.balances
            balance = balances.credits_posted.low - balances.debits_posted.low
            if balance != expected.get(one, 0):
                wrong.append(f"account {one.hex()} has {balance}, not {expected.get(one, 0)}")
            if balances.debits_reserved.low or balances.credits_reserved.low:
                wrong.append(f"account {one.hex()} has something reserved, and nothing is open")
            if one in self.wallets and balance < 0:
                wrong.append(f"wallet {one.hex()} is below zero: {balance}")
        return wrong

    async def open_now(self) -> tuple[list[str], int]:
        """List the chains, and count the reservations, that are open in all groups; TimeoutError after `HEAL_S_MAX`."""
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            chains, reservations, token = list[str](), 0, ""
            while True:
                request = admin_service_pb2.ListOpenRequest(page_token=token)
                page = await until_answered(lambda request=request: stub.ListOpen(request, timeout=PATIENT_CALL_S))
                chains += [described(chain) for chain in page.chains]
                reservations += len(page.reservations)
                token = page.next_page_token
                if not token:
                    return chains, reservations

    async def check_audits(self, groups: int) -> list[str]:
        """Audit all groups at rest: books balance, and nothing is in transit."""
        async with asyncio.timeout(HEAL_S_MAX), self._channel() as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            audit = await until_answered(lambda: stub.Audit(admin_service_pb2.AuditRequest(), timeout=PATIENT_CALL_S))
        wrong = [] if len(audit.groups) == groups else [f"{len(audit.groups)} of {groups} groups were audited"]
        moved: dict[tuple[int, int, int], int] = {}
        for one in audit.groups:
            group = one.read_at.group
            if not one.balanced:
                wrong.append(f"the books of group {group} do not balance: {one}")
            if one.open_chains:
                wrong.append(f"group {group} says that {one.open_chains} chains are open, and lists none")
            for transit in one.transit_balances:
                moved[group, transit.peer_group, transit.ledger] = signed(transit.balance)
                if signed(transit.pending):
                    wrong.append(f"group {group} has {signed(transit.pending)} pending for group {transit.peer_group}")
        wrong += [
            f"transit of groups {a} and {b} differs: {amount} and {moved.get((b, a, ledger), 0)}"
            for (a, b, ledger), amount in moved.items()
            if amount + moved.get((b, a, ledger), 0)
        ]
        return wrong

    # ---- what is asked ----

    def _new_ask(self) -> Ask:
        choice = self.random.random()
        if choice < 0.15:
            return Ask(self._chain(self.random.randint(2, 4)))
        if choice < 0.3:
            return Ask([self._hold()])
        if choice < 0.5 and self._holds:
            return Ask([self._end_of(self._holds.pop(self.random.randrange(len(self._holds))))])
        if choice < 0.55 and self._posts:
            return Ask([self._reversal(self.random.choice(self._posts))])
        return Ask([self._transfer(*self.random.sample(self.accounts, 2), self.random.randint(1, 100))])

    def _chain(self, legs: int) -> list[Transfer]:
        found = [self._transfer(*self.random.sample(self.accounts, 2), self.random.randint(1, 50)) for _ in range(legs)]
        if self.random.random() < 0.2:
            held = self.random.choice(found)
            held.kind, held.timeout_s = transfer_pb2.TRANSFER_KIND_RESERVE, self.random.randint(1, HOLD_S_MAX)
        for leg in found[:-1]:
            leg.flags.append(transfer_pb2.TRANSFER_FLAG_LINKED)
        return found

    def _hold(self) -> Transfer:
        hold = self._transfer(*self.random.sample(self.accounts, 2), self.random.randint(10, 60))
        hold.kind, hold.timeout_s = transfer_pb2.TRANSFER_KIND_RESERVE, self.random.randint(1, HOLD_S_MAX)
        return hold

    def _end_of(self, hold: Transfer) -> Transfer:
        end = self._transfer(hold.debit_account, hold.credit_account, self.random.randint(1, hold.amount.low))
        end.kind, end.followed = transfer_pb2.TRANSFER_KIND_COMMIT, hold.id
        if self.random.random() < 0.4:
            end.kind = transfer_pb2.TRANSFER_KIND_RELEASE
            end.ClearField("amount")
        return end

    def _reversal(self, post: Transfer) -> Transfer:
        back = self._transfer(post.debit_account, post.credit_account, self.random.randint(1, post.amount.low))
        back.kind, back.followed = transfer_pb2.TRANSFER_KIND_REVERSE, post.id
        return back

    def _transfer(self, debit: bytes, credit: bytes, amount: int) -> Transfer:
        return Transfer(
            id=self.random.randbytes(16),
            debit_account=debit,
            credit_account=credit,
            amount=types_pb2.Uint128(low=amount),
            ledger=LEDGER,
            kind=transfer_pb2.TRANSFER_KIND_POST,
            code=7,
        )

    # ---- asking ----

    def _channel(self, number: int | None = None) -> grpc.aio.Channel:
        """Reach one of the routers: by number, or any."""
        at = self.random.randrange(len(self._addresses)) if number is None else number % len(self._addresses)
        return open_channel(self._addresses[at])

    async def _post(
        self, stub: posting_service_pb2_grpc.PostingServiceStub, asks: list[Ask], call_s: float = CALL_S
    ) -> bool:
        answer = await tried(stub.PostTransfers(_request(asks), timeout=call_s))
        if answer is None:
            self.books.were_unknown += len(asks)
            self.books.unknown += asks
            return False
        for ask, outcomes in zip(asks, _outcomes(asks, answer), strict=True):
            self._note(ask, outcomes)
        return True

    def _note(self, ask: Ask, outcomes: tuple[int, ...]) -> None:
        if not all(outcomes):  # a fault: the outcome is not known
            self.books.were_unknown += 1
            self.books.unknown.append(ask)
            return
        ask.outcomes = outcomes
        self.books.told.append(ask)
        if ask.took_effect and len(ask.legs) == 1:
            leg = ask.legs[0]
            if leg.kind == transfer_pb2.TRANSFER_KIND_RESERVE:
                self._holds.append(leg)
            elif leg.kind == transfer_pb2.TRANSFER_KIND_POST:
                self._posts.append(leg)

    async def _ask_again(self, stub: posting_service_pb2_grpc.PostingServiceStub, asks: Sequence[Ask]) -> list[str]:
        wrong = []
        again = list(asks)
        while again:
            request = _request(again)
            answer = await until_answered(lambda request=request: stub.PostTransfers(request, timeout=PATIENT_CALL_S))
            found = list(zip(again, _outcomes(again, answer), strict=True))
            wrong += [
                f"chain {ask.legs[0].id.hex()} was told {ask.outcomes}, and then {outcomes}"
                for ask, outcomes in found
                if all(outcomes) and outcomes != ask.outcomes
            ]
            again = [ask for ask, outcomes in found if not all(outcomes)]
        return wrong


def described(chain: admin_service_pb2.OpenChain) -> str:
    """Say of an open chain what tells why it is open."""
    legs = ", ".join(
        f"{transfer_pb2.TransferKind.Name(leg.kind)} {leg.debit_group}->{leg.credit_group}" for leg in chain.legs
    )
    waits = f"group {chain.group} waits for {list(chain.waits_for)} of {list(chain.groups)}"
    return f"{chain.id.hex()} ({legs}; decided by {chain.decider}): {waits} for {chain.age_ns / 1e9:.1f} s"


def _request(asks: Sequence[Ask]) -> posting_service_pb2.PostTransfersRequest:
    return posting_service_pb2.PostTransfersRequest(transfers=[leg for ask in asks for leg in ask.legs])


def _outcomes(asks: Sequence[Ask], answer: posting_service_pb2.PostTransfersResponse) -> list[tuple[int, ...]]:
    """By ask, each leg's outcome; 0 where it has a fault."""
    results = iter(answer.results)
    return [tuple(int(next(results).outcome) for _ in ask.legs) for ask in asks]


def signed(number: types_pb2.Int128) -> int:
    """Read two's complement of 128 bits."""
    bits = number.low | number.high << 64
    return bits - (bits >> 127 << 128)
