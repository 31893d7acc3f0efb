"""Single posts go together in packed calls, within bounds, and each gets its own answer."""

import asyncio
from decimal import Decimal

import pytest

from postingengine import AsyncClient, NotAdmitted, Outcome, Transfer, Unavailable, new_id
from tests.client_fakes import TIMESTAMP, FakePosting, serving

pytestmark = pytest.mark.usefixtures("patient_client")
A, B = bytes([1]) * 16, bytes([2]) * 16


def sizes(fake: FakePosting) -> list[int]:
    return [len(records) for records in fake.batches]


async def test_posts_of_one_turn_of_the_loop_travel_in_one_call() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(100)))
    assert sizes(fake) == [100]
    assert [result.position for result in results] == list(range(100))


async def test_each_post_gets_the_answer_of_its_own_id() -> None:
    fake, ids = FakePosting(), [new_id().bytes for _ in range(50)]
    fake.refuse = {ids[7]: Outcome.INSUFFICIENT_FUNDS}
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1, id=one) for one in ids))
    assert [result.id for result in results] == ids
    assert [result.posted for result in results] == [number != 7 for number in range(50)]
    assert results[7].refused
    assert results[7].outcome is Outcome.INSUFFICIENT_FUNDS
    assert {result.timestamp for result in results} == {TIMESTAMP}


async def test_posts_made_while_calls_are_in_flight_wait_and_go_together() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    fake.gate = gate.wait
    async with serving(fake) as address, AsyncClient(address, calls_in_flight_max=2) as client:
        tasks = []
        for _ in range(20):
            tasks.append(asyncio.create_task(client.post(A, B, 5, ledger=1)))
            await asyncio.sleep(0.002)
        while fake.calls_now < 2:
            await asyncio.sleep(0.002)
        gate.set()
        await asyncio.gather(*tasks)
    assert sizes(fake) == [1, 1, 18], "two calls in flight, no more"


async def test_a_flood_of_posts_is_cut_into_full_calls_one_at_a_time() -> None:
    fake = FakePosting()
    fake.gate = lambda: asyncio.sleep(0.01)
    async with serving(fake) as address, AsyncClient(address, timeout_s=300, calls_in_flight_max=1) as client:
        await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(20_000)))
    assert sizes(fake) == [8190, 8190, 3620]
    assert fake.calls_at_once == 1


async def test_a_call_never_carries_more_than_8190_and_a_chain_is_never_cut() -> None:
    fake = FakePosting()
    chain = [Transfer(A, B, 5, 1) for _ in range(3)]
    async with serving(fake) as address, AsyncClient(address, timeout_s=300) as client:
        posts = [client.post(A, B, 5, ledger=1) for _ in range(8189)]
        await asyncio.gather(*posts, client.post_chain(chain))
    assert sorted(sizes(fake)) == [3, 8189]


async def test_the_legs_of_a_chain_are_linked_and_answered_in_order() -> None:
    fake = FakePosting()
    legs = [Transfer(A, B, amount, 1) for amount in (1, 2, 3)]
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await client.post_chain(legs)
    assert [record[123] for record in fake.batches[0]] == [1, 1, 0]
    assert [result.id for result in results] == [leg.id for leg in legs]


async def test_posts_beyond_the_queue_wait_and_none_is_lost() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address, queue_transfers_max=10) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(500)))
    assert len({result.id for result in results}) == 500
    assert max(sizes(fake)) <= 10


async def test_a_post_that_finds_no_room_until_its_deadline_was_not_sent() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    fake.gate = gate.wait
    async with serving(fake) as address, AsyncClient(address, queue_transfers_max=1) as client:
        first = asyncio.create_task(client.post(A, B, 5, ledger=1))
        await asyncio.sleep(0)
        with pytest.raises(NotAdmitted) as caught:
            await client.post(A, B, 5, ledger=1, timeout_s=0.1)
        assert not caught.value.outcome_unknown
        gate.set()
        assert (await first).posted
    assert sizes(fake) == [1]


async def test_a_cancelled_post_spoils_nobody_else_s() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    fake.gate = gate.wait
    async with serving(fake) as address, AsyncClient(address) as client:
        tasks = [asyncio.create_task(client.post(A, B, 5, ledger=1)) for _ in range(3)]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [one.posted for one in results if not isinstance(one, BaseException)] == [True, True]


async def test_closing_waits_for_what_was_submitted_and_refuses_what_comes_later() -> None:
    fake = FakePosting()
    async with serving(fake) as address:
        client = AsyncClient(address)
        post = asyncio.create_task(client.post(A, B, 5, ledger=1))
        await asyncio.sleep(0)
        await client.close()
        assert (await post).posted
        with pytest.raises(Unavailable, match="closed"):
            await client.post(A, B, 5, ledger=1)


async def test_a_decimal_uses_the_ledger_s_scale_which_is_asked_for_once() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address) as client:
        for ledger, amount in ((1, "12.50"), (2, "12"), (3, "1"), (1, "0.01")):
            await client.post(A, B, Decimal(amount), ledger=ledger)
    moved = [int.from_bytes(records[0][48:64], "little") for records in fake.batches]
    assert moved == [1250, 12, 10**18, 1]
    assert fake.ledger_calls == 2, "one reading, of two pages"


async def test_an_inexact_decimal_is_refused_before_anything_is_sent() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address) as client:
        with pytest.raises(ValueError, match="not exact"):
            await client.post(A, B, Decimal("0.001"), ledger=1)
        with pytest.raises(ValueError, match="no ledger 9"):
            await client.post(A, B, Decimal("1"), ledger=9)
        with pytest.raises(TypeError, match="float"):
            await client.post(A, B, 1.5, ledger=1)  # type: ignore[arg-type]
    assert not fake.batches


async def test_the_highest_log_index_seen_is_kept_for_reading_one_s_own_writes() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(address) as client:
        for _ in range(3):
            await client.post(A, B, 5, ledger=1)
        assert client.seen_log_indexes == {0: 3}
