"""The heat of this replica's group, as a message."""

from typing import Final

from engine.rpc.faults import CallFailed, not_measured, status_of
from engine.service.heat.advice import Advice
from engine.service.heat.window import Window
from engine.service.replica import Replica
from postingengine.v1.admin_service_pb2 import GroupHeat, HotAccount, ReportHeatRequest, ReportHeatResponse
from postingengine.v1.types_pb2 import Consistency

ACCOUNTS_DEFAULT: Final = 10
_AS_IT_IS: Final = Consistency(stale=Consistency.Stale())
_OFF: Final = (
    "heat is not measured: hot_accounts in cluster.yml is off; set its policy to advise and start the node again"
)


async def report_heat(replica: Replica, request: ReportHeatRequest, deadline_s: float) -> ReportHeatResponse:
    """Report this group's heat; only a leader measures it. Raises `CallFailed`."""
    group = replica.place.group
    if request.groups and group not in request.groups:
        return ReportHeatResponse()
    if not replica.is_leader:
        raise CallFailed(replica.not_leading())
    if not replica.heat.is_on:
        return ReportHeatResponse(groups=[GroupHeat(group=group, fault=status_of(not_measured(_OFF)))])
    accounts_max = request.accounts_per_group or ACCOUNTS_DEFAULT
    report = await replica.read(_AS_IT_IS, deadline_s, lambda: replica.heat.report(accounts_max))
    window = report.window
    heat = GroupHeat(
        group=group,
        replica=replica.place.replica.id,
        window_ns=window.length_ns,
        transfers=window.transfers,
        crossing=window.crossing,
        accounts=[_message(advice, window) for advice in report.advice],
    )
    return ReportHeatResponse(groups=[heat])


def _message(advice: Advice, window: Window) -> HotAccount:
    counted = advice.counted
    return HotAccount(
        account=counted.account,
        debits=counted.debits,
        credits=counted.credits,
        crossing=counted.crossing,
        missed_max=counted.missed_max,
        share_percent=window.share_percent(counted),
        transfers_per_s=window.per_s(counted.entries),
        split_advised=advice.split,
        reason=advice.reason,
    )
