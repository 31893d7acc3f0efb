"""A caller's own batch: one call, one answer per item, only what failed is repeated."""

import asyncio
from collections import deque

import pytest

from engine.rpc import faults
from engine.rpc.faults import Reason
from postingengine import AsyncClient, InvalidItem, Outcome, Result, Transfer, Unavailable
from postingengine.transfers import pack_transfer
from tests.client_fakes import FakePosting, serving

pytestmark = pytest.mark.usefixtures("patient_client")
A, B = bytes([1]) * 16, bytes([2]) * 16
NO_LEADER = faults.unavailable(Reason.NOT_LEADER, "no leader is known")
INVALID = faults.invalid("AMOUNT_ZERO", "amount is 0", field="amount")


def transfers(count: int) -> list[Transfer]:
    return [Transfer(A, B, 5, 1) for _ in range(count)]


def id_of(transfer: Transfer) -> bytes:
    assert isinstance(transfer.id, bytes)
    return transfer.id


async def test_a_list_and_its_packed_bytes_are_the_same_batch() -> None:
    fake, batch = FakePosting(), transfers(5)
    packed = b"".join(pack_transfer(one, 5) for one in batch)
    async with serving(fake) as address, AsyncClient(address) as client:
        listed, again = await client.post_batch(batch), await client.post_batch(packed)
    assert fake.batches[0] == fake.batches[1]
    assert [one.replayed for one in listed.results()] == [False] * 5
    assert [one.replayed for one in again.results()] == [True] * 5


async def test_results_are_in_the_order_of_the_batch_with_refusals_as_values() -> None:
    fake, batch = FakePosting(), transfers(4)
    fake.refuse = {id_of(batch[2]): Outcome.DEBIT_ACCOUNT_FROZEN}
    async with serving(fake) as address, AsyncClient(address) as client:
        answers = await client.post_batch(batch)
    assert [one.id for one in answers.results()] == [one.id for one in batch]
    assert list(answers.outcomes()) == [
        Outcome.POSTED,
        Outcome.POSTED,
        Outcome.DEBIT_ACCOUNT_FROZEN,
        Outcome.POSTED,
    ]
    assert [isinstance(one, Result) for one in answers[1:3]] == [True, True]
    assert answers[-1] == answers[3]


async def test_a_faulty_item_holds_its_fault_and_its_neighbours_their_outcomes() -> None:
    fake, batch = FakePosting(), transfers(3)
    fake.item_faults = {id_of(batch[1]): deque([INVALID])}
    async with serving(fake) as address, AsyncClient(address) as client:
        answers = await client.post_batch(batch)
    assert list(answers.outcomes()) == [Outcome.POSTED, None, Outcome.POSTED]
    fault = answers[1]
    assert isinstance(fault, InvalidItem)
    assert (fault.item, fault.field) == (1, "amount")
    assert list(answers.faults) == [1]
    with pytest.raises(InvalidItem):
        answers.results()


async def test_only_items_with_transient_faults_are_repeated() -> None:
    fake, batch = FakePosting(), transfers(6)
    fake.item_faults = {
        id_of(batch[1]): deque([NO_LEADER]),
        id_of(batch[4]): deque([NO_LEADER, NO_LEADER]),
        id_of(batch[5]): deque([INVALID]),
    }
    async with serving(fake) as address, AsyncClient(address) as client:
        answers = await client.post_batch(batch)
    assert [len(records) for records in fake.batches] == [6, 2, 1]
    assert fake.attempts == [1, 2, 3]
    assert list(answers.faults) == [5]
    assert [one.id for one in answers if isinstance(one, Result)] == [one.id for one in batch[:5]]


async def test_an_item_still_failing_at_the_deadline_holds_its_last_fault() -> None:
    fake, batch = FakePosting(), transfers(2)
    fake.item_faults = {id_of(batch[0]): deque([NO_LEADER, NO_LEADER._replace(retry_after_ms=60_000)])}
    async with serving(fake) as address, AsyncClient(address, timeout_s=4) as client:
        answers = await client.post_batch(batch)
    assert isinstance(answers[0], Unavailable)
    assert not answers[0].outcome_unknown
    assert isinstance(answers[1], Result)


async def test_a_chain_in_a_batch_is_repeated_whole() -> None:
    fake, batch = FakePosting(), transfers(5)
    batch[1], batch[2] = batch[1].linked(), batch[2].linked()
    fake.item_faults = {id_of(batch[2]): deque([NO_LEADER])}
    async with serving(fake) as address, AsyncClient(address) as client:
        await client.post_batch(batch)
    assert [[record[:16] for record in records] for records in fake.batches[1:]] == [[id_of(one) for one in batch[1:4]]]


async def test_a_batch_that_was_never_answered_raises() -> None:
    fake = FakePosting()
    fake.call_faults = deque([NO_LEADER, NO_LEADER._replace(retry_after_ms=60_000)])
    async with serving(fake) as address, AsyncClient(address, timeout_s=4) as client:
        with pytest.raises(Unavailable, match="no leader") as caught:
            await client.post_batch(transfers(2))
    assert (caught.value.attempts, caught.value.outcome_unknown) == (2, False)


@pytest.mark.parametrize(("size", "told"), [(0, "1 to 8190"), (8191 * 128, "1 to 8190"), (129, "multiple of 128")])
async def test_a_batch_of_a_wrong_size_is_refused_before_anything_is_sent(size: int, told: str) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(ValueError, match=told):
            await client.post_batch(bytes(size))


async def test_bulk_batches_run_beside_single_posts() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address, timeout_s=300) as client:
        bulk, single = await asyncio.gather(client.post_batch(transfers(8190)), client.post(A, B, 5, ledger=1))
    assert len(bulk.results()) == 8190
    assert single.posted
