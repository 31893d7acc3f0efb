"""When a cluster is idle: nothing is asked of it, and it has done what earlier work left behind."""

import asyncio
from typing import Final

from bench.cluster import BenchCluster

WINDOW_S: Final = 1.0
RESTING_SHARE_MAX: Final = 0.08
"""Of one processor, for each replica, over a window. At rest one takes a third of it, for ticks and heartbeats."""
REST_S_MAX: Final = 60.0


async def until_idle(cluster: BenchCluster) -> float:
    """Wait until the replicas have merged and saved what was posted before; return how many seconds that took.

    Raises RuntimeError if they do not come to rest within `REST_S_MAX`.
    """
    loop = asyncio.get_running_loop()
    began_s, used_s = loop.time(), _used_s(cluster)
    while loop.time() - began_s < REST_S_MAX:
        window_began_s = loop.time()
        await asyncio.sleep(WINDOW_S)
        before_s, used_s = used_s, _used_s(cluster)
        share = (used_s - before_s) / (loop.time() - window_began_s) / len(cluster.node_pids)
        if share < RESTING_SHARE_MAX:
            return loop.time() - began_s
    raise RuntimeError(f"the replicas are still at work after {REST_S_MAX:.0f} s: an idle figure would not be one")


def _used_s(cluster: BenchCluster) -> float:
    return sum(one.cpu_s for one in cluster.node_usage())
