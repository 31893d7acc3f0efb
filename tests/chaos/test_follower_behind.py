"""A follower stopped until the log is compacted past it: a snapshot brings it up while load goes on."""

import asyncio
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from postingengine import Account, AsyncClient, Transfer, new_id
from postingengine.transfers import pack_transfer
from tests.chaos.whole_group import WholeGroup

MIB = 1 << 20
ID_BYTES = 16
RETAINED_BYTES_MAX = 4 * MIB
LIMITS = {
    "segment_bytes": 2 * MIB,
    "log_retained_bytes_min": 2 * MIB,
    "log_retained_bytes_max": RETAINED_BYTES_MAX,
}
BATCH_TRANSFERS = 8000
BATCHES_WARM = 120
"""Caches and buffers have their size then: a leader grew until 0.9 million transfers, and by 5 MiB in the next."""
BATCHES_BEHIND = 100
"""Of about 1 MiB each: many times what the log may retain."""
LEADER_GROWTH_BYTES_MAX = 60 * MIB
"""Anonymous memory, the store's map not among it: less than what was logged meanwhile."""
WAIT_S_MAX = 120


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WholeGroup]:
    made = WholeGroup(tmp_path / "cluster", limits=LIMITS)
    made.start(*made.replicas, "router")
    yield made
    made.close()


class BulkLoad:
    """Posts batches of about a megabyte, one at a time."""

    def __init__(self, client: AsyncClient) -> None:
        self.client, self.dice, self.posted = client, random.Random(1), 0
        self.accounts = [new_id().bytes for _ in range(100)]
        pairs = (self.dice.sample(self.accounts, 2) for _ in range(BATCH_TRANSFERS))
        self.template = b"".join(pack_transfer(Transfer(debit, credit, 1, 1), 1) for debit, credit in pairs)

    async def begin(self) -> None:
        await self.client.create_accounts([Account(one, 1) for one in self.accounts], timeout_s=WAIT_S_MAX)

    async def post_batches(self, count: int) -> None:
        for _ in range(count):
            answered = await self.client.post_batch(self._batch(), timeout_s=WAIT_S_MAX)
            assert all(result.posted for result in answered.results())
            self.posted += BATCH_TRANSFERS

    async def post_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.post_batches(1)

    def _batch(self) -> bytes:
        """The same transfers each time, under new ids."""
        records = np.frombuffer(self.template, np.uint8).reshape(BATCH_TRANSFERS, -1).copy()
        records[:, :ID_BYTES] = np.frombuffer(self.dice.randbytes(BATCH_TRANSFERS * ID_BYTES), np.uint8).reshape(
            BATCH_TRANSFERS, ID_BYTES
        )
        return records.tobytes()


@pytest.mark.skipif("AT_LENGTH" not in os.environ, reason="takes one to two minutes: `make chaos` runs it")
async def test_a_follower_far_behind_catches_up_by_a_snapshot_while_load_goes_on(cluster: WholeGroup) -> None:
    async with AsyncClient(cluster.router) as client:
        load = BulkLoad(client)
        await load.begin()
        await load.post_batches(BATCHES_WARM)
        leader = await asyncio.to_thread(cluster.leader)
        follower = next(name for name in cluster.replicas if name != leader)
        assert await asyncio.to_thread(cluster.stop, follower) == [0]
        before = anonymous_bytes(cluster.running[leader].pid)
        await load.post_batches(BATCHES_BEHIND)
        described = (await asyncio.to_thread(cluster.described))[leader]
        assert described["first_log_index"] > 100, described
        assert described["log_bytes"] <= RETAINED_BYTES_MAX + LIMITS["segment_bytes"]

        cluster.start(follower)
        reached, highest = asyncio.Event(), before
        going_on = asyncio.create_task(load.post_until(reached))
        posted = load.posted
        async with asyncio.timeout(WAIT_S_MAX):
            while "installed a snapshot" not in cluster.output(follower) or load.posted < posted + 4 * BATCH_TRANSFERS:
                highest = max(highest, anonymous_bytes(cluster.running[leader].pid))
                if going_on.done():
                    going_on.result()
                await asyncio.sleep(0.02)
        reached.set()
        await going_on
        assert highest - before < LEADER_GROWTH_BYTES_MAX, f"{(highest - before) / MIB:.0f} MiB"
    await asyncio.to_thread(cluster.until_level)
    print(f"{load.posted} transfers; the leader grew by {(highest - before) / MIB:.1f} MiB")
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads(outcomes=False)) == 1


def anonymous_bytes(process_id: int) -> int:
    """Memory of a process that no file backs."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024
