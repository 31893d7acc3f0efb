"""What fails is asked again with the same ids until the deadline; then the fault says if the outcome is unknown."""

import asyncio
import time
from collections import deque

import grpc
import pytest

from engine.rpc import faults
from engine.rpc.faults import Fault, Reason
from postingengine import (
    AsyncClient,
    DeadlineExceeded,
    InvalidItem,
    NotAdmitted,
    NotAllowed,
    Transfer,
    Unavailable,
    new_id,
)
from postingengine.faults import Told
from postingengine.retry import without_answer
from tests.client_fakes import FakePosting, serving
from tests.passing_time import let_pass

pytestmark = pytest.mark.usefixtures("patient_client")
A, B = bytes([1]) * 16, bytes([2]) * 16
OVERLOADED = faults.overloaded("the queue is full")
TOO_LATE = OVERLOADED._replace(retry_after_ms=60_000)
"""No further attempt fits before the deadline."""
NO_LEADER = faults.unavailable(Reason.NOT_LEADER, "no leader is known")
UNKNOWN_FATE = faults.fate_unknown("leadership changed")
INVALID = faults.invalid("AMOUNT_ZERO", "amount is 0", field="amount")
FORBIDDEN = Fault(grpc.StatusCode.PERMISSION_DENIED.value[0], "ROLE_MISSING", "the role post is needed")


def ids_of(fake: FakePosting) -> list[list[bytes]]:
    return [[record[:16] for record in records] for records in fake.batches]


@pytest.mark.parametrize("fault", [OVERLOADED, NO_LEADER, UNKNOWN_FATE, None], ids=["full", "no", "unknown", "lost"])
async def test_a_failed_call_is_repeated_with_the_same_ids(fault: Fault | None) -> None:
    fake = FakePosting()
    fake.call_faults = deque([fault, fault])
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1) for _ in range(3)))
    assert ids_of(fake) == [[result.id for result in results]] * 3
    assert fake.batches[0] == fake.batches[1] == fake.batches[2]
    assert fake.attempts == [1, 2, 3]


async def test_what_was_posted_but_not_answered_comes_back_replayed() -> None:
    fake = FakePosting()
    fake.call_faults = deque([None])
    async with serving(fake) as address, AsyncClient(address) as client:
        result = await client.post(A, B, 5, ledger=1)
    assert (result.posted, result.replayed) == (True, True)
    assert len(fake.stored) == 1


async def test_the_engine_s_pushback_is_honoured() -> None:
    fake = FakePosting()
    fake.call_faults = deque([OVERLOADED._replace(retry_after_ms=200)])
    async with serving(fake) as address, AsyncClient(address) as client:
        started = time.monotonic()
        await client.post(A, B, 5, ledger=1)
    assert time.monotonic() - started >= 0.2
    assert len(fake.batches) == 2


async def test_a_transient_fault_of_an_item_repeats_that_item_alone() -> None:
    fake, ids = FakePosting(), [new_id().bytes for _ in range(5)]
    fake.item_faults = {ids[1]: deque([NO_LEADER, NO_LEADER]), ids[3]: deque([UNKNOWN_FATE])}
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1, id=one) for one in ids))
    assert all(result.posted for result in results)
    assert ids_of(fake) == [ids, [ids[1], ids[3]], [ids[1]]]
    assert fake.attempts == [1, 2, 3]


async def test_an_invalid_item_raises_for_its_own_caller_only() -> None:
    fake, ids = FakePosting(), [new_id().bytes for _ in range(4)]
    fake.item_faults = {ids[2]: deque([INVALID])}
    async with serving(fake) as address, AsyncClient(address) as client:
        results = await asyncio.gather(*(client.post(A, B, 5, ledger=1, id=one) for one in ids), return_exceptions=True)
    fault = results[2]
    assert isinstance(fault, InvalidItem)
    assert (fault.field, fault.reason, fault.item, fault.outcome_unknown) == ("amount", "AMOUNT_ZERO", 0, False)
    assert [one.posted for one in results if not isinstance(one, BaseException)] == [True] * 3
    assert len(fake.batches) == 1


async def test_an_invalid_leg_is_named_by_its_place_in_the_chain() -> None:
    fake, legs = FakePosting(), [Transfer(A, B, 5, 1) for _ in range(3)]
    follows = INVALID._replace(field="", reason="CHAIN_INVALID")
    fake.item_faults = {legs[row].id: deque([fault]) for row, fault in enumerate((follows, INVALID, follows))}  # type: ignore[misc]
    async with serving(fake) as address, AsyncClient(address) as client:
        before = asyncio.create_task(client.post(A, B, 5, ledger=1))
        with pytest.raises(InvalidItem) as caught:
            await client.post_chain(legs)
        assert (await before).posted
    assert (caught.value.item, caught.value.field) == (1, "amount")
    assert str(caught.value) == f"item 1, amount: {INVALID.message}"


async def test_a_chain_is_repeated_whole() -> None:
    fake, legs = FakePosting(), [Transfer(A, B, 5, 1) for _ in range(3)]
    fake.item_faults = {legs[1].id: deque([NO_LEADER])}  # type: ignore[dict-item]
    async with serving(fake) as address, AsyncClient(address) as client:
        results, _ = await asyncio.gather(client.post_chain(legs), client.post(A, B, 5, ledger=1))
    assert all(result.posted for result in results)
    assert ids_of(fake)[1] == [leg.id for leg in legs]


async def test_what_was_never_admitted_is_known_not_to_be_logged() -> None:
    fake = FakePosting()
    fake.call_faults = deque([OVERLOADED, OVERLOADED, TOO_LATE])
    async with serving(fake) as address, AsyncClient(address, timeout_s=4) as client:
        with pytest.raises(NotAdmitted) as caught:
            await client.post(A, B, 5, ledger=1)
    assert not caught.value.outcome_unknown
    assert caught.value.attempts == len(fake.batches) == 3


async def test_one_attempt_that_may_be_logged_makes_the_outcome_unknown() -> None:
    fake = FakePosting()
    fake.call_faults = deque([UNKNOWN_FATE, TOO_LATE])
    async with serving(fake) as address, AsyncClient(address, timeout_s=4) as client:
        with pytest.raises(Unavailable, match="ask again with the same id") as caught:
            await client.post(A, B, 5, ledger=1)
    assert caught.value.outcome_unknown


async def test_an_answer_that_never_comes_leaves_the_outcome_unknown_at_the_deadline() -> None:
    fake = FakePosting()
    fake.gate = asyncio.Event().wait
    async with serving(fake) as address, AsyncClient(address) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.post(A, B, 5, ledger=1, timeout_s=0.2)
    assert caught.value.outcome_unknown


async def test_a_deadline_that_cuts_an_attempt_off_tells_what_the_engine_said_before() -> None:
    cut_off = Told(grpc.StatusCode.DEADLINE_EXCEEDED, "Stream removed")
    before = Told(grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk is nearly full", "DISK_FULL", "no")
    told = without_answer(cut_off, before)
    assert told.message == "no answer came within the deadline; an attempt before was told: the disk is nearly full"
    assert told.code is grpc.StatusCode.DEADLINE_EXCEEDED and told.may_be_logged
    assert without_answer(cut_off, None).message == "no answer came within the deadline"
    assert without_answer(before, before) is before


async def test_each_post_has_its_own_deadline_in_a_shared_call() -> None:
    fake, gate = FakePosting(), asyncio.Event()
    fake.gate = gate.wait
    async with serving(fake) as address, AsyncClient(address) as client:
        patient = asyncio.create_task(client.post(A, B, 5, ledger=1))
        with pytest.raises(DeadlineExceeded):
            await client.post(A, B, 5, ledger=1, timeout_s=0.1)
        gate.set()
        assert (await patient).posted
    assert [len(records) for records in fake.batches] == [2]


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails without a word of the engine is not asked again before any deadline."""
    monkeypatch.setattr("postingengine.retry.BACKOFF_FIRST_S", 3600.0)
    monkeypatch.setattr("postingengine.retry.BACKOFF_S_MAX", 3600.0)


@pytest.mark.usefixtures("one_attempt")
async def test_nobody_there_is_unavailable_at_the_deadline() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="ask again with the same id"):
            await client.post(A, B, 5, ledger=1)
        let_pass(3600)  # a client that is closed waits until then


@pytest.mark.usefixtures("one_attempt")
async def test_a_read_that_fails_leaves_no_outcome_unknown() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable) as caught:
            await client.balance(A)
    assert not caught.value.outcome_unknown and "same id" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost", "tcp://localhost:7000", "localhost:port", "a b:1", "[::1]"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="write host:port"):
        AsyncClient(address)


@pytest.mark.parametrize("address", ["router-0.example:7000", "127.0.0.1:1, 127.0.0.1:2", "[::1]:7000", "unix:/tmp/s"])
def test_addresses_have_a_port_or_a_scheme_of_grpc(address: str) -> None:
    AsyncClient(address)


async def test_a_caller_without_the_role_is_told_at_once() -> None:
    fake = FakePosting()
    fake.call_faults = deque([FORBIDDEN])
    async with serving(fake) as address, AsyncClient(address) as client:
        with pytest.raises(NotAllowed, match="role"):
            await client.post(A, B, 5, ledger=1)
    assert len(fake.batches) == 1


async def test_the_second_address_serves_when_the_first_is_down() -> None:
    fake = FakePosting()
    async with serving(fake) as address, AsyncClient(["127.0.0.1:1", address]) as client:
        assert (await client.post(A, B, 5, ledger=1)).posted
        assert (await client.ledgers())[1].code == "EUR"


async def test_the_second_address_takes_over_when_the_first_dies() -> None:
    first, second = FakePosting(), FakePosting()
    async with serving(second) as survivor:
        async with serving(first) as victim:
            client = AsyncClient(f"{victim}, {survivor}")
            assert (await client.post(A, B, 5, ledger=1)).posted
        assert (await client.post(A, B, 5, ledger=1)).posted
        await client.close()
    assert (len(first.batches), len(second.batches)) == (1, 1)


async def test_a_server_that_comes_back_is_found_within_a_moment() -> None:
    fake = FakePosting()
    async with serving(fake) as address:
        client = AsyncClient(address)
        assert (await client.post(A, B, 5, ledger=1)).posted
    post = asyncio.create_task(client.post(A, B, 5, ledger=1))
    await asyncio.sleep(0.3)
    async with serving(fake, address):
        assert (await post).posted
        await client.close()
