"""A whole cluster in this process for tests: two groups of one replica each, and a router, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
from click.testing import CliRunner

from cli.main import posting_engine
from engine.config import ClusterConfig, GroupConfig, ReplicaConfig, RouterConfig, initial_settings
from engine.core.placement import slot_of
from engine.core.settings import group_of_slots
from postingengine.v1.admin_service_pb2 import DescribeClusterRequest, MergeAccountRequest, SplitAccountRequest
from postingengine.v1.posting_service_pb2 import GetAccountsRequest
from postingengine.v1.transfer_pb2 import Transfer
from router.server import Router
from router.split.funds import SplitState
from tests.ports import free_address
from tests.running_node import CHANNEL_OPTIONS, Node, cluster, identity, running_node, transfer

GROUPS = 2
CALL_S = 60.0


class Running:
    """The cluster, asked through its router."""

    def __init__(self, config: ClusterConfig, router: Router, node: Node) -> None:
        self.config, self.router, self.node = config, router, node
        self.buckets = router._buckets
        self.rebalancing = router._rebalancing
        self._numbers = iter(range(1_000_000, 1 << 60))

    def accounts(self, group: int, count: int = 1) -> list[bytes]:
        """Ids of accounts whose home is that group."""
        owners = group_of_slots(initial_settings(self.config))
        here = (one for one in map(identity, range(1, 10_000)) if owners[slot_of(one, self.config.hash_seed)] == group)
        return [next(here) for _ in range(count)]

    def pay(self, debit: bytes, credit: bytes, amount: int = 1, **fields: Any) -> Transfer:
        """A transfer under a new id."""
        return transfer(next(self._numbers), debit, credit, amount, **fields)

    async def post(self, *transfers: Transfer) -> list[int]:
        """Post a batch; the outcomes."""
        return [result.outcome for result in await self.node.post(*transfers, timeout=CALL_S)]

    async def split(self, account: bytes) -> None:
        await self.node.admin.SplitAccount(SplitAccountRequest(account=account, buckets=GROUPS), timeout=CALL_S)

    async def merge(self, account: bytes, timeout_s: float = CALL_S) -> None:
        await self.node.admin.MergeAccount(MergeAccountRequest(account=account), timeout=timeout_s)

    async def collect(self, account: bytes) -> SplitState:
        return await self.buckets.collect(account, time.monotonic() + CALL_S)

    async def balance(self, account: bytes) -> int:
        answer = await self.node.posting.GetAccounts(GetAccountsRequest(ids=[account]), timeout=CALL_S)
        balances = answer.accounts[0].state.balances
        return int(balances.credits_posted.low - balances.debits_posted.low)

    async def log_records(self) -> int:
        """The last log indexes of all groups, added up."""
        answer = await self.node.admin.DescribeCluster(DescribeClusterRequest(), timeout=CALL_S)
        return sum(group.replicas[0].last_log_index for group in answer.groups)

    async def command(self, *arguments: str) -> str:
        """Run `posting-engine`; it must end well."""
        asked = [*arguments[:1], "--server", self.node.address, *arguments[1:]]
        done = await asyncio.to_thread(CliRunner().invoke, posting_engine, asked)
        assert done.exit_code == 0, done.output
        return done.output


def two_groups(folder: Path, **limits: int) -> ClusterConfig:
    """Two groups, a router, and metrics of all three."""
    one = cluster(folder, **limits)
    first = msgspec.structs.replace(one.groups[0].replicas[0], metrics=free_address())
    other = ReplicaConfig(
        id="a",
        peer=free_address(),
        grpc=free_address(),
        link=free_address(),
        metrics=free_address(),
        folder=str(folder / "other"),
    )
    groups = tuple(GroupConfig(group=number, replicas=(replica,)) for number, replica in enumerate((first, other)))
    router = RouterConfig(grpc=free_address(), metrics=free_address())
    return msgspec.structs.replace(one, groups=groups, routers=(router,))


@asynccontextmanager
async def running(config: ClusterConfig) -> AsyncIterator[Running]:
    """Serve until the block ends."""
    async with AsyncExitStack() as stack:
        for group in range(GROUPS):
            await stack.enter_async_context(running_node(config, group=group))
        yield await stack.enter_async_context(routing(config))


@asynccontextmanager
async def routing(config: ClusterConfig) -> AsyncIterator[Running]:
    """Serve the nodes that run already through a router, the first of the file, until the block ends."""
    router = Router(config, config.routers[0])
    await router.start()
    try:
        await asyncio.wait_for(router._directory.answered.wait(), CALL_S)
        async with grpc.aio.insecure_channel(config.routers[0].grpc, options=CHANNEL_OPTIONS) as channel:
            yield Running(config, router, Node(config.routers[0].grpc, channel))
    finally:
        await router.stop()


async def until(holds: Callable[[], bool], what: str, within_s: float = CALL_S) -> None:
    """Wait for something to come about."""
    for _ in range(int(within_s / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")
