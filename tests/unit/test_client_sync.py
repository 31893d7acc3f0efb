"""The client without asyncio: any number of threads, one background loop."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from engine.rpc import faults
from postingengine import Client, DeadlineExceeded, InvalidItem, NotAdmitted, Transfer, Unavailable, new_id
from tests.client_fakes import FakePosting, serving

A, B = bytes([1]) * 16, bytes([2]) * 16
WAIT_S_MAX = 30.0
INVALID = faults.invalid("AMOUNT_ZERO", "amount is 0", field="amount")


class Background:
    """A fake served by a thread of its own."""

    def __init__(self) -> None:
        self.fake, self.address = FakePosting(), ""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._stop, self._gate = asyncio.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._ready.wait(WAIT_S_MAX)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S_MAX)
        self._loop.close()

    def shut(self) -> None:
        """Let no post be answered any more until `open`."""
        self.fake.gate = self._gate.wait

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _serve(self) -> None:
        async with serving(self.fake) as self.address:
            self._ready.set()
            await self._stop.wait()


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as running:
        yield running


def test_a_post_waits_for_its_outcome(background: Background) -> None:
    with Client(background.address) as client:
        result = client.post(A, B, Decimal("1.25"), ledger=1)
    assert result.posted
    assert background.fake.batches[0][0][48] == 125


def until(met: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not met():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def rows_of(client: Client) -> int:
    """Those that wait for an answer."""
    running = client._client._running
    return 0 if running is None else running.coalescer._rows


@pytest.mark.usefixtures("patient_client")
def test_posts_of_concurrent_threads_go_together(background: Background) -> None:
    background.shut()
    with Client(background.address, calls_in_flight_max=1) as client, ThreadPoolExecutor(32) as threads:
        posts = [threads.submit(client.post, A, B, 5, ledger=1)]
        until(lambda: background.fake.calls_now)
        posts += [threads.submit(client.post, A, B, 5, ledger=1) for _ in range(31)]
        until(lambda: rows_of(client) == 32)
        background.open()
        assert len({post.result().id for post in posts}) == 32
    assert [len(records) for records in background.fake.batches] == [1, 31]


def test_a_chain_and_its_followers(background: Background) -> None:
    hold = new_id()
    with Client(background.address) as client:
        results = client.post_chain([Transfer(A, B, 5, 1), Transfer(B, A, 5, 1)])
        client.reserve(A, B, 5, ledger=1, id=hold, expires_after_s=60)
        client.commit(hold, A, B, 3, ledger=1, keep_rest=True)
        client.release(hold, A, B, ledger=1)
        client.reverse(hold, A, B, 1, ledger=1)
    assert [result.posted for result in results] == [True, True]
    records = [records[0] for records in background.fake.batches[1:]]
    assert [record[122] for record in records] == [2, 3, 4, 5]
    assert [record[64:80] for record in records[1:]] == [hold.bytes] * 3
    assert records[1][123] == 16


def test_a_batch_and_the_ledgers(background: Background) -> None:
    with Client(background.address) as client:
        assert len(client.post_batch([Transfer(A, B, 5, 1) for _ in range(10)]).results()) == 10
        assert {one.code: one.scale for one in client.ledgers().values()} == {"EUR": 2, "JPY": 0, "WEI": 18}


def test_a_fault_is_raised_in_the_thread_that_asked(background: Background) -> None:
    bad = new_id().bytes
    background.fake.item_faults = {bad: deque([INVALID])}
    with Client(background.address) as client:
        with pytest.raises(InvalidItem):
            client.post(A, B, 5, ledger=1, id=bad)
        with pytest.raises(ValueError, match="no ledger"):
            client.post(A, B, Decimal(1), ledger=77)


def test_a_deadline_passes_while_nobody_answers(background: Background) -> None:
    background.fake.gate = lambda: asyncio.sleep(1)
    with Client(background.address) as client, pytest.raises(DeadlineExceeded) as caught:
        client.post(A, B, 5, ledger=1, timeout_s=0.1)
    assert caught.value.outcome_unknown


def test_a_thread_waits_for_room_in_the_queue_and_no_longer_than_its_deadline(background: Background) -> None:
    background.shut()
    with Client(background.address, queue_transfers_max=1) as client, ThreadPoolExecutor(4) as threads:
        posts = [threads.submit(client.post, A, B, 5, ledger=1) for _ in range(3)]
        until(lambda: background.fake.calls_now)
        with pytest.raises(NotAdmitted):
            client.post(A, B, 5, ledger=1, timeout_s=0.1)
        background.open()
        assert all(post.result().posted for post in posts)


def test_closing_ends_the_thread_and_later_posts_are_refused(background: Background) -> None:
    client = Client(background.address)
    client.post(A, B, 5, ledger=1)
    client.close()
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "posting-engine-client"]
    with pytest.raises(Unavailable, match="closed"):
        client.post(A, B, 5, ledger=1)
