from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.core.outcomes import Outcome
from engine.rpc.faults import fault_of, fault_of_error
from postingengine.v1 import admin_service_pb2 as admin
from postingengine.v1 import posting_service_pb2 as posting
from postingengine.v1.account_pb2 import AccountFlag, AccountUpdate
from postingengine.v1.transfer_pb2 import ChainState, ReservationState, TransferFlag, TransferKind
from postingengine.v1.types_pb2 import Consistency, GroupLogIndex, Uint128
from tests.running_node import Node, cluster, identity, running_node, transfer

ALICE, BOB = identity(0xA11CE), identity(0xB0B)
REFERENCE = b"customer-0000042"
STALE = Consistency(stale=Consistency.Stale())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(cluster(tmp_path)) as running:
        await running.make_accounts(ALICE, code=7, reference=REFERENCE)
        await running.make_accounts(BOB, flags=[AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS])
        yield running


def joined(number: Any) -> int:
    return int(number.low) | int(number.high) << 64


def signed(number: Any) -> int:
    value = joined(number)
    return value - (1 << 128) if value >> 127 else value


async def failed(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    fault = fault_of_error(error.value)
    assert fault is not None
    return error.value.code(), fault.reason


async def test_an_account_reads_back_whole_with_its_read_point(node: Node) -> None:
    await node.post(
        transfer(1, ALICE, BOB, 30),
        transfer(2, BOB, ALICE, 10, kind=TransferKind.TRANSFER_KIND_RESERVE),
    )
    response = await node.posting.GetAccounts(posting.GetAccountsRequest(ids=[ALICE, BOB, identity(404)]), timeout=5)
    alice, bob, nobody = response.accounts
    assert (alice.state.account.code, alice.state.account.reference) == (7, REFERENCE)
    assert signed(alice.state.balances.balance) == -30
    assert (joined(bob.state.balances.debits_reserved), signed(bob.state.balances.available)) == (10, 20)
    assert list(bob.state.account.flags) == [AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS]
    assert bob.state.version == 1
    assert fault_of(nobody.fault).reason == "ACCOUNT_NOT_FOUND"  # type: ignore[union-attr]
    assert alice.read_at.log_index > 0
    assert not alice.read_at.HasField("stale_ms")


async def test_a_stale_read_says_how_old_it_may_be(node: Node) -> None:
    request = posting.GetAccountsRequest(ids=[ALICE], consistency=STALE)
    (alice,) = (await node.posting.GetAccounts(request, timeout=5)).accounts
    assert alice.read_at.HasField("stale_ms")
    # A log without peers knows all that is committed.
    assert alice.read_at.stale_ms < 5000


async def test_updates_need_the_version_and_take_effect(node: Node) -> None:
    update = AccountUpdate(id=identity(50), account=ALICE, ledger=1, expected_version=1, frozen=True)
    request = posting.UpdateAccountsRequest(updates=[update])
    (first,) = (await node.posting.UpdateAccounts(request, timeout=5)).results
    (again,) = (await node.posting.UpdateAccounts(request, timeout=5)).results
    assert (first.outcome, again.outcome, again.replayed) == (*[Outcome.ACCOUNT_UPDATED] * 2, True)
    (refused,) = await node.post(transfer(1, ALICE, BOB))
    assert refused.outcome == Outcome.DEBIT_ACCOUNT_FROZEN


async def test_transfers_read_back_with_their_chain_and_their_reservation(node: Node) -> None:
    linked = [TransferFlag.TRANSFER_FLAG_LINKED]
    await node.post(
        transfer(1, ALICE, BOB, 30, flags=linked),
        transfer(2, ALICE, BOB, 5),
        transfer(3, BOB, ALICE, 99, reference=REFERENCE),
        transfer(4, ALICE, BOB, 8, kind=TransferKind.TRANSFER_KIND_RESERVE),
        transfer(5, ALICE, BOB, (1 << 128) - 1, kind=TransferKind.TRANSFER_KIND_COMMIT, followed=identity(4)),
        transfer(6, ALICE, BOB, 3, kind=TransferKind.TRANSFER_KIND_REVERSE, followed=identity(2)),
    )
    ids = [identity(number) for number in (1, 2, 3, 4, 5, 6, 404)]
    response = await node.posting.GetTransfers(posting.GetTransfersRequest(ids=ids), timeout=5)
    first, second, refused, held, commit, _, missing = response.transfers
    assert first.stored.chain_state == second.stored.chain_state == ChainState.CHAIN_STATE_POSTED
    assert second.stored.leg == 1
    assert joined(second.stored.reversed) == 3
    assert (refused.stored.outcome, joined(refused.stored.moved)) == (Outcome.INSUFFICIENT_FUNDS, 0)
    assert refused.stored.transfer.reference == REFERENCE
    assert held.stored.reservation_state == ReservationState.RESERVATION_STATE_COMMITTED
    assert joined(commit.stored.transfer.amount) == (1 << 128) - 1
    assert joined(commit.stored.moved) == 8
    assert fault_of(missing.fault).reason == "TRANSFER_NOT_FOUND"  # type: ignore[union-attr]


async def test_a_read_of_at_least_a_log_index_sees_that_write(node: Node) -> None:
    response = await node.posting.PostTransfers(
        posting.PostTransfersRequest(transfers=[transfer(1, ALICE, BOB, 3)]), timeout=5
    )
    at_least = Consistency(at_least=Consistency.AtLeast(log_indexes=response.log_indexes))
    read = await node.posting.GetAccounts(posting.GetAccountsRequest(ids=[ALICE], consistency=at_least), timeout=5)
    assert signed(read.accounts[0].state.balances.balance) == -3
    assert read.accounts[0].read_at.log_index >= response.log_indexes[0].log_index
    far = Consistency(at_least=Consistency.AtLeast(log_indexes=[GroupLogIndex(group=0, log_index=10_000)]))
    late = node.posting.GetAccounts(posting.GetAccountsRequest(ids=[ALICE], consistency=far), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await late
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_statements_page_with_running_balances(node: Node) -> None:
    for number in range(1, 8):
        await node.post(transfer(number, ALICE, BOB, number))
    request = posting.ListEntriesRequest(account=ALICE, page_size=3)
    amounts, balances, token = [], [], ""
    for _ in range(3):
        request.page_token = token
        page = await node.posting.ListEntries(request, timeout=10)
        amounts += [joined(entry.amount) for entry in page.entries]
        balances += [signed(entry.running_balance) for entry in page.entries]
        assert all(entry.counter_account == BOB for entry in page.entries)
        token = page.next_page_token
    assert (amounts, token) == ([1, 2, 3, 4, 5, 6, 7], "")
    assert balances == [-1, -3, -6, -10, -15, -21, -28]


async def test_a_page_token_is_bound_to_its_arguments(node: Node) -> None:
    await node.post(*[transfer(number, ALICE, BOB, 1) for number in range(1, 5)])
    page = await node.posting.ListEntries(posting.ListEntriesRequest(account=ALICE, page_size=2), timeout=10)
    other = posting.ListEntriesRequest(account=BOB, page_size=2, page_token=page.next_page_token)
    wrong = (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    assert await failed(node.posting.ListEntries(other, timeout=5)) == wrong
    garbage = posting.ListEntriesRequest(account=ALICE, page_token="AAAAAAAAAAAAAAAA")
    assert await failed(node.posting.ListEntries(garbage, timeout=5)) == wrong
    below = posting.ListEntriesRequest(account=ALICE, page_size=-1)
    assert (await failed(node.posting.ListEntries(below, timeout=5)))[1] == "VALUE_OUT_OF_RANGE"
    nobody = posting.ListEntriesRequest(account=identity(404))
    assert (await failed(node.posting.ListEntries(nobody, timeout=5)))[1] == "ACCOUNT_NOT_FOUND"


async def test_a_balance_of_the_past_goes_by_the_clock_asked_for(node: Node) -> None:
    day = 86_400_000_000_000
    (first,) = await node.post(transfer(1, ALICE, BOB, 5, effective_at=10 * day))
    await node.post(transfer(2, ALICE, BOB, 7, effective_at=5 * day))
    booked = posting.GetBalanceAtRequest(account=BOB, basis="BASIS_BOOKED", time=first.timestamp)
    assert signed((await node.posting.GetBalanceAt(booked, timeout=5)).balance.balance) == 5
    value = posting.GetBalanceAtRequest(account=BOB, basis="BASIS_VALUE", time=6 * day)
    assert signed((await node.posting.GetBalanceAt(value, timeout=5)).balance.balance) == 7


async def test_open_reservations_are_listed_oldest_first_in_pages(node: Node) -> None:
    kind = TransferKind.TRANSFER_KIND_RESERVE
    await node.post(*[transfer(number, ALICE, BOB, number, kind=kind) for number in range(1, 8)])
    await node.post(transfer(50, ALICE, BOB, 0, kind=TransferKind.TRANSFER_KIND_RELEASE, followed=identity(4)))
    request, found = admin.ListOpenRequest(page_size=4), []
    while True:
        page = await node.admin.ListOpen(request, timeout=5)
        found += [joined(one.remaining) for one in page.reservations]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [1, 2, 3, 5, 6, 7]


async def test_the_audit_balances_and_names_its_log_index(node: Node) -> None:
    await node.make_accounts(identity(1), identity(2), ledger=2)
    await node.post(
        transfer(1, ALICE, BOB, (1 << 100) + 5),
        transfer(2, identity(1), identity(2), 9, ledger=2),
        transfer(3, ALICE, BOB, 4, kind=TransferKind.TRANSFER_KIND_RESERVE),
    )
    (group,) = (await node.admin.Audit(admin.AuditRequest(), timeout=5)).groups
    assert group.balanced
    euros, dollars = group.trial_balances
    assert joined(euros.debits_posted) == joined(euros.credits_posted) == (1 << 100) + 5
    assert joined(euros.reservations_remaining) == joined(euros.debits_reserved) == 4
    assert (dollars.ledger, dollars.accounts, joined(dollars.credits_posted)) == (2, 2, 9)
    assert len(group.state_hash) == 32


async def test_the_description_names_the_leader_and_every_index(node: Node) -> None:
    await node.post(transfer(1, ALICE, BOB, 1))
    description = await node.admin.DescribeCluster(admin.DescribeClusterRequest(), timeout=5)
    (group,) = description.groups
    (replica,) = group.replicas
    assert (group.leader, group.accounts, [ledger.code for ledger in description.ledgers]) == ("a", 2, ["EUR", "USD"])
    assert replica.applied_index == replica.commit_index == replica.durable_index == replica.last_log_index
    assert (replica.next_position, replica.lag_records) == (4, 0)
    assert not description.differences


async def test_an_id_of_the_wrong_length_fails_the_read(node: Node) -> None:
    wrong = (grpc.StatusCode.INVALID_ARGUMENT, "ID_LENGTH_INVALID")
    assert await failed(node.posting.GetAccounts(posting.GetAccountsRequest(ids=[b"x"]), timeout=5)) == wrong
    assert await failed(node.posting.GetTransfers(posting.GetTransfersRequest(ids=[b"x" * 17]), timeout=5)) == wrong
    assert await failed(node.posting.ListEntries(posting.ListEntriesRequest(account=b"x"), timeout=5)) == wrong


async def test_overdraft_and_closing_go_through_updates(node: Node) -> None:
    update = AccountUpdate(id=identity(50), account=BOB, ledger=1, expected_version=1, overdraft_limit=Uint128(low=100))
    await node.posting.UpdateAccounts(posting.UpdateAccountsRequest(updates=[update]), timeout=5)
    (posted, refused) = await node.post(transfer(1, BOB, ALICE, 100), transfer(2, BOB, ALICE, 1))
    assert [posted.outcome, refused.outcome] == [Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS]
    read = await node.posting.GetAccounts(posting.GetAccountsRequest(ids=[BOB], consistency=STALE), timeout=5)
    assert signed(read.accounts[0].state.balances.available) == 0
    assert read.accounts[0].state.version == 2
