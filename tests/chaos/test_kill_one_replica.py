"""SIGKILL of the only replica under load: what was acknowledged is there once, and `verify` is green each time.

KILLS=50 in the environment (`make chaos`) for the long run; a few by default.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.caller import Caller
from tests.chaos.processes import Cluster

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", replicas=1)
    yield made
    made.close()


async def test_every_acknowledged_transfer_survives_sigkill_at_random_moments(cluster: Cluster) -> None:
    dice = random.Random(SEED)
    (replica,) = cluster.replicas
    cluster.start(replica, "router")
    caller = Caller(cluster.router, seed=SEED)
    await caller.create_accounts()
    for number in range(KILLS):
        await load_and_kill(cluster, caller, replica, dice.uniform(0.3, 2.0))
        wrong = await asyncio.to_thread(cluster.verify, [replica])
        assert not wrong, f"kill {number}: {wrong}"
        cluster.start(replica)
        await caller.settle()
    assert await caller.differences() == []
    assert caller.books.were_unknown > 0, "every kill hit an idle process: nothing was shown"
    assert cluster.stop("router", replica) == [0, 0], cluster.outputs()
    assert cluster.verify([replica]) == []


async def load_and_kill(cluster: Cluster, caller: Caller, replica: str, after_s: float) -> None:
    stopped = asyncio.Event()
    load = asyncio.create_task(caller.post_until(stopped))
    acknowledged = len(caller.books.acknowledged)
    async with asyncio.timeout(60):
        while len(caller.books.acknowledged) == acknowledged:  # load must flow before the kill means anything
            await asyncio.sleep(0.01)
    await asyncio.sleep(after_s)
    await asyncio.to_thread(cluster.kill, replica)
    stopped.set()
    await load
