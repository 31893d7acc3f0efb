"""When a cluster is idle: nothing is asked of it, and it has done what earlier work left behind."""

import asyncio
from typing import Final

from bench.cluster import BenchCluster

WINDOW_S: Final = 1.0
RESTING_SHARE_MAX: Final = 0.08
"""Of one processor, for each replica, over a window. At rest one takes a third of it, for ticks and heartbeats."""
RESTING_BYTES_MAX: Final = 256 << 10
"""Written by all replicas together, over a window. One that rests writes nothing, but for a mark in its log; one that
still merges what bulk load left takes little of a processor, writes megabytes, and what it syncs delays posts."""
REST_S_MAX: Final = 120.0


async def until_idle(cluster: BenchCluster) -> float:
    """Wait until the replicas have merged and saved what was posted before; return how many seconds that took.

    Raises RuntimeError if they do not come to rest within `REST_S_MAX`.
    """
    loop = asyncio.get_running_loop()
    began_s, cpu_s, written_bytes = loop.time(), cluster.node_cpu_s(), cluster.node_written_bytes()
    while loop.time() - began_s < REST_S_MAX:
        window_began_s = loop.time()
        await asyncio.sleep(WINDOW_S)
        cpu_s_before, cpu_s = cpu_s, cluster.node_cpu_s()
        written_bytes_before, written_bytes = written_bytes, cluster.node_written_bytes()
        share = (cpu_s - cpu_s_before) / (loop.time() - window_began_s) / len(cluster.node_pids)
        if share < RESTING_SHARE_MAX and written_bytes - written_bytes_before < RESTING_BYTES_MAX:
            return loop.time() - began_s
    raise RuntimeError(f"the replicas are still at work after {REST_S_MAX:.0f} s: an idle figure would not be one")
