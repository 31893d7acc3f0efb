"""What a transfer between two groups costs, beside one within a group: bulk batches and single posts of either kind."""

import asyncio
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.batches import account_ids, batch_between, drawn_pairs
from bench.bulk import BulkRun, balances, create_accounts, open_stub, post_batches
from bench.cluster import BenchCluster
from bench.expected import expected_balances
from bench.rest import until_idle
from bench.single import SingleRun, post_one_by_one
from cli.cluster_file import FILE_NAME
from engine.config import initial_settings, load_config
from engine.core.placement import slots_of
from engine.core.records import Words
from engine.core.settings import group_of_slots
from postingengine.v1 import admin_service_pb2, admin_service_pb2_grpc

ACCOUNTS: Final = 10_000
BATCH_TRANSFERS: Final = 8190
CALLS_IN_FLIGHT: Final = 4
WARM_UP_BATCHES: Final = 4
WARM_UP_POSTS: Final = 20
LEDGER: Final = 1
SETTLE_S_MAX: Final = 30.0
SETTLE_PAUSE_S: Final = 0.5


class CrossOptions(NamedTuple):
    """How much is measured."""

    batches: int
    """Bulk batches of each kind."""
    idle_posts: int
    """Single posts of each kind."""
    seed: int


class _Measured(NamedTuple):
    """One kind of transfer: all of them crossing, or none."""

    bulk: BulkRun
    idle: SingleRun
    cpu_us: float
    """CPU of all nodes, microseconds a transfer, up to the last COMMIT."""
    batches: list[Words]


async def cross_figures(cluster: BenchCluster, options: CrossOptions) -> dict[str, object]:
    """Return the figures of a fresh cluster of several groups."""
    rng, ids = np.random.default_rng(options.seed), account_ids(ACCOUNTS, options.seed)
    channel, stub = open_stub(cluster.router)
    async with channel:
        await create_accounts(stub, ids, ledger=LEDGER)
        bench = _Bench(cluster, options, ids, rng)
        local = await bench.measure(crossing=False)
        cross = await bench.measure(crossing=True)
        await bench.until_settled()
        found = await balances(stub, ids)
    expected = expected_balances([*local.batches, *cross.batches], ids) + local.idle.moved + cross.idle.moved
    idle_ms = {name: statistics.median(one.idle.latencies_ms) for name, one in (("cross", cross), ("local", local))}
    return {
        "cross_group_transfers_per_s": round(cross.bulk.posted / cross.bulk.seconds),
        "cross_group_local_transfers_per_s": round(local.bulk.posted / local.bulk.seconds),
        "cross_group_cpu_us_per_transfer": round(cross.cpu_us, 2),
        "cross_group_local_cpu_us_per_transfer": round(local.cpu_us, 2),
        "cross_group_cost_ratio": round(cross.cpu_us / local.cpu_us, 2),
        "cross_group_idle_post_ms_p50": round(idle_ms["cross"], 2),
        "cross_group_local_idle_post_ms_p50": round(idle_ms["local"], 2),
        "cross_group_idle_post_ratio": round(idle_ms["cross"] / idle_ms["local"], 2),
        "cross_group_differences": int((found != expected).sum()),
    }


class _Bench:
    """Both kinds, on the same cluster."""

    def __init__(
        self, cluster: BenchCluster, options: CrossOptions, ids: npt.NDArray[np.uint64], rng: np.random.Generator
    ) -> None:
        self._cluster, self._options, self._ids, self._rng = cluster, options, ids, rng
        self._groups, self._posted = groups_of(cluster, ids), 0

    async def measure(self, *, crossing: bool) -> _Measured:
        """Post bulk batches, wait until nothing is open and the replicas rest, then post one at a time."""
        options, warm_up = self._options, WARM_UP_BATCHES
        batches = [self._batch(crossing) for _ in range(warm_up + options.batches)]
        packed = [batch.tobytes() for batch in batches]
        channel, stub = open_stub(self._cluster.router)
        async with channel:
            await post_batches(stub, packed[:warm_up], in_flight=CALLS_IN_FLIGHT)
            await self.until_settled()
            before = self._cluster.node_cpu_s()
            bulk = await post_batches(stub, packed[warm_up:], in_flight=CALLS_IN_FLIGHT)
            await self.until_settled()
            cpu_us = (self._cluster.node_cpu_s() - before) / bulk.posted * 1e6
        pairs = drawn_pairs(self._groups, WARM_UP_POSTS + options.idle_posts, crossing=crossing, rng=self._rng)
        await until_idle(self._cluster)
        warm = await post_one_by_one(self._cluster.router, self._ids, pairs[:WARM_UP_POSTS], LEDGER)
        idle = await post_one_by_one(self._cluster.router, self._ids, pairs[WARM_UP_POSTS:], LEDGER)
        return _Measured(bulk, idle._replace(moved=idle.moved + warm.moved), cpu_us, batches)

    def _batch(self, crossing: bool) -> Words:
        pairs = drawn_pairs(self._groups, BATCH_TRANSFERS, crossing=crossing, rng=self._rng)
        self._posted += BATCH_TRANSFERS
        return batch_between(self._ids, pairs, self._posted, ledger=LEDGER, rng=self._rng)

    async def until_settled(self) -> None:
        """Wait until no chain is open: COMMITs follow their callers' answers."""
        channel, _ = open_stub(self._cluster.router)
        async with channel:
            admin = admin_service_pb2_grpc.AdminServiceStub(channel)
            loop = asyncio.get_running_loop()
            until_s = loop.time() + SETTLE_S_MAX
            await asyncio.sleep(SETTLE_PAUSE_S)  # an audit reads every open chain: not while there are thousands
            while _open_chains((await admin.Audit(admin_service_pb2.AuditRequest())).groups):
                if loop.time() > until_s:
                    raise RuntimeError("chains are still open: the figures would leave their end out")
                await asyncio.sleep(SETTLE_PAUSE_S)


def _open_chains(groups: Sequence[admin_service_pb2.GroupAudit]) -> int:
    return sum(group.open_chains for group in groups)


def groups_of(cluster: BenchCluster, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Return the group of each account, shape (n,), by the cluster's own file; ids: shape (n, 2)."""
    settings = initial_settings(load_config(cluster.folder / FILE_NAME))
    slots = slots_of(np.ascontiguousarray(ids), 0, np.uint64(settings.hash_seed))
    return np.array(group_of_slots(settings), np.uint16)[slots]
