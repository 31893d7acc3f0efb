"""SIGKILL of a node or a router at each failpoint in turn, under load over three groups: every chain ends, whole.

By default a few failpoints; CRASHPOINTS=all, or a comma-separated list, for others, and `make crashpoints` for all of
them. What is asked crosses groups mostly: posts, chains, holds that are committed, released or expire, reversals.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.mixed_caller import HOLD_S_MAX, MixedCaller
from tests.chaos.processes import Cluster

GROUPS: Final = 3
REPLICAS: Final = int(os.environ.get("CRASHPOINTS_REPLICAS", "1"))
SEED: Final = int(os.environ.get("SEED", "1"))
ENDED_S_MAX: Final = float(os.environ.get("CRASHPOINTS_ENDED_S", "180"))
"""Within this time after healing every chain must have ended; `make crashpoints` asks for 5."""
SLOW_S: Final = 2.0
"""Whatever takes longer to end is listed in the report."""
FALL_S_MAX: Final = 120.0
"""Within this time the load brings an armed process to its failpoint."""
FEW: Final = (
    "node-after-decide-logged",
    "node-before-commit-logged",
    "router-after-decide-sent",
    "router-before-reply",
)
ALL: Final = (
    *(
        f"node-{side}-{step}-logged"
        for step in ("reserve", "decide", "commit", "release", "abort", "hold", "expire")
        for side in ("before", "after")
    ),
    "router-before-reserve-sent",
    "router-before-decide-sent",
    "router-after-decide-sent",
    "router-before-commit-sent",
    "router-after-commit-sent",
    "router-before-reply",
    "router-after-reply",
    "courier-before-sent",
    "courier-after-sent",
)


def chosen() -> tuple[str, ...]:
    asked = os.environ.get("CRASHPOINTS", "")
    return ALL if asked == "all" else tuple(asked.split(",")) if asked else FEW


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", replicas=REPLICAS, groups=GROUPS, routers=2)
    yield made
    made.close()


async def test_every_chain_ends_whole_whatever_dies_where(cluster: Cluster) -> None:
    cluster.start(*cluster.nodes, *cluster.routers)
    caller = MixedCaller([cluster.address_of(name) for name in cluster.routers], seed=SEED)
    await caller.open_accounts()
    for number, point in enumerate(chosen()):
        await crash_at(cluster, caller, point, number)
    assert caller.books.were_unknown > 0, "no call was ever unanswered: the kills hit idle processes"
    assert await caller.check_answers(caller.books.told) == []
    assert cluster.stop(*cluster.routers, *cluster.nodes) == [0] * (2 + GROUPS * REPLICAS), cluster.outputs()
    assert cluster.verify(cluster.nodes) == []


async def crash_at(cluster: Cluster, caller: MixedCaller, point: str, number: int) -> None:
    """Arm one process, or for a courier all nodes, and let the load bring it to its failpoint; then heal and check."""
    armed = armed_for(cluster, point, number)
    cluster.kill(*armed)
    cluster.start(*armed, environment={"POSTING_ENGINE_FAILPOINT": f"{point}:{3 if point.startswith('node') else 1}"})
    stopped, before = asyncio.Event(), len(caller.books.told)
    load = asyncio.create_task(caller.ask_until(stopped))
    try:
        fallen = await until_fallen(cluster, caller, load, point)
        await asyncio.sleep(0.3)  # some load while it is away
    finally:
        stopped.set()
        await load
    still_armed = [name for name in armed if name in cluster.running]
    cluster.kill(*still_armed)
    cluster.start(*fallen, *still_armed)
    await healed(cluster, caller, point)
    await caller.settle()
    await at_rest(caller)
    wrong = await caller.check_balances() + await caller.check_audits(GROUPS)
    wrong += await caller.check_answers(caller.books.told[before:])
    assert wrong == [], f"{point}\n{cluster.outputs()}"


def armed_for(cluster: Cluster, point: str, number: int) -> list[str]:
    if point.startswith("router"):
        return [cluster.routers[number % 2]]
    return cluster.replicas_of(number % GROUPS)


async def until_fallen(cluster: Cluster, caller: MixedCaller, load: "asyncio.Task[None]", point: str) -> list[str]:
    """Wait until an armed process has died of its failpoint; for a courier's, kill routers, so that it has to act."""
    until_s = time.monotonic() + FALL_S_MAX
    while time.monotonic() < until_s:
        fallen = cluster.fallen()
        if fallen:
            return fallen
        if load.done():
            load.result()
        if point.startswith("courier"):
            await asyncio.sleep(0.3)
            cluster.kill("router")
            cluster.start("router")
        await asyncio.sleep(0.01)
    raise AssertionError(f"the load never came to {point}\n{cluster.outputs()}")


async def healed(cluster: Cluster, caller: MixedCaller, point: str) -> None:
    """Every group answers again; from then on every chain must end, without a router's help, within `ENDED_S_MAX`."""
    chains, _ = await caller.open_now()
    healed_s = time.monotonic()
    print(f"{point}: {len(chains)} chains open when healed")
    while True:
        still, _ = await caller.open_now()
        if not still:
            took_s = time.monotonic() - healed_s
            print(
                f"{point}: nothing open {took_s:.2f} s after healing", *(chains if took_s > SLOW_S else ()), sep="\n  "
            )
            return
        chains, late_s = still, time.monotonic() - healed_s
        listed = "\n  ".join(still)
        assert late_s < ENDED_S_MAX, f"{point}: open after {late_s:.1f} s:\n  {listed}\n{cluster.outputs()}"
        await asyncio.sleep(0.05)


async def at_rest(caller: MixedCaller) -> None:
    """Wait until every hold has ended, by its caller or its deadline, in all groups."""
    async with asyncio.timeout(HOLD_S_MAX + ENDED_S_MAX):
        while any(await caller.open_now()):
            await asyncio.sleep(0.1)
