"""One shard group as a router or a courier sees it: finds the leader, sends, and sends again while the deadline allows.

Sending again is safe whatever became of an attempt: every request carries its ids, and an id has one outcome. Nothing
is remembered but a guess of who leads.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Final

import grpc

from engine.config import ClusterConfig, GroupConfig
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault, Logged, Reason
from engine.rpc.leader_watch import ASK_S_MAX, LeaderClaim, LeaderWatch, claim_in
from engine.rpc.link_client import LinkFailed, Links
from engine.rpc.link_frames import Metadata, greeting
from postingengine.v1.admin_service_pb2 import DescribeClusterResponse

DESCRIBE_CLUSTER: Final = "/postingengine.v1.AdminService/DescribeCluster"
MESSAGE_BYTES_MAX: Final = 8 << 20
ATTEMPT_S_MAX: Final = 5.0
"""One attempt's share of the deadline: a replica that is stopped, not dead, must not eat it all."""
PAUSE_S_MIN: Final = 0.01
PAUSE_S_MAX: Final = 0.2
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # gRPC's own back-off starts at a second: longer than an election.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
)
ELSEWHERE: Final = frozenset({Reason.NOT_LEADER, Reason.NOT_READY, Reason.STOPPING})
"""Certainly not logged there; another replica, or the same one a little later, may serve it."""


class GroupClient:
    """Calls to one group. Addresses are host:port of its replicas' gRPC ports, at least one.

    What may go by link does so where there is one, else by gRPC.
    """

    def __init__(self, group: int, addresses: Sequence[str], links: Links | None = None) -> None:
        """Open one channel to each replica; nothing is sent yet."""
        self.group = group
        self._links = links
        self.addresses = tuple(addresses)
        self._channels = {one: grpc.aio.insecure_channel(one, options=CHANNEL_OPTIONS) for one in self.addresses}
        self._leader = self.addresses[0]
        self._watch = LeaderWatch(self._ask_who_leads, self.addresses, self._follow)

    async def close(self) -> None:
        """Close every channel."""
        self._watch.close()
        if self._links is not None:
            await self._links.close()
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def call(self, method: str, request: bytes, deadline_s: float, metadata: Metadata = ()) -> bytes:
        """Send to the leader and return its answer's bytes; `deadline_s` is on the monotonic clock.

        Raises `CallFailed`: with the fault of the group where it is final, else when the deadline is near, saying
        whether anything may have been logged.
        """
        pause_s, unknown = PAUSE_S_MIN, False
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise CallFailed(self._out_of_time(unknown))
            timeout_s = min(left_s, ATTEMPT_S_MAX)
            asked = self._leader
            try:
                return await self._watch.answer_of(asked, self._send(asked, method, request, timeout_s, metadata))
            except grpc.aio.AioRpcError as error:
                fault = faults.fault_of_error(error)
            except LinkFailed as failed:
                fault = failed.fault
            except TimeoutError:  # it is silent, and another one leads
                unknown = True
                continue
            if fault is not None and not _worth_another_try(fault):
                raise CallFailed(fault)
            unknown = unknown or fault is None or fault.logged is Logged.UNKNOWN
            if not self._look_elsewhere(asked, fault):
                await asyncio.sleep(min(pause_s, max(0.0, deadline_s - time.monotonic())))
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def call_replica(
        self, address: str, method: str, request: bytes, timeout_s: float, metadata: Metadata = ()
    ) -> bytes:
        """Send once to one replica by gRPC; raises `grpc.aio.AioRpcError`."""
        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channels[address].unary_unary(method)
        answer: bytes = await send(request, timeout=timeout_s, metadata=tuple(metadata))
        return answer

    async def describe(self, address: str, timeout_s: float) -> DescribeClusterResponse:
        """Ask one replica how it sees the cluster; raises `grpc.aio.AioRpcError`."""
        return DescribeClusterResponse.FromString(await self.call_replica(address, DESCRIBE_CLUSTER, b"", timeout_s))

    def _send(
        self, address: str, method: str, request: bytes, timeout_s: float, metadata: Metadata
    ) -> Coroutine[None, None, bytes]:
        link = None if self._links is None else self._links.ready(address, method)
        if link is not None:
            return link.call(method, request, timeout_s, metadata)
        return self.call_replica(address, method, request, timeout_s, metadata)

    async def _ask_who_leads(self, address: str) -> LeaderClaim | None:
        try:
            return claim_in(await self.describe(address, ASK_S_MAX), self.group, address)
        except grpc.aio.AioRpcError:
            return None

    def _follow(self, leader: str) -> None:
        self._leader = leader

    def _look_elsewhere(self, asked: str, fault: Fault | None) -> bool:
        """Choose whom to ask next; True if the group named a leader other than the replica that was asked just now."""
        if fault is not None and fault.leader in self._channels and fault.leader != asked:
            self._leader = fault.leader
            return True
        if self._leader == asked and (fault is None or fault.reason in ELSEWHERE):
            at = self.addresses.index(asked)
            self._leader = self.addresses[(at + 1) % len(self.addresses)]
        return False

    def _out_of_time(self, unknown: bool) -> Fault:
        if unknown:
            return faults.fate_unknown(
                f"group {self.group} did not answer within the deadline; ask again with the same ids"
            )
        return faults.unavailable(
            Reason.GROUP_UNREACHABLE, f"group {self.group} has no leader that can be reached; try again shortly"
        )


def client_of(config: ClusterConfig, section: GroupConfig) -> GroupClient:
    """Return a client of a group, by the links and API addresses that the cluster's file gives."""
    links = {replica.grpc: replica.link for replica in section.replicas if replica.link is not None}
    addresses = [replica.grpc for replica in section.replicas]
    return GroupClient(section.group, addresses, Links(greeting(config.cluster_id, section.group), links))


def _worth_another_try(fault: Fault) -> bool:
    return fault.reason in ELSEWHERE or fault.reason == Reason.FATE_UNKNOWN
