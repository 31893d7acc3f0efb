"""SIGKILL of the leader of three replicas under load, then of all three: nothing acknowledged is lost.

KILLS=20 in the environment for the long run; a few by default. The time from each kill to the next acknowledged
post is printed, never judged: machines are noisy, and a figure belongs into a report.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.caller import Caller
from tests.chaos.processes import Cluster

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", replicas=3)
    yield made
    made.close()


async def test_acknowledged_transfers_survive_the_death_of_leaders_and_then_of_all_replicas(cluster: Cluster) -> None:
    cluster.start(*cluster.replicas, "router")
    caller = Caller(cluster.router, seed=SEED)
    await caller.create_accounts()
    for number in range(KILLS):
        await kill_the_leader_under_load(cluster, caller, number)
    await caller.settle()
    assert await caller.differences() == []

    await asyncio.to_thread(cluster.kill, *cluster.replicas)
    cluster.start(*cluster.replicas)
    await caller.settle()
    assert await caller.differences() == []

    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert cluster.verify(cluster.replicas) == []


async def kill_the_leader_under_load(cluster: Cluster, caller: Caller, number: int) -> None:
    stopped = asyncio.Event()
    load = asyncio.create_task(caller.post_until(stopped))
    try:
        await until_acknowledged(caller, load)
        leader = await asyncio.to_thread(leader_of_a_whole_group, cluster)
        killed_at = time.monotonic()
        assert caller.calls_open > 0, "the kill would hit an idle cluster: nothing would be shown"
        await asyncio.to_thread(cluster.kill, leader)
        await until_acknowledged(caller, load)
        print(f"kill {number} of {leader}: acknowledged again after {time.monotonic() - killed_at:.3f} s")
        await asyncio.sleep(0.2)  # some load on the new leader while the old one is away
    finally:
        stopped.set()
    await load
    cluster.start(leader)


async def until_acknowledged(caller: Caller, load: "asyncio.Task[None]") -> None:
    before = len(caller.books.acknowledged)
    async with asyncio.timeout(60):
        while len(caller.books.acknowledged) == before:
            if load.done():
                load.result()
            await asyncio.sleep(0.005)


def leader_of_a_whole_group(cluster: Cluster) -> str:
    """Ask until all replicas answer, so that the death of one leaves a quorum, and one says that it leads."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        described = cluster.describe()
        roles = {
            replica["replica"]: str(replica["role"]).lower()
            for group in described["groups"]  # type: ignore[attr-defined]
            for replica in group["replicas"]
            if replica.get("replica") and replica.get("role")
        }
        leaders = [name for name, role in roles.items() if role.endswith("leader")]
        if len(roles) == len(cluster.replicas) and len(leaders) == 1:
            return leaders[0]
        time.sleep(0.1)
    raise AssertionError(f"no leader of a whole group\n{cluster.outputs()}")
