"""AdminService of a node: its own group, as this replica sees it."""

from importlib.metadata import version
from typing import Final

from engine.config import ReplicaConfig, group_config, metrics_address, settings_differences
from engine.core.settings import Settings
from engine.replication.interface import ReplicaStatus, Role
from engine.rpc.faults import INVALID_ARGUMENT, CallFailed, Fault, Reason, unavailable
from engine.rpc.ledgers import ledger_messages
from engine.rpc.server import Context, deadline_s
from engine.service.auditing import audit
from engine.service.heat_report import report_heat
from engine.service.open_list import WaitsFor, list_open
from engine.service.replica import Replica
from engine.service.statements import Statements
from postingengine.v1.admin_service_pb2 import (
    AuditRequest,
    AuditResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    GroupDescription,
    ListOpenRequest,
    ListOpenResponse,
    ReplicaDescription,
    ReplicaRole,
    ReportHeatRequest,
    ReportHeatResponse,
    SlotRange,
    TransferLeadershipRequest,
    TransferLeadershipResponse,
)

ROLES = {
    Role.LEADER: ReplicaRole.REPLICA_ROLE_LEADER,
    Role.FOLLOWER: ReplicaRole.REPLICA_ROLE_FOLLOWER,
    Role.CANDIDATE: ReplicaRole.REPLICA_ROLE_CANDIDATE,
}
PACKAGE = "posting-engine"
NEXT_LEADER_S_MAX: Final = 1.0
"""After handing over, the next leader is told if it is known within so long."""


class AdminServicer:
    """Answers for one group; a router joins the groups' answers."""

    def __init__(self, replica: Replica, statements: Statements, waits_for: WaitsFor) -> None:
        self._replica, self._statements, self._waits_for = replica, statements, waits_for
        self._default_s = replica.place.config.limits.read_deadline_ms_default / 1000

    async def DescribeCluster(self, _: DescribeClusterRequest, __: Context) -> DescribeClusterResponse:  # noqa: N802
        """Describe what this replica knows, without asking anyone; it answers before there are settings, too."""
        config, settings = self._replica.place.config, self._replica.machine.book.settings
        return DescribeClusterResponse(
            cluster_id=config.cluster_id,
            placement_epoch=0 if settings is None else settings.placement_epoch,
            hash_seed=config.hash_seed if settings is None else settings.hash_seed,
            groups=self._groups(settings),
            ledgers=[] if settings is None else ledger_messages(settings.ledgers),
            differences=[] if settings is None else settings_differences(config, settings),
        )

    async def ListOpen(self, request: ListOpenRequest, context: Context) -> ListOpenResponse:  # noqa: N802
        """List a page of what is open."""
        return await list_open(self._replica, self._waits_for, request, deadline_s(context, self._default_s))

    async def Audit(self, request: AuditRequest, context: Context) -> AuditResponse:  # noqa: N802
        """Audit the group."""
        return await audit(self._replica, request, deadline_s(context, self._default_s))

    async def ReportHeat(self, request: ReportHeatRequest, context: Context) -> ReportHeatResponse:  # noqa: N802
        """Report which accounts are hot."""
        return await report_heat(self._replica, request, deadline_s(context, self._default_s))

    async def TransferLeadership(  # noqa: N802
        self, request: TransferLeadershipRequest, _: Context
    ) -> TransferLeadershipResponse:
        """Hand over to the replica that is named, or to the one that is furthest; tell who leads then."""
        replica = self._replica
        if request.group != replica.place.group:
            message = f"this node serves group {replica.place.group}, not group {request.group}"
            raise CallFailed(Fault(INVALID_ARGUMENT, Reason.GROUP_UNKNOWN, message, field="group"))
        names = {other.id for other in group_config(replica.place.config, replica.place.group).replicas}
        if request.replica and request.replica not in names:
            message = f"group {request.group} has no replica {request.replica[:80]!r}; its replicas are {sorted(names)}"
            raise CallFailed(Fault(INVALID_ARGUMENT, Reason.REQUEST_INVALID, message, field="replica"))
        leader = replica.log.status().leader
        if not replica.is_leader:
            message = "this replica does not lead its group"
            raise CallFailed(unavailable(Reason.NOT_LEADER, message, leader=replica.address_of(leader)))
        if request.replica != replica.place.replica.id:
            await replica.hand_over(request.replica or None)
        return TransferLeadershipResponse(leader=await replica.leader(NEXT_LEADER_S_MAX))

    def _groups(self, settings: Settings | None) -> list[GroupDescription]:
        """Describe the own group, and where the slots of all others are: a router places by what it is told here."""
        slots: dict[int, list[SlotRange]] = {self._replica.place.group: []}
        for part in () if settings is None else settings.slots:
            slots.setdefault(part.group, []).append(SlotRange(first=part.first, last=part.last))
        return [
            self._own_group(ranges)
            if group == self._replica.place.group
            else GroupDescription(group=group, slots=ranges)
            for group, ranges in sorted(slots.items())
        ]

    def _own_group(self, slots: list[SlotRange]) -> GroupDescription:
        replica = self._replica
        book, status = replica.machine.book, replica.log.status()
        peers = {peer.replica: peer for peer in status.peers}
        return GroupDescription(
            group=replica.place.group,
            slots=slots,
            leader=status.leader or "",
            replicas=[
                self._own() if other.id == replica.place.replica.id else _peer(other, peers.get(other.id))
                for other in group_config(replica.place.config, replica.place.group).replicas
            ],
            accounts=book.account_count,
            open_reservations=book.open_reservation_count,
        )

    def _own(self) -> ReplicaDescription:
        replica = self._replica
        status, machine = replica.log.status(), replica.machine
        applied_index = replica.applier.applied_through(status.handed_index)
        return ReplicaDescription(
            replica=status.replica,
            address=replica.place.replica.grpc,
            role=ROLES[status.role],
            term=status.term,
            first_log_index=status.first_index,
            last_log_index=status.last_index,
            commit_index=status.commit_index,
            durable_index=status.durable_index,
            applied_index=applied_index,
            lag_records=max(0, status.commit_index - applied_index),
            log_bytes=status.log_bytes,
            next_position=machine.book.next_position,
            read_model_lag=self._statements.lag(),
            uptime_ms=replica.uptime_ms(),
            version=version(PACKAGE),
            metrics_address=metrics_address(replica.place.replica) or "",
        )


def _peer(other: ReplicaConfig, peer: ReplicaStatus | None) -> ReplicaDescription:
    """Describe another replica as far as the log knows it: its own word counts more, and a router asks for it."""
    described = ReplicaDescription(replica=other.id, address=other.grpc, metrics_address=metrics_address(other) or "")
    if peer is not None:
        described.role, described.durable_index = ROLES[peer.role], peer.match_index
    return described
