"""What the router looks things up in: the groups' clients, and the placement as the cluster itself has logged it."""

import asyncio
import logging
import time
from typing import Final

import grpc

from engine.config import ClusterConfig, initial_settings
from engine.core.settings import Ledger, Settings, SlotRange
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Reason
from engine.rpc.group_client import GroupClient, client_of
from engine.rpc.leader_watch import DESCRIBE_CLUSTER
from postingengine.v1 import admin_service_pb2
from router.placement import Placement

DESCRIBE_S_MAX: Final = 1.0
REFRESH_S: Final = 5.0

logger = logging.getLogger(__name__)


class Directory:
    """Groups and placement. The file's settings serve until the first node has told the logged ones."""

    def __init__(self, config: ClusterConfig) -> None:
        """Open the channels of every group; nothing is sent yet."""
        self.config = config
        self.placement = Placement(initial_settings(config))
        self.clients = {section.group: client_of(config, section) for section in config.groups}
        self.answered = asyncio.Event()
        """Set once a node has answered."""

    async def close(self) -> None:
        """Close every channel."""
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    def client(self, group: int) -> GroupClient:
        """Return a group's client; raises `CallFailed` for a group that this router's file does not name."""
        if group not in self.clients:
            message = f"the router's cluster.yml names no group {group}; bring the file up to date and restart it"
            raise CallFailed(faults.unavailable(Reason.GROUP_UNKNOWN, message))
        return self.clients[group]

    async def keep_fresh(self) -> None:
        """Ask for the logged settings, now and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S if self.answered.is_set() else 0.1)

    async def refresh(self) -> None:
        """Take over the newest placement that any node tells."""
        answers = await asyncio.gather(*(self._described(client) for client in self.clients.values()))
        for answer in answers:
            if answer is not None and any(group.slots for group in answer.groups):  # none before the first record
                self._adopt(answer)

    def _adopt(self, answer: admin_service_pb2.DescribeClusterResponse) -> None:
        if not self.answered.is_set() or answer.placement_epoch > self.placement.epoch:
            try:
                self.placement = Placement(settings_of(answer))
            except ValueError as error:
                logger.warning("a node described slots that do not fit: %s; the old placement stays", error)
                return
            self.answered.set()

    async def _described(self, client: GroupClient) -> admin_service_pb2.DescribeClusterResponse | None:
        deadline_s = time.monotonic() + DESCRIBE_S_MAX
        for address in client.addresses:
            try:
                answer = await client.call_replica(address, DESCRIBE_CLUSTER, b"", deadline_s - time.monotonic())
            except grpc.aio.AioRpcError:
                continue
            return admin_service_pb2.DescribeClusterResponse.FromString(answer)
        return None


def settings_of(answer: admin_service_pb2.DescribeClusterResponse) -> Settings:
    """Read the replicated settings out of a description."""
    return Settings(
        cluster_id=answer.cluster_id,
        hash_seed=answer.hash_seed,
        ledgers=tuple(Ledger(one.ledger, one.code, one.scale) for one in answer.ledgers),
        slots=tuple(SlotRange(group.group, one.first, one.last) for group in answer.groups for one in group.slots),
        placement_epoch=answer.placement_epoch,
    )
