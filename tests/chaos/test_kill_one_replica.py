"""SIGKILL of the only replica under load: what was acknowledged is there once, and `verify` is green each time.

KILLS=50 in the environment (`make chaos`) for the long run; a few by default.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage.verify.verify import verify
from tests.chaos.caller import Caller
from tests.chaos.calling import HEAL_S_MAX
from tests.chaos.processes import Cluster

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))
TRANSFERS_BETWEEN_KILLS_MAX = 2500
"""`verify` judges the journal from genesis after each kill: were this not bounded, its time would grow without end."""
LOAD_S_MAX = 2.0
BATCHES = (1, 5, 20)
"""Transfers a call: the smaller, the longer the load lasts before the bound is reached."""


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
        before = len(caller.books.acknowledged)
        await load_and_kill(cluster, caller, replica, dice)
        await asyncio.to_thread(verify, cluster.data_folder(replica))  # raises at the first difference
        cluster.start(replica)
        await caller.settle()
        assert await caller.differences(since=before) == [], f"kill {number}"
        there = len(caller.books.acknowledged)
        print(f"kill {number + 1} of {KILLS}: {there - before} more transfers, all {there} there, verified")
    assert await caller.differences() == []
    assert caller.books.were_unknown > 0, "every kill hit an idle process: nothing was shown"
    assert cluster.stop("router", replica) == [0, 0], cluster.outputs()
    assert cluster.verify([replica]) == []


async def load_and_kill(cluster: Cluster, caller: Caller, replica: str, dice: random.Random) -> None:
    """Kill at a random moment of load, which comes when so many are acknowledged or so long has passed."""
    stopped, books = asyncio.Event(), caller.books
    enough = len(books.acknowledged) + dice.randint(1, TRANSFERS_BETWEEN_KILLS_MAX)
    load = asyncio.create_task(caller.post_until(stopped, batch=dice.choice(BATCHES)))
    acknowledged = len(books.acknowledged)
    async with asyncio.timeout(HEAL_S_MAX):
        while len(books.acknowledged) == acknowledged:  # load must flow before the kill means anything
            await asyncio.sleep(0.01)
    until_s = time.monotonic() + dice.uniform(0.0, LOAD_S_MAX)
    while len(books.acknowledged) < enough and time.monotonic() < until_s:
        await asyncio.sleep(dice.uniform(0.0, 0.02))
    await asyncio.to_thread(cluster.kill, replica)
    stopped.set()
    await load
