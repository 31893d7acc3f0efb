"""What the router looks things up in: the groups' clients, and the placement as the cluster itself has logged it."""

import asyncio
import logging
from typing import Final

import grpc

from engine.config import ClusterConfig, initial_settings
from engine.core.settings import Ledger, Settings, SlotRange
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Reason
from engine.rpc.group_client import GroupClient, client_of
from postingengine.v1.admin_service_pb2 import DescribeClusterResponse as Description
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
        for answer in await asyncio.gather(*(self._described(client) for client in self.clients.values())):
            if answer is not None:
                self._adopt(answer)

    def _adopt(self, answer: Description) -> None:
        if self._is_news(answer):
            try:
                self.placement = Placement(settings_of(answer))
            except ValueError as error:
                logger.warning("a node described slots that do not fit: %s; the old placement stays", error)
                return
            self.answered.set()

    def _is_news(self, answer: Description) -> bool:
        return not self.answered.is_set() or answer.placement_epoch > self.placement.epoch

    async def _described(self, client: GroupClient) -> Description | None:
        """Return what is news of what a group's replicas say. All are asked at once, and none is waited for once one
        had news: a machine that is gone answers late, and a replica that is behind tells old things."""
        asked = [asyncio.create_task(self._ask(client, address)) for address in client.addresses]
        waiting, news = set(asked), None
        try:
            while waiting and news is None:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                told = [answer for one in asked if one.done() and (answer := one.result()) is not None]
                news = next(filter(self._is_news, told), None)
        finally:
            for one in waiting:
                one.cancel()
        return news

    async def _ask(self, client: GroupClient, address: str) -> Description | None:
        """Ask one replica; it has nothing to say before the group's first record."""
        try:
            answer = await client.describe(address, DESCRIBE_S_MAX)
        except grpc.aio.AioRpcError:
            return None
        return answer if any(group.slots for group in answer.groups) else None


def settings_of(answer: Description) -> Settings:
    """Read the replicated settings out of a description."""
    return Settings(
        cluster_id=answer.cluster_id,
        hash_seed=answer.hash_seed,
        ledgers=tuple(Ledger(one.ledger, one.code, one.scale) for one in answer.ledgers),
        slots=tuple(SlotRange(group.group, one.first, one.last) for group in answer.groups for one in group.slots),
        placement_epoch=answer.placement_epoch,
    )
