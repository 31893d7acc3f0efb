"""`make bench-smoke`: one JSON line that says what the engine does on this machine.

Bulk (packed batches of 8190 between 10,000 accounts), single posts (256 in flight from one asyncio client) and, once
the replicas rest (`bench.rest`), posts one at a time go through the router of a fresh cluster, every acknowledged
write synced. At the end every balance is compared with what NumPy sums from the same batches: a figure from a run
that lost or doubled a cent is no figure. Then a second cluster, of two groups, is asked for transfers that all cross,
and for local ones to compare with (`bench.cross`).
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.batches import account_ids, uniform_batch
from bench.bulk import BulkRun, balances, create_accounts, open_stub, post_batches
from bench.cluster import BenchCluster, running_cluster
from bench.cross import CrossOptions, cross_figures
from bench.expected import expected_balances
from bench.machine import MachineRun, processors
from bench.options import at_least, parser_of
from bench.rest import until_idle
from bench.single import SingleRun, pairs_in_turn, post_one_by_one, post_singles

ACCOUNTS: Final = 10_000
BATCH_TRANSFERS: Final = 8190
CALLS_IN_FLIGHT: Final = 4
WARM_UP_BATCHES: Final = 12
SINGLES_IN_FLIGHT: Final = 256
LEDGER: Final = 1


def main() -> None:
    """Run the benchmark and print its one line."""
    options, machine = _options(), MachineRun()
    with (
        tempfile.TemporaryDirectory(prefix="bench-smoke-") as name,
        running_cluster(Path(name), replicas=options.replicas) as cluster,
    ):
        report = asyncio.run(_run(cluster, options))
    if options.cross_batches:
        report |= _cross(options)
    report = machine.figures() | report
    print(json.dumps(report))
    if report["differences"] or report.get("cross_group_differences"):
        sys.exit("the balances differ from the batches: the figures above are void")


def _options() -> argparse.Namespace:
    parser = parser_of("bench.smoke", __doc__)
    parser.add_argument("--replicas", type=at_least(1), default=3, help="of each group")
    parser.add_argument("--batches", type=at_least(1), default=240, help="bulk batches of 8190 transfers")
    parser.add_argument("--singles", type=at_least(1), default=150_000, help="single posts, 256 in flight")
    parser.add_argument("--idle-posts", type=at_least(1), default=1000, help="posts one at a time, at rest")
    parser.add_argument(
        "--cross-batches", type=at_least(0), default=60, help="bulk batches over two groups; 0: leave it out"
    )
    parser.add_argument("--seed", type=int, default=1, help="of accounts and amounts: equal seeds post equal transfers")
    return parser.parse_args()


def _cross(options: argparse.Namespace) -> dict[str, object]:
    """Measure what crosses groups, on a cluster of its own."""
    wanted = CrossOptions(options.cross_batches, options.idle_posts, options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="bench-smoke-") as name,
        running_cluster(Path(name), replicas=options.replicas, groups=2) as cluster,
    ):
        return asyncio.run(cross_figures(cluster, wanted))


async def _run(cluster: BenchCluster, options: argparse.Namespace) -> dict[str, object]:
    rng = np.random.default_rng(options.seed)
    ids = account_ids(ACCOUNTS, options.seed)
    count = WARM_UP_BATCHES + options.batches
    batches = [
        uniform_batch(ids, BATCH_TRANSFERS, 1 + number * BATCH_TRANSFERS, ledger=LEDGER, rng=rng)
        for number in range(count)
    ]
    channel, stub = open_stub(cluster.router)
    async with channel:
        await create_accounts(stub, ids, ledger=LEDGER)
        packed = [batch.tobytes() for batch in batches]
        await post_batches(stub, packed[:WARM_UP_BATCHES], in_flight=CALLS_IN_FLIGHT)
        before, client_before, disk_before = cluster.node_usage(), time.process_time(), cluster.data_bytes()
        router_before = cluster.router_usage()
        bulk = await post_batches(stub, packed[WARM_UP_BATCHES:], in_flight=CALLS_IN_FLIGHT)
        after, client_after = cluster.node_usage(), time.process_time()
        router_after = cluster.router_usage()
        disk = cluster.data_bytes()
        turns = pairs_in_turn(ACCOUNTS, options.singles)
        before_singles = _cpu_s(cluster)
        singles = await post_singles(cluster.router, ids, turns, LEDGER, in_flight=SINGLES_IN_FLIGHT)
        singles_used = _cpu_each(before_singles, _cpu_s(cluster), singles.posted / 1e6)
        rested_s = await until_idle(cluster)
        before_idle, processors_before = _cpu_s(cluster), processors()
        idle = await post_one_by_one(cluster.router, ids, turns[: options.idle_posts], LEDGER)
        idle_used = _cpu_each(before_idle, _cpu_s(cluster), idle.posted / 1e6)
        idle_stolen = processors().stolen_share_since(processors_before)
        found = await balances(stub, ids)
    expected = expected_balances(batches, ids) + singles.moved + idle.moved
    cpu = [(b.cpu_s - a.cpu_s) / bulk.posted * 1e6 for a, b in zip(before, after, strict=True)]
    router_cpu = sum(b.cpu_s - a.cpu_s for a, b in zip(router_before, router_after, strict=True))
    return {
        "replicas": options.replicas,
        **_bulk_figures(bulk, cpu),
        "router_cpu_us_per_transfer": round(router_cpu / bulk.posted * 1e6, 3),
        "client_cpu_us_per_transfer": round((client_after - client_before) / bulk.posted * 1e6, 3),
        **_single_figures(singles, idle),
        f"in_flight_{SINGLES_IN_FLIGHT}_cpu_us": singles_used,
        "idle_post_cpu_us": idle_used,
        "idle_post_stolen_share": idle_stolen,
        "idle_after_s": round(rested_s, 1),
        "rss_mb_per_replica": round(max(one.rss_mb for one in after)),
        "bytes_on_disk_per_transfer": round(disk / len(cluster.node_pids) / (count * BATCH_TRANSFERS)),
        "bytes_on_disk_growth_per_transfer": round((disk - disk_before) / len(cluster.node_pids) / bulk.posted),
        "transfers": count * BATCH_TRANSFERS + singles.posted + idle.posted,
        "differences": int((found != expected).sum()),
    }


def _cpu_s(cluster: BenchCluster) -> dict[str, float]:
    """Return what each side has used so far, seconds: a figure that other work on the machine hardly moves."""
    return {
        "client": time.process_time(),
        "router": sum(one.cpu_s for one in cluster.router_usage()),
        "replicas": cluster.node_cpu_s(),
    }


def _cpu_each(before: dict[str, float], after: dict[str, float], million_posts: float) -> dict[str, float]:
    """Return microseconds a post, by side."""
    return {side: round((after[side] - before[side]) / million_posts, 1) for side in before}


def _bulk_figures(bulk: BulkRun, cpu_us: list[float]) -> dict[str, object]:
    return {
        "bulk_transfers_per_s": round(bulk.posted / bulk.seconds),
        "bulk_call_ms_p50": round(statistics.median(bulk.latencies_ms), 1),
        "bulk_call_ms_p99": round(bulk.latencies_ms[int(len(bulk.latencies_ms) * 0.99)], 1),
        "replica_cpu_us_per_transfer": round(max(cpu_us), 3),
        "replica_cpu_us_per_transfer_each": [round(one, 3) for one in cpu_us],
    }


def _single_figures(singles: SingleRun, idle: SingleRun) -> dict[str, object]:
    return {
        f"in_flight_{SINGLES_IN_FLIGHT}_transfers_per_s": round(singles.posted / singles.seconds),
        "idle_post_ms_p50": round(statistics.median(idle.latencies_ms), 2),
        "idle_post_ms_p99": round(idle.latencies_ms[int(len(idle.latencies_ms) * 0.99)], 2),
    }


if __name__ == "__main__":
    main()
