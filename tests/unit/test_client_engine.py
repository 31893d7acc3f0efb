"""The client against a real engine: one replica and a router, as people's own test suites start it."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import grpc
import pytest

from postingengine import (
    Account,
    AccountFlag,
    AccountUpdate,
    Basis,
    Client,
    Consistency,
    Flag,
    InvalidItem,
    Kind,
    NotFound,
    Outcome,
    ReservationState,
    Result,
    Side,
    Transfer,
    new_id,
)
from postingengine.faults import told_by
from postingengine.testing import Engine
from postingengine.transfers import chain_records, pack_transfer
from postingengine.v1 import posting_service_pb2, posting_service_pb2_grpc, transfer_pb2, types_pb2

LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
DAY = 86_400 * 10**9


@pytest.fixture(scope="module")
def client(posting_engine: Engine) -> Iterator[Client]:
    with posting_engine.client() as one:
        yield one


def accounts(client: Client, *flags: AccountFlag, ledger: int = 1) -> list[uuid.UUID]:
    ids = [new_id() for _ in flags]
    made = client.create_accounts(Account(id, ledger, flags=flag) for id, flag in zip(ids, flags, strict=True))
    assert list(made.outcomes()) == [Outcome.ACCOUNT_CREATED] * len(ids)
    return ids


def test_three_lines_give_an_engine_with_its_ledgers(posting_engine: Engine, client: Client) -> None:
    assert {one.code: one.scale for one in client.ledgers().values()} == {"EUR": 2, "USD": 2}
    assert client.ledgers()[posting_engine.ledger("USD")].code == "USD"


def test_money_moves_once_however_often_it_is_asked(client: Client) -> None:
    alice, shop = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    id = new_id()
    first, again = (client.post(alice, shop, Decimal("12.50"), ledger=1, id=id) for _ in range(2))
    assert (first.posted, first.replayed, again.posted, again.replayed) == (True, False, True, True)
    assert (first.position, first.timestamp) == (again.position, again.timestamp)
    balance = client.balance(shop)
    assert (balance.posted, balance.whole(balance.available)) == (1250, Decimal("12.50"))


def test_refusals_and_conflicts_are_values(client: Client) -> None:
    poor, shop = accounts(client, LIMITED, AccountFlag.NONE)
    refused = client.post(poor, shop, 1, ledger=1)
    assert (refused.refused, refused.outcome) == (True, Outcome.INSUFFICIENT_FUNDS)
    conflict = client.post(poor, shop, 2, ledger=1, id=refused.id)
    assert (conflict.conflict, conflict.outcome) == (True, Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT)
    assert conflict.position is None
    assert client.post(poor, new_id(), 2, ledger=1).outcome is Outcome.CREDIT_ACCOUNT_UNKNOWN


def test_two_step_money_is_reserved_committed_in_parts_released_and_reversed(client: Client) -> None:
    payer, payee = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    hold = Transfer(payer, payee, 100, 1, Kind.RESERVE, expires_after_s=3600)
    assert client.post_transfer(hold).posted
    assert (client.balance(payer).debits_reserved, client.balance(payee).posted) == (100, 0)
    commit = hold.commit(30, keep_rest=True)
    assert client.post_transfer(commit).posted
    assert client.commit(hold.id, payer, payee, 71, ledger=1).outcome is Outcome.AMOUNT_EXCEEDS_RESERVATION
    assert client.release(hold.id, payer, payee, ledger=1).posted
    assert client.commit(hold.id, payer, payee, ledger=1).outcome is Outcome.RESERVATION_ALREADY_RELEASED
    assert client.reverse(commit.id, payer, payee, 10, ledger=1).posted
    assert (client.balance(payer).debits_reserved, client.balance(payee).posted) == (0, 20)
    stored = client.transfers([hold.id, commit.id, new_id()])
    assert stored[2] is None
    assert stored[0] is not None
    assert stored[1] is not None
    assert (stored[0].reservation_state, stored[0].transfer.amount) == (ReservationState.RELEASED, 100)
    assert (stored[1].moved, stored[1].reversed, stored[1].transfer.followed) == (30, 10, hold.id)


def test_a_chain_takes_effect_as_a_whole_or_not_at_all(client: Client) -> None:
    a, b, poor = accounts(client, AccountFlag.NONE, AccountFlag.NONE, LIMITED)
    done = client.post_chain([Transfer(a, b, 5, 1), Transfer(b, a, 3, 1)])
    assert [one.outcome for one in done] == [Outcome.POSTED] * 2
    failed = client.post_chain([Transfer(a, b, 5, 1), Transfer(poor, a, 3, 1)])
    assert [one.outcome for one in failed] == [Outcome.CHAIN_FAILED, Outcome.INSUFFICIENT_FUNDS]
    assert client.balance(b).posted == 2


def test_an_invalid_item_raises_with_its_field_and_burns_no_id(client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    id = new_id()
    with pytest.raises(InvalidItem) as caught:
        client.post(a, b, 0, ledger=1, id=id)
    assert (caught.value.field, caught.value.outcome_unknown, caught.value.item) == ("amount", False, 0)
    assert client.post(a, b, 1, ledger=1, id=id).posted


def typed(transfer: Transfer) -> transfer_pb2.Transfer:
    assert isinstance(transfer.amount, int)
    flags = [
        transfer_pb2.TransferFlag.Name(flag) for flag in transfer_pb2.TransferFlag.values() if flag & transfer.flags
    ]
    return transfer_pb2.Transfer(
        id=bytes(transfer.id),  # type: ignore[arg-type]
        debit_account=transfer.debit.bytes,  # type: ignore[union-attr]
        credit_account=transfer.credit.bytes,  # type: ignore[union-attr]
        amount=types_pb2.Uint128(low=transfer.amount),
        ledger=transfer.ledger,
        kind=f"TRANSFER_KIND_{transfer.kind.name}",
        flags=flags,
    )


def test_typed_and_packed_batches_give_the_same_outcomes(posting_engine: Engine, client: Client) -> None:
    a, b, poor = accounts(client, AccountFlag.NONE, AccountFlag.NONE, LIMITED)

    def batch() -> list[Transfer]:
        return [
            Transfer(a, b, 5, 1),
            Transfer(poor, b, 5, 1),
            Transfer(a, a, 5, 1),
            Transfer(a, b, 5, 1).linked(),
            Transfer(poor, b, 5, 1),
            Transfer(a, b, 5, 9),
            Transfer(a, b, 0, 1),
            Transfer(a, b, 7, 1, flags=Flag.BALANCING_DEBIT),
        ]

    packed = client.post_batch(batch())
    with grpc.insecure_channel(posting_engine.address) as channel:
        stub = posting_service_pb2_grpc.PostingServiceStub(channel)
        request = posting_service_pb2.PostTransfersRequest(transfers=[typed(one) for one in batch()])
        answers = stub.PostTransfers(request, timeout=10).results
    outcomes = [Outcome(one.outcome) if one.WhichOneof("answer") == "outcome" else None for one in answers]
    assert outcomes == list(packed.outcomes())
    assert outcomes.count(None) == 2
    reasons = [packed.faults[index].reason for index in sorted(packed.faults)]
    assert reasons == [told_by(one.fault).reason for one in answers if one.WhichOneof("answer") == "fault"]


def test_accounts_are_made_once_changed_by_version_and_closed_for_ever(client: Client) -> None:
    id, other = new_id(), new_id()
    account = Account(id, 1, 7, LIMITED, Decimal("1.00"), new_id())
    assert client.create_account(account).outcome is Outcome.ACCOUNT_CREATED
    assert client.create_account(account).replayed
    assert client.create_account(Account(id, 2)).conflict
    state = client.account(id)
    assert (state.ledger, state.code, state.flags, state.overdraft_limit) == (1, 7, LIMITED, 100)
    assert (uuid.UUID(bytes=state.reference), state.balance.available) == (account.reference, 100)
    frozen = AccountUpdate(id, 1, state.version, overdraft_limit=50, frozen=True)
    assert client.update_account(frozen).outcome is Outcome.ACCOUNT_UPDATED
    assert client.update_account(frozen).replayed
    stale = AccountUpdate(id, 1, state.version)
    assert client.update_account(stale).outcome is Outcome.ACCOUNT_VERSION_DIFFERS
    now = client.account(id)
    assert (now.flags, now.overdraft_limit, now.version) == (LIMITED | AccountFlag.FROZEN, 50, state.version + 1)
    client.create_account(Account(other, 1))
    assert client.post(other, id, 1, ledger=1).outcome is Outcome.CREDIT_ACCOUNT_FROZEN
    assert client.update_account(AccountUpdate(id, 1, now.version, closed=True)).posted
    assert client.post(other, id, 1, ledger=1).outcome is Outcome.CREDIT_ACCOUNT_CLOSED


def test_an_account_that_is_not_there_is_none_among_many_and_raises_alone(client: Client) -> None:
    (there,) = accounts(client, AccountFlag.NONE)
    missing = new_id()
    found = client.balances([missing, there])
    assert found[0] is None
    assert found[1] is not None
    with pytest.raises(NotFound, match=missing.hex):
        client.balance(missing)
    with pytest.raises(NotFound):
        list(client.statement(missing))
    with pytest.raises(NotFound):
        client.balance_at(missing, 1)


def test_a_statement_runs_on_both_clocks_page_by_page(client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    days = [datetime(2024, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
    posted = [
        client.post(a, b, amount, ledger=1, effective_at=day) for amount, day in zip((1, 10, 100), days, strict=True)
    ]
    client.reserve(a, b, 1000, ledger=1)
    booked = list(client.statement(b, page_entries=2))
    assert [(one.amount, one.running_balance, one.side) for one in booked] == [
        (1, 1, Side.CREDIT),
        (10, 11, Side.CREDIT),
        (100, 111, Side.CREDIT),
    ]
    assert [one.transfer_id for one in booked] == [one.id for one in posted]
    assert [one.counter_account for one in booked] == [a.bytes] * 3
    value = list(client.statement(b, basis=Basis.VALUE, page_entries=1))
    assert [(one.amount, one.running_balance) for one in value] == [(10, 10), (100, 110), (1, 111)]
    part = client.statement(b, basis=Basis.VALUE, from_time=days[2], to_time=days[0])
    assert [one.amount for one in part] == [100]
    assert [one.running_balance for one in client.statement(a)] == [-1, -11, -111]


def test_balances_of_the_past_on_both_clocks(client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    first = client.post(a, b, 5, ledger=1, effective_at=10 * DAY)
    second = client.post(a, b, 7, ledger=1, effective_at=5 * DAY)
    booked = [client.balance_at(b, one.timestamp).posted for one in (first, second)]
    value = [client.balance_at(b, day * DAY, basis=Basis.VALUE).posted for day in (4, 5, 10)]
    assert (booked, value) == ([5, 12], [0, 7, 12])
    assert client.balance_at(a, second.timestamp).debits_posted == 12


def test_a_read_includes_one_s_own_writes_at_every_consistency_but_stale(client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    for number in range(1, 20):
        client.post(a, b, 1, ledger=1)
        freshness = (Consistency.LINEARIZABLE, Consistency.OWN_WRITES)[number % 2]
        assert client.balance(b, consistency=freshness).posted == number
    stale = client.balance(b, consistency=Consistency.STALE)
    assert stale.read_at.log_index > 0


async def test_an_asyncio_client_posts_thousands_at_a_time(posting_engine: Engine, client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    async with posting_engine.async_client() as one:
        results = await asyncio.gather(*(one.post(a, b, 1, ledger=1) for _ in range(5000)))
        assert {result.outcome for result in results} == {Outcome.POSTED}
        assert len({(result.group, result.position) for result in results}) == 5000
        assert (await one.balance(b)).posted == 5000
        assert len([entry async for entry in one.statement(b)]) == 5000


async def test_a_full_packed_batch_and_a_chain_as_long(posting_engine: Engine, client: Client) -> None:
    a, b = accounts(client, AccountFlag.NONE, AccountFlag.NONE)
    packed = b"".join(pack_transfer(Transfer(a, b, 1, 1), 1) for _ in range(8190))
    chain = chain_records([Transfer(a, b, 1, 1) for _ in range(8190)], [1] * 8190)
    async with posting_engine.async_client() as one:
        answers = await asyncio.gather(one.post_batch(packed), one.post_batch(b"".join(chain)))
        assert [set(answer.outcomes()) for answer in answers] == [{Outcome.POSTED}] * 2
        assert all(isinstance(answer[-1], Result) for answer in answers)
        assert (await one.balance(b)).posted == 2 * 8190
