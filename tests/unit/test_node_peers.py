"""Two groups of one replica each, without a router: steps by rpc, and the couriers that end what nobody drives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from engine.config import ClusterConfig, GroupConfig, ReplicaConfig, initial_settings
from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_answers import decode_answers, words_of
from engine.core.chains.step_record import StepRecord, encode_steps, steps_of
from engine.core.chains.word import Order, State, Step, Word
from engine.core.placement import slot_of
from engine.core.records import Kind
from engine.core.settings import Settings, group_of_slots
from engine.rpc.faults import ABORTED, FAILED_PRECONDITION, INVALID_ARGUMENT, CallFailed, Fault
from engine.rpc.group_client import GroupClient
from engine.rpc.steps import EPOCH_KEY, ON_RECORD, Sender, send_steps
from engine.rpc.typed import NO_ID, RECORD
from engine.service.replica import Replica
from engine.service.transit import own_legs, sum_up
from postingengine.v1.admin_service_pb2 import AuditRequest, ListOpenRequest
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, PostTransfersRequest
from tests.ports import free_address
from tests.running_node import Node, cluster, identity, running_node, transfer

GROUPS = 2
NEVER_MS = 3_600_000
EPOCH = 1


def two_groups(folder: Path, **limits: int) -> ClusterConfig:
    """Two groups with one replica each."""
    one = cluster(folder, **limits)
    other = ReplicaConfig(id="a", peer=free_address(), grpc=free_address(), folder=str(folder / "other"))
    return msgspec.structs.replace(one, groups=(one.groups[0], GroupConfig(group=1, replicas=(other,))))


def accounts_of(config: ClusterConfig, group: int, count: int) -> list[bytes]:
    """Ids of accounts whose home is that group."""
    owners = group_of_slots(initial_settings(config))
    found = (identity(number) for number in range(1, 10_000))
    here = (one for one in found if owners[slot_of(one, config.hash_seed)] == group)
    return [next(here) for _ in range(count)]


class Groups:
    """The two nodes, and what is sent to them."""

    def __init__(self, config: ClusterConfig, nodes: list[Node]) -> None:
        self.config, self.nodes = config, nodes
        self.clients = [GroupClient(group, [node.address]) for group, node in enumerate(nodes)]
        self.debit, self.credit = accounts_of(config, 0, 1)[0], accounts_of(config, 1, 1)[0]

    async def open_accounts(self) -> None:
        await self.nodes[0].make_accounts(self.debit)
        await self.nodes[1].make_accounts(self.credit)

    def chain(
        self,
        number: int,
        kind: Kind = Kind.POST,
        timeout_s: int = 0,
        credit: bytes = b"",
        followed: bytes = NO_ID,
    ) -> Chain:
        name = (1_000_000 + number).to_bytes(16, "big")
        accounts = self.debit, credit or self.credit
        row = RECORD.pack(name, *accounts, 5, 0, followed, NO_ID, 0, 0, 1, timeout_s, 0, int(kind), 0, 0)
        return chain_of(row, Plan((Side(0, 1),), 1))

    async def send(self, group: int, *orders: Order, **options: Any) -> list[Word | None]:
        record = options.pop("record", None) or steps_of(orders)
        sender = Sender(options.pop("cluster_id", self.config.cluster_id), options.pop("epoch", EPOCH))
        client = self.clients[options.pop("to", group)]
        rows = record.rows.tobytes()
        stepped = await send_steps(client, sender, rows, encode_steps(record), time.monotonic() + 10, **options)
        return words_of(decode_answers(stepped.answers), [order.chain for order in orders], group)

    async def reserve(self, chain: Chain) -> None:
        (word,) = await self.send(0, Order(Step.RESERVE, 0, chain))
        assert word is not None
        assert word.state is State.RESERVED

    async def states(self, chain: Chain) -> list[State]:
        words = [(await self.send(group, Order(Step.ASK, group, chain)))[0] for group in range(GROUPS)]
        return [State.NONE if word is None else word.state for word in words]

    async def are(self, chain: Chain, *states: State) -> bool:
        return await self.states(chain) == list(states)

    async def audits(self) -> list[Any]:
        return [(await node.admin.Audit(AuditRequest(), timeout=5)).groups[0] for node in self.nodes]

    async def transits(self) -> list[dict[tuple[int, int], tuple[int, int]]]:
        """By group: for each other group and ledger the balance, and what is pending."""
        return [
            {(one.peer_group, one.ledger): (signed(one.balance), signed(one.pending)) for one in audit.transit_balances}
            for audit in await self.audits()
        ]

    async def open_pages(self, group: int, size: int) -> AsyncIterator[Any]:
        token = ""
        while True:
            request = ListOpenRequest(page_size=size, page_token=token)
            page = await self.nodes[group].admin.ListOpen(request, timeout=5)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def at_rest(self) -> bool:
        pages = [page for group in range(GROUPS) async for page in self.open_pages(group, size=100)]
        return not any(page.chains or page.reservations for page in pages)

    async def until(self, holds: Callable[[], Any], what: str) -> None:
        for _ in range(1200):
            if await holds():
                return
            await asyncio.sleep(0.025)
        raise AssertionError(f"not within 30 s: {what}")

    async def balance(self, group: int, account: bytes) -> tuple[int, int]:
        answer = await self.nodes[group].posting.GetAccounts(GetAccountsRequest(ids=[account]), timeout=5)
        balances = answer.accounts[0].state.balances
        return balances.credits_posted.low - balances.debits_posted.low, balances.debits_reserved.low


@asynccontextmanager
async def running(folder: Path, clock_ns: Callable[[], int] = time.time_ns, **limits: int) -> AsyncIterator[Groups]:
    config = two_groups(folder, **limits)
    async with AsyncExitStack() as stack:
        starting = (running_node(config, group=group, clock_ns=clock_ns) for group in range(GROUPS))
        nodes = [await stack.enter_async_context(one) for one in starting]
        groups = Groups(config, nodes)
        await groups.open_accounts()
        yield groups
        for client in groups.clients:
            await client.close()


def signed(number: Any) -> int:
    bits: int = number.low | number.high << 64
    return bits - (bits >> 127 << 128)


async def failed(sending: Any) -> Fault:
    with pytest.raises(CallFailed) as raised:
        await sending
    return raised.value.fault


async def test_steps_by_rpc_reserve_decide_and_commit(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        chains = [groups.chain(number) for number in range(50)]
        words = await groups.send(0, *(Order(Step.RESERVE, 0, chain) for chain in chains))
        assert {word.state for word in words if word} == {State.RESERVED}
        assert await groups.balance(0, groups.debit) == (0, 250)
        words = await groups.send(1, *(Order(Step.DECIDE, 1, chain, (5,)) for chain in chains))
        assert {word.state for word in words if word} == {State.POSTED}
        assert await groups.balance(1, groups.credit) == (250, 0)
        words = await groups.send(0, *(Order(Step.COMMIT, 0, chain, (5,)) for chain in chains))
        assert {word.state for word in words if word} == {State.COMMITTED}
        assert await groups.balance(0, groups.debit) == (-250, 0)


async def test_what_is_on_record_is_answered_without_logging_it_again(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        known, new = groups.chain(1), groups.chain(2)
        await groups.reserve(known)
        before = await log_index(groups, 0)
        order = Order(Step.RESERVE, 0, known)
        assert [word.state for word in await groups.send(0, order, attempt=2) if word] == [State.RESERVED]
        assert [word.state for word in await groups.send(0, order, epoch=ON_RECORD, attempt=2) if word] == [
            State.RESERVED
        ]
        await groups.states(known)
        assert await log_index(groups, 0) - before <= 2, "only the reads' own barriers"
        words = await groups.send(0, Order(Step.RESERVE, 0, new), order, Order(Step.ASK, 0, new), attempt=2)
        assert [(word.state, word.chain.chain_id) if word else None for word in words] == [
            (State.RESERVED, new.chain_id),
            (State.RESERVED, known.chain_id),
            None,
        ]
        assert await groups.states(new) == [State.RESERVED, State.NONE]


async def log_index(groups: Groups, group: int) -> int:
    audit = await groups.nodes[group].admin.Audit(AuditRequest(), timeout=5)
    return int(audit.groups[0].read_at.log_index)


async def test_what_is_not_meant_for_a_group_is_told_so_and_not_logged(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        chain = groups.chain(1)
        order = Order(Step.RESERVE, 0, chain)
        fault = await failed(groups.send(0, order, cluster_id="f" * 32))
        assert (fault.code, fault.reason, fault.logged) == (FAILED_PRECONDITION, "CLUSTER_DIFFERS", "no")
        other = groups.clients[0]
        groups.clients[0] = GroupClient(0, [groups.nodes[1].address])
        fault = await failed(groups.send(0, order))
        assert (fault.code, fault.reason) == (FAILED_PRECONDITION, "CLUSTER_DIFFERS")
        await groups.clients[0].close()
        groups.clients[0] = other
        record = steps_of([order])
        fault = await failed(groups.send(0, order, record=record._replace(steps=record.steps[:0])))
        assert (fault.code, fault.reason) == (INVALID_ARGUMENT, "STEPS_UNREADABLE")
        empty = StepRecord(record.rows[:0], record.steps[:0], record.sides[:0], record.amounts)
        assert (await failed(groups.send(0, record=empty))).reason == "BATCH_EMPTY"
        moved = chain_of(chain.rows, Plan((Side(0, 0),), 1))
        assert (await failed(groups.send(1, Order(Step.RESERVE, 1, moved)))).reason == "PLAN_DIFFERS"
        assert await groups.states(chain) == [State.NONE, State.NONE]


@pytest.fixture
def newer_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every group had logged placement epoch 7."""

    def settings(self: Replica) -> Settings:
        held = self.machine.book.settings
        assert held is not None
        return msgspec.structs.replace(held, placement_epoch=7)

    monkeypatch.setattr(Replica, "settings", settings)


@pytest.mark.usefixtures("newer_placement")
async def test_a_newer_placement_refuses_what_an_old_one_laid_out_but_not_what_is_on_record(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        chain = groups.chain(1)
        fault = await failed(groups.send(0, Order(Step.RESERVE, 0, chain), epoch=6))
        assert (fault.code, fault.reason, fault.logged) == (ABORTED, "PLACEMENT_STALE", "no")
        assert await groups.send(0, Order(Step.ASK, 0, chain), epoch=7) == [None]
        for epoch in (7, ON_RECORD):
            (word,) = await groups.send(0, Order(Step.RESERVE, 0, chain), epoch=epoch)
            assert word is not None
            assert word.state is State.RESERVED


@pytest.mark.usefixtures("newer_placement")
async def test_a_post_placed_by_an_old_map_is_refused_before_it_is_logged(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        other = accounts_of(groups.config, 0, 2)[1]
        await groups.nodes[0].make_accounts(other)
        request = PostTransfersRequest(transfers=[transfer(1, groups.debit, other)])
        post = groups.nodes[0].posting.PostTransfers
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await post(request, metadata=((EPOCH_KEY, "6"),), timeout=5)
        assert refused.value.code() is grpc.StatusCode.ABORTED
        answer = await post(request, metadata=((EPOCH_KEY, "7"),), timeout=5)
        assert (answer.results[0].outcome, answer.results[0].replayed) == (1, False)


async def test_a_courier_ends_what_a_router_left_in_each_state(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=1) as groups:
        reserved, decided = groups.chain(1), groups.chain(2)
        poor = groups.chain(3, credit=accounts_of(groups.config, 1, 2)[1])
        for chain in (reserved, decided, poor):
            await groups.reserve(chain)
        await groups.send(1, Order(Step.DECIDE, 1, decided, (5,)))
        await groups.until(groups.at_rest, "nothing is open")
        assert await groups.states(reserved) == [State.COMMITTED, State.POSTED]
        assert await groups.states(decided) == [State.COMMITTED, State.POSTED]
        assert await groups.states(poor) == [State.RELEASED, State.REFUSED]
        assert await groups.balance(0, groups.debit) == (-10, 0)
        assert await groups.transits() == [{(1, 1): (10, 0)}, {(0, 1): (-10, 0)}]


async def test_a_hold_over_groups_expires_in_both_without_any_traffic(tmp_path: Path) -> None:
    later_ns = [0]
    async with running(tmp_path, lambda: time.time_ns() + later_ns[0], courier_grace_ms=1) as groups:
        hold = groups.chain(1, kind=Kind.RESERVE, timeout_s=1000)
        await groups.send(0, Order(Step.RESERVE, 0, hold))
        await groups.until(lambda: groups.are(hold, State.HELD, State.HELD), "both hold it")
        assert await groups.balance(0, groups.debit) == (0, 5)
        later_ns[0] = 1000 * 10**9
        await groups.until(groups.at_rest, "it has expired in both")
        assert await groups.balance(0, groups.debit) == (0, 0)
        words = [(await groups.send(group, Order(Step.ASK, group, hold)))[0] for group in range(GROUPS)]
        assert [word.holds[0].state for word in words if word] == [State.EXPIRED, State.EXPIRED]
        assert all(audit.balanced for audit in await groups.audits())


async def test_what_is_open_is_listed_with_who_is_waited_for_and_audited_as_pending(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        chains = [groups.chain(number) for number in range(3)]
        for chain in chains:
            await groups.reserve(chain)
        hold = groups.chain(9, kind=Kind.RESERVE)
        await groups.send(0, Order(Step.RESERVE, 0, hold))
        (decided,) = await groups.send(1, Order(Step.DECIDE, 1, hold, (5,)))
        assert decided is not None
        await groups.send(0, Order(Step.HOLD, 0, hold, (5,)))
        pages = [page async for page in groups.open_pages(0, size=2)]
        assert [[one.id for one in page.chains] for page in pages] == [
            [chains[0].chain_id, chains[1].chain_id],
            [chains[2].chain_id],
        ]
        assert [[one.id for one in page.reservations] for page in pages] == [[], [hold.chain_id]]
        assert pages[1].reservations[0].decider == 1
        first = pages[0].chains[0]
        assert (first.group, first.decider, list(first.groups), list(first.waits_for)) == (0, 1, [0, 1], [1])
        assert first.timestamp > 0
        (leg,) = first.legs
        assert (leg.id, leg.amount.low, leg.debit_group, leg.credit_group) == (chains[0].chain_id, 5, 0, 1)
        audits = await groups.audits()
        assert [(audit.balanced, audit.open_chains) for audit in audits] == [(True, 3), (True, 0)]
        assert await groups.transits() == [{(1, 1): (0, 15)}, {(0, 1): (0, 0)}]


async def test_plain_chains_are_audited_together_as_they_would_be_one_by_one(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        kinds = [Kind.POST] * 5 + [Kind.RESERVE] * 3
        chains = [groups.chain(number, kind=kind) for number, kind in enumerate(kinds)]
        await groups.send(0, *(Order(Step.RESERVE, 0, chain) for chain in chains))
        hold = groups.chain(20, kind=Kind.RESERVE)
        await groups.reserve(hold)
        await groups.send(1, Order(Step.DECIDE, 1, hold, (5,)))
        await groups.send(0, Order(Step.HOLD, 0, hold, (5,)))
        ends = groups.chain(21, kind=Kind.COMMIT, followed=hold.chain_id)
        words = await groups.send(0, Order(Step.RESERVE, 0, ends))
        assert [word.state for word in words if word] == [State.RESERVED]
        by_one = sum_up(9, [list(own_legs(chain, (5,), 0)) for chain in (*chains, ends)])
        audit = (await groups.audits())[0]
        (balance,) = audit.trial_balances
        assert (audit.open_chains, by_one.pending) == (9, {(1, 1): 30})
        assert (await groups.transits())[0] == {(1, 1): (0, 30)}
        assert balance.debits_reserved.low == by_one.secured[1] + 5 == 45
        assert audit.balanced


async def test_a_group_that_is_down_is_named_as_waited_for(tmp_path: Path) -> None:
    config = two_groups(tmp_path, courier_grace_ms=1)
    async with AsyncExitStack() as alive:
        nodes = [await alive.enter_async_context(running_node(config))]
        async with running_node(config, group=1) as other:
            groups = Groups(config, [*nodes, other])
            await groups.open_accounts()
        chain = groups.chain(1)
        await groups.reserve(chain)

        async def names_it() -> bool:
            pages = [page async for page in groups.open_pages(0, size=2)]
            return [list(one.waits_for) for one in pages[0].chains] == [[1]]

        await groups.until(names_it, "group 1 is waited for")
        async with running_node(config, group=1):
            await groups.until(lambda: groups.are(chain, State.COMMITTED, State.POSTED), "it has ended")
        await asyncio.gather(*(client.close() for client in groups.clients))
