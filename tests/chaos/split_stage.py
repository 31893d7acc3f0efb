"""A cluster of real processes with accounts, one of them split, and a caller who keeps books of what was answered."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from bench.bulk import open_stub
from bench.cluster import BenchCluster
from bench.contention.accounts import PURSE, Cast, cast_of, create, split
from bench.contention.books import Books
from bench.contention.checks import Moved, check
from bench.contention.drain import Drained, drain
from bench.contention.mixes import Mix, Shares
from bench.contention.sending import Sender
from engine.core.outcomes import Outcome
from postingengine.v1 import admin_service_pb2_grpc
from postingengine.v1.account_pb2 import AccountAnswer, AccountUpdate
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, UpdateAccountsRequest
from tests.chaos.processes import START_S_MAX, Cluster

CALL_S: Final = 60.0
DRAIN_S_MAX: Final = 300.0
ASK_EVERY_S: Final = 0.1
ORDINARY: Final = 100

T = TypeVar("T")


class Stage:
    """A cluster with accounts, one of them split."""

    def __init__(self, cluster: Cluster, cast: Cast, groups: int) -> None:
        self.cluster, self.cast, self.groups = cluster, cast, groups
        self.purse = cast.ids[PURSE].tobytes()
        self.sender, self.moved = Sender(cluster.router), Moved(cast.ids)
        self.mix = Mix(cast, Shares(0.0, -1.0, 0.0, 1.1), np.random.default_rng(1))
        self.channel, self.stub = open_stub(cluster.router)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def drained(self, money: int) -> Drained:
        work = drain(self.sender, self.cast, self.mix, self.moved, money=money)
        return await asyncio.wait_for(work, DRAIN_S_MAX)

    async def read(self) -> AccountAnswer:
        request = GetAccountsRequest(ids=[self.purse], with_buckets=True)
        return (await self.stub.GetAccounts(request, timeout=CALL_S)).accounts[0]

    async def update(self, *, frozen: bool = False, closed: bool = False) -> str:
        version = (await self.read()).state.version
        update = AccountUpdate(
            id=uuid.uuid4().bytes, account=self.purse, ledger=1, expected_version=version, frozen=frozen, closed=closed
        )
        result = (await self.stub.UpdateAccounts(UpdateAccountsRequest(updates=[update]), timeout=CALL_S)).results[0]
        return result.fault.message if result.HasField("fault") else Outcome(result.outcome).name

    async def pay(self, debit: int, credit: int, amount: int) -> int:
        row = self.mix.between(np.array([[debit, credit]]), np.array([amount]))
        outcomes = await self.sender.post(row.tobytes())
        self.moved.add([row], [outcomes])
        return int(outcomes[0])

    async def leader(self, group: int) -> str:
        """Ask until some replica says who leads a group; the name of its process."""
        async with asyncio.timeout(START_S_MAX):
            while True:
                described: Any = await asyncio.to_thread(self.cluster.describe)
                if leader := described["groups"][group]["leader"]:
                    return f"{group or ''}{leader}"
                await asyncio.sleep(ASK_EVERY_S)

    async def check(self) -> None:
        books = Books(self.cluster.router, self.groups)
        verdict = await check(self.cluster.router, books, self.moved)
        await books.close()
        assert verdict.differences == 0 and verdict.balanced

    async def close(self) -> None:
        await self.sender.close()
        await self.channel.close()


def on_stage(
    folder: Path, act: Callable[[Stage], Awaitable[T]], *, groups: int, replicas: int = 1, people: int = 0
) -> T:
    """Start a cluster, create accounts, `people` of them limited ones beside the purse, split the purse, and act."""
    cluster = Cluster(folder, replicas=replicas, groups=groups)

    async def play() -> T:
        cast = cast_of(BenchCluster(folder, cluster.router, (), ()), ordinary=ORDINARY, employees=people, seed=1)
        stage = Stage(cluster, cast, groups)
        await create(stage.stub, cast)
        await split(cluster.router, [stage.purse], groups)
        try:
            return await act(stage)
        finally:
            await stage.close()

    try:
        cluster.start(*cluster.nodes, "router")
        cluster.describe()
        return asyncio.run(play())
    finally:
        cluster.close()
