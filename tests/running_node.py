"""A node in this process for tests: real log, real store, real gRPC, on a free port."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec

from engine.config import ClusterConfig, GroupConfig, LimitsConfig, ReplicaConfig
from engine.core.settings import Ledger
from engine.rpc.process import Lifetime
from engine.service.node import serve_node
from engine.service.replica import Place
from postingengine.v1.account_pb2 import Account
from postingengine.v1.admin_service_pb2_grpc import AdminServiceStub
from postingengine.v1.posting_service_pb2 import CreateAccountsRequest, PostTransfersRequest
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub
from postingengine.v1.transfer_pb2 import Transfer, TransferKind
from postingengine.v1.types_pb2 import Uint128
from tests.ports import free_address

CLUSTER_ID = "0123456789abcdef" * 2
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", 16 << 20), ("grpc.initial_reconnect_backoff_ms", 50))
WAIT_S_MAX = 60.0


class Node:
    """A client of one running node."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self.posting: Any = PostingServiceStub(channel)
        self.admin: Any = AdminServiceStub(channel)

    def raw(self, method: str) -> Callable[..., Any]:
        """A method of PostingService over bytes."""
        return self.channel.unary_unary(f"/postingengine.v1.PostingService/{method}")

    async def answer(self) -> None:
        """Ask for the settings, and for a linearizable read."""
        for service, method in (("PostingService", "ListLedgers"), ("AdminService", "Audit")):
            ask: Any = self.channel.unary_unary(f"/postingengine.v1.{service}/{method}")
            await ask(b"", timeout=1)

    async def post(self, *transfers: Transfer, timeout: float = WAIT_S_MAX) -> list[Any]:
        """Post a typed batch; its results."""
        response = await self.posting.PostTransfers(PostTransfersRequest(transfers=transfers), timeout=timeout)
        return list(response.results)

    async def make_accounts(self, *ids: bytes, **fields: Any) -> list[Any]:
        """Create accounts of ledger 1; their results."""
        accounts = [Account(id=one, **{"ledger": 1, **fields}) for one in ids]
        return list(
            (await self.posting.CreateAccounts(CreateAccountsRequest(accounts=accounts), timeout=WAIT_S_MAX)).results
        )


def identity(number: int) -> bytes:
    """An id of 16 bytes."""
    return number.to_bytes(16, "big")


def transfer(number: int, debit: bytes, credit: bytes, amount: int = 1, **fields: Any) -> Transfer:
    """A POST in ledger 1."""
    return Transfer(
        **{
            "id": identity(number),
            "debit_account": debit,
            "credit_account": credit,
            "amount": Uint128(low=amount & (1 << 64) - 1, high=amount >> 64),
            "ledger": 1,
            "kind": TransferKind.TRANSFER_KIND_POST,
            **fields,
        }
    )


def cluster(folder: Path, **limits: int) -> ClusterConfig:
    """One group with one replica, on free ports."""
    replica = ReplicaConfig(
        id="a", peer=free_address(), grpc=free_address(), link=free_address(), folder=str(folder / "data")
    )
    return ClusterConfig(
        cluster_id=CLUSTER_ID,
        hash_seed=77,
        ledgers=(Ledger(1, "EUR", 2), Ledger(2, "USD", 2)),
        groups=(GroupConfig(group=0, replicas=(replica,)),),
        limits=LimitsConfig(**{"store_map_bytes_max": 1 << 30, "segment_bytes": 4 << 20, **limits}),
    )


def write_cluster(config: ClusterConfig, folder: Path) -> Path:
    """Write a configuration as cluster.yml."""
    path = folder / "cluster.yml"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


@asynccontextmanager
async def running_node(config: ClusterConfig, *, group: int = 0, **options: Any) -> AsyncIterator[Node]:
    """Serve a group until the block ends, then stop clean."""
    place = Place(config, group, config.groups[group].replicas[0])
    lifetime = Lifetime()
    serving = asyncio.create_task(serve_node(place, lifetime, **options))
    async with grpc.aio.insecure_channel(place.replica.grpc, options=CHANNEL_OPTIONS) as channel:
        try:
            await _until_ready(channel, serving)
            yield Node(place.replica.grpc, channel)
        finally:
            lifetime.end()
            await asyncio.wait_for(serving, WAIT_S_MAX)


async def _until_ready(channel: grpc.aio.Channel, serving: "asyncio.Task[None]") -> None:
    """Wait until the group has its settings and answers a linearizable read."""
    node = Node("", channel)
    for _ in range(int(WAIT_S_MAX / 0.02)):
        if serving.done():
            await serving
        try:
            await node.answer()
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.02)
    raise TimeoutError("the node does not serve")


def random_id() -> bytes:
    """An id of 16 random bytes."""
    return os.urandom(16)
