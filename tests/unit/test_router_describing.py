"""How a router joins what the replicas say of themselves."""

from types import SimpleNamespace

import pytest

from engine.config import LimitsConfig
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Reason
from postingengine.v1.admin_service_pb2 import (
    DescribeClusterResponse,
    GroupDescription,
    ReplicaDescription,
    TransferLeadershipRequest,
)
from router.administration import Administration, joined_description

SILENT = faults.unavailable(Reason.GROUP_UNREACHABLE, "the replica at b:1 does not answer")


def test_a_replica_that_does_not_answer_is_named_by_its_peers() -> None:
    replicas = [
        ReplicaDescription(replica=name, address=f"{name}:1", metrics_address=f"{name}:2", term=3) for name in "abc"
    ]
    said = DescribeClusterResponse(
        placement_epoch=1, groups=[GroupDescription(group=0), GroupDescription(group=1, replicas=replicas)]
    )
    other = DescribeClusterResponse(
        placement_epoch=1, groups=[GroupDescription(group=0, replicas=[replicas[0]]), GroupDescription(group=1)]
    )
    found = [(0, "a:1", other), (1, "a:1", said), (1, "b:1", SILENT)]
    described = joined_description([other, said], found).groups[1].replicas
    assert [(one.replica, one.metrics_address, one.term) for one in described] == [("a", "a:2", 3), ("b", "b:2", 0)]
    assert described[1].fault.message == SILENT.message


async def test_a_group_that_the_cluster_has_not_is_the_callers_mistake() -> None:
    placement = SimpleNamespace(groups=[0, 1])
    directory = SimpleNamespace(clients={0: None, 1: None}, placement=placement)
    asked = TransferLeadershipRequest(group=7).SerializeToString()
    with pytest.raises(CallFailed, match="no group 7: the cluster's groups are 0, 1") as caught:
        await Administration(directory, LimitsConfig()).transfer_leadership(asked, None)  # type: ignore[arg-type]
    told = caught.value.fault
    assert (told.code, told.reason, told.field) == (faults.INVALID_ARGUMENT, Reason.GROUP_UNKNOWN, "group")
