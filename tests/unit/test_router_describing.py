"""How a router joins what the replicas say of themselves."""

from engine.rpc import faults
from engine.rpc.faults import Reason
from postingengine.v1.admin_service_pb2 import DescribeClusterResponse, GroupDescription, ReplicaDescription
from router.administration import joined_description

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
