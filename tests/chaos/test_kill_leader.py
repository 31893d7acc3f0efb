"""SIGKILL of the leader of three replicas under load, SIGSTOP of one, then SIGKILL of all three: nothing acknowledged
is lost.

KILLS=20 in the environment for the long run; a few by default. The time from each kill to the next acknowledged
post is printed, never judged: machines are noisy, and a figure belongs into a report.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.chaos.caller import Caller
from tests.chaos.whole_group import WholeGroup

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))
BATCH_TRANSFERS = 2
"""A call. Many calls in flight make the load; more transfers in each would only make what is verified at the end grow:
while a killed replica comes back, load flows for seconds."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WholeGroup]:
    made = WholeGroup(tmp_path / "cluster")
    yield made
    made.close()


async def test_acknowledged_transfers_survive_the_death_of_leaders_and_then_of_all_replicas(
    cluster: WholeGroup,
) -> None:
    cluster.start(*cluster.replicas, "router")
    caller = Caller(cluster.router, seed=SEED)
    await caller.create_accounts()
    seconds = sorted([await kill_the_leader_under_load(cluster, caller, number) for number in range(KILLS)])
    print(f"{KILLS} kills: acknowledged again after {median(seconds):.3f} s (median), {seconds[-1]:.3f} s (worst)")
    seconds = sorted([await freeze_the_leader_under_load(cluster, caller) for _ in range(1 + KILLS // 5)])
    print(f"{len(seconds)} freezes: again after {median(seconds):.3f} s (median), {seconds[-1]:.3f} s (worst)")
    print(f"{len(caller.books.acknowledged)} transfers acknowledged")
    await caller.settle()
    assert await caller.differences() == []

    await kill_all_under_load(cluster, caller)
    await caller.settle()
    assert await caller.differences() == []

    await asyncio.to_thread(cluster.until_level)
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads()) == 1, "the replicas' hashes differ"


async def kill_the_leader_under_load(cluster: WholeGroup, caller: Caller, number: int) -> float:
    """Return how long a client was without an acknowledgement, seconds."""
    stopped = asyncio.Event()
    load = asyncio.create_task(caller.post_until(stopped, batch=BATCH_TRANSFERS))
    try:
        await caller.until_acknowledged(load, begun_s=time.monotonic())
        leader = await asyncio.to_thread(cluster.leader)
        await caller.until_called(load)
        killed_at = time.monotonic()
        await asyncio.to_thread(cluster.kill, leader)
        await caller.until_acknowledged(load, begun_s=killed_at)
        seconds = time.monotonic() - killed_at
        print(f"kill {number + 1} of {KILLS}, of {leader}: acknowledged again after {seconds:.3f} s")
        await asyncio.sleep(0.2)  # some load on the new leader while the old one is away
    finally:
        stopped.set()
    await load
    cluster.start(leader)
    return seconds


async def freeze_the_leader_under_load(cluster: WholeGroup, caller: Caller) -> float:
    """Stop the leader's process until another one acknowledged, then let it go on as if it led; return how long that
    was, seconds. Its connections stay open, and what was sent to it waits there."""
    stopped = asyncio.Event()
    load = asyncio.create_task(caller.post_until(stopped, batch=BATCH_TRANSFERS))
    try:
        await caller.until_acknowledged(load, begun_s=time.monotonic())
        leader = await asyncio.to_thread(cluster.leader)
        cluster.running[leader].send_signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        try:
            await caller.until_acknowledged(load, begun_s=frozen_at)
            seconds = time.monotonic() - frozen_at
        finally:
            cluster.running[leader].send_signal(signal.SIGCONT)
        await caller.until_acknowledged(load, begun_s=time.monotonic())
    finally:
        stopped.set()
    await load
    return seconds


async def kill_all_under_load(cluster: WholeGroup, caller: Caller) -> None:
    """All at once, while calls are under way; then start them all."""
    stopped = asyncio.Event()
    load = asyncio.create_task(caller.post_until(stopped, batch=BATCH_TRANSFERS))
    try:
        await caller.until_acknowledged(load, begun_s=time.monotonic())
        await caller.until_called(load)
        await asyncio.to_thread(cluster.kill, *cluster.replicas)
    finally:
        stopped.set()
    cluster.start(*cluster.replicas)
    await load
