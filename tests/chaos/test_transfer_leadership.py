"""An operator moves leadership to the replica of his choice, and is told who leads then."""

import grpc
import pytest

from postingengine.v1 import admin_service_pb2, admin_service_pb2_grpc
from tests.chaos.whole_group import WholeGroup

CALL_S = 60.0
TRIES_MAX = 10
"""A hand-over has a second, after which its leader leads on; and who leads may be deposed by a pause of its process."""


def test_leadership_goes_to_the_replica_that_is_named(cluster: WholeGroup) -> None:
    leader = cluster.leader()
    cluster.until_level()
    with grpc.insecure_channel(cluster.router) as channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)

        def transfer(to: str) -> str:
            request = admin_service_pb2.TransferLeadershipRequest(group=0, replica=to)
            return admin.TransferLeadership(request, timeout=CALL_S).leader

        for other in [name for name in cluster.replicas if name != leader]:
            told = [(transfer(other), cluster.leader())]
            while told[-1] != (other, other) and len(told) < TRIES_MAX:
                told.append((transfer(other), cluster.leader()))
            assert told[-1] == (other, other), f"{told}\n{cluster.outputs()}"
            assert "this replica is now leader" in cluster.output(other)
        with pytest.raises(grpc.RpcError) as refused:
            transfer("nobody")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "its replicas are" in refused.value.details()
