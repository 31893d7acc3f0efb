"""AdminService through the router: every group, and for descriptions every replica, is asked; the answers are one."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

import grpc

from engine.config import LimitsConfig
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault, Reason
from engine.rpc.group_client import GroupClient
from postingengine.v1 import admin_service_pb2
from router.calls import Handler, ServerContext, caller_of, deadline_of
from router.directory import Directory

SERVICE: Final = "/postingengine.v1.AdminService/"
DESCRIBE_S_MAX: Final = 1.0
"""A replica that does not answer within this is described as out of reach."""

Description = admin_service_pb2.DescribeClusterResponse


class Administration:
    """DescribeCluster, ListOpen, Audit, ReportHeat, TransferLeadership."""

    def __init__(self, directory: Directory, limits: LimitsConfig) -> None:
        """Ask the groups of `directory`."""
        self._directory, self._limits = directory, limits

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by rpc name."""
        return {
            "DescribeCluster": self.describe_cluster,
            "ListOpen": self.list_open,
            "Audit": self.audit,
            "ReportHeat": self.report_heat,
            "TransferLeadership": self.transfer_leadership,
        }

    async def describe_cluster(self, _: bytes, context: ServerContext) -> bytes:
        """Ask every replica about itself; one that does not answer is in the description with a fault."""
        left_s = deadline_of(context, self._limits.read_deadline_ms_default) - time.monotonic()
        timeout_s = min(DESCRIBE_S_MAX, left_s)
        found = await asyncio.gather(
            *(
                self._describe(client, address, timeout_s)
                for client in self._directory.clients.values()
                for address in client.addresses
            )
        )
        described = [one for _, _, one in found if isinstance(one, Description)]
        if not described:
            raise CallFailed(faults.unavailable(Reason.GROUP_UNREACHABLE, "no replica of any group can be reached"))
        return joined_description(described, found).SerializeToString()

    async def list_open(self, request: bytes, context: ServerContext) -> bytes:
        """List group after group; the page token says which group comes next."""
        asked = admin_service_pb2.ListOpenRequest.FromString(request)
        groups = list(asked.groups) or sorted(self._directory.clients)
        at, _, token = asked.page_token.partition("/")
        if at and (not at.isdecimal() or int(at) not in groups):
            raise CallFailed(faults.invalid(Reason.PAGE_TOKEN_INVALID, "the page token is not one of this call's"))
        group = int(at) if at else groups[0]
        part = admin_service_pb2.ListOpenRequest(groups=[group], page_size=asked.page_size, page_token=token)
        answer = admin_service_pb2.ListOpenResponse.FromString(
            await self._ask(group, "ListOpen", part.SerializeToString(), context)
        )
        answer.next_page_token = _next_token(group, groups, answer.next_page_token)
        return answer.SerializeToString()

    async def audit(self, request: bytes, context: ServerContext) -> bytes:
        """Ask each group's leader."""
        asked = admin_service_pb2.AuditRequest.FromString(request)
        groups = list(asked.groups) or sorted(self._directory.clients)
        parts = [admin_service_pb2.AuditRequest(groups=[group]).SerializeToString() for group in groups]
        return _joined_audits(groups, await self._ask_each("Audit", groups, parts, context)).SerializeToString()

    async def report_heat(self, request: bytes, context: ServerContext) -> bytes:
        """Ask each group's leader."""
        asked = admin_service_pb2.ReportHeatRequest.FromString(request)
        groups = list(asked.groups) or sorted(self._directory.clients)
        count = asked.accounts_per_group
        parts = [
            admin_service_pb2.ReportHeatRequest(groups=[group], accounts_per_group=count).SerializeToString()
            for group in groups
        ]
        return _joined_heat(groups, await self._ask_each("ReportHeat", groups, parts, context)).SerializeToString()

    async def transfer_leadership(self, request: bytes, context: ServerContext) -> bytes:
        """Ask the group's leader to hand over."""
        asked = admin_service_pb2.TransferLeadershipRequest.FromString(request)
        return await self._ask(asked.group, "TransferLeadership", request, context)

    async def _ask_each(
        self, rpc: str, groups: Sequence[int], parts: Sequence[bytes], context: ServerContext
    ) -> list[bytes | BaseException]:
        return await asyncio.gather(
            *(self._ask(group, rpc, part, context) for group, part in zip(groups, parts, strict=True)),
            return_exceptions=True,
        )

    async def _ask(self, group: int, rpc: str, request: bytes, context: ServerContext) -> bytes:
        groups = sorted({*self._directory.clients, *self._directory.placement.groups})
        if group not in groups:  # else the router's file may be too old, and asking again later may help
            message = f"there is no group {group}: the cluster's groups are {', '.join(map(str, groups))}"
            raise CallFailed(faults.invalid(Reason.GROUP_UNKNOWN, message, field="group"))
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        return await self._directory.client(group).call(SERVICE + rpc, request, deadline_s, caller_of(context))

    async def _describe(
        self, client: GroupClient, address: str, timeout_s: float
    ) -> tuple[int, str, Description | Fault]:
        try:
            return client.group, address, await client.describe(address, timeout_s)
        except grpc.aio.AioRpcError as error:
            message = f"the replica at {address} does not answer ({error.code().name}); is it running?"
            return client.group, address, faults.unavailable(Reason.GROUP_UNREACHABLE, message)


def joined_description(
    described: Sequence[Description], found: Sequence[tuple[int, str, Description | Fault]]
) -> Description:
    """One description: settings of the newest epoch; each group's replicas as each says of itself."""
    newest = max(described, key=lambda one: one.placement_epoch)
    joined = Description(
        cluster_id=newest.cluster_id,
        placement_epoch=newest.placement_epoch,
        hash_seed=newest.hash_seed,
        ledgers=newest.ledgers,
        differences=sorted({difference for one in described for difference in one.differences}),
    )
    for group in newest.groups:
        own = [(address, one) for number, address, one in found if number == group.group]
        joined.groups.append(_joined_group(group, own))
    return joined


def _joined_group(
    group: admin_service_pb2.GroupDescription, own: Sequence[tuple[str, Description | Fault]]
) -> admin_service_pb2.GroupDescription:
    joined = admin_service_pb2.GroupDescription(group=group.group, slots=group.slots)
    files = {one.address: one for _, answer in own if isinstance(answer, Description) for one in _said(answer, group)}
    for address, answer in own:
        if isinstance(answer, Fault):
            joined.replicas.append(_silent(address, files.get(address), answer))
            continue
        said = next((one for one in answer.groups if one.group == group.group), None)
        if said is None:
            continue
        joined.replicas.extend(one for one in said.replicas if one.address == address)
        if said.leader and (not joined.leader or _leads(said, address)):
            joined.leader, joined.accounts = said.leader, said.accounts
            joined.open_reservations = said.open_reservations
    return joined


def _said(
    answer: Description, group: admin_service_pb2.GroupDescription
) -> Iterator[admin_service_pb2.ReplicaDescription]:
    return (replica for said in answer.groups if said.group == group.group for replica in said.replicas)


def _silent(
    address: str, in_file: admin_service_pb2.ReplicaDescription | None, fault: Fault
) -> admin_service_pb2.ReplicaDescription:
    """Describe a replica that does not answer: by what its peers' files say of it, and why there is no more."""
    silent = admin_service_pb2.ReplicaDescription(address=address, fault=faults.status_of(fault))
    if in_file is not None:
        silent.replica, silent.metrics_address = in_file.replica, in_file.metrics_address
    return silent


def _leads(said: admin_service_pb2.GroupDescription, address: str) -> bool:
    leader = admin_service_pb2.REPLICA_ROLE_LEADER
    return any(one.address == address and one.role == leader for one in said.replicas)


def _next_token(group: int, groups: Sequence[int], token: str) -> str:
    if token:
        return f"{group}/{token}"
    rest = groups[groups.index(group) + 1 :]
    return f"{rest[0]}/" if rest else ""


def _joined_audits(groups: Sequence[int], found: Sequence[bytes | BaseException]) -> admin_service_pb2.AuditResponse:
    joined = admin_service_pb2.AuditResponse()
    for group, one in _told(groups, found):
        if isinstance(one, bytes):
            joined.groups.extend(admin_service_pb2.AuditResponse.FromString(one).groups)
        else:
            joined.groups.add(fault=faults.status_of(one)).read_at.group = group
    return joined


def _joined_heat(groups: Sequence[int], found: Sequence[bytes | BaseException]) -> admin_service_pb2.ReportHeatResponse:
    joined = admin_service_pb2.ReportHeatResponse()
    for group, one in _told(groups, found):
        if isinstance(one, bytes):
            joined.groups.extend(admin_service_pb2.ReportHeatResponse.FromString(one).groups)
        else:
            joined.groups.add(group=group, fault=faults.status_of(one))
    return joined


def _told(groups: Sequence[int], found: Sequence[bytes | BaseException]) -> Iterator[tuple[int, bytes | faults.Fault]]:
    """Yield each group's answer, or its fault; raise what is neither."""
    for group, one in zip(groups, found, strict=True):
        if isinstance(one, bytes):
            yield group, one
        elif isinstance(one, CallFailed):
            yield group, one.fault
        else:
            raise one
