"""`posting-engine describe`: groups, replicas, leaders, indexes and lag."""

from typing import Final

import click

from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, fault_sentence
from postingengine.v1.admin_service_pb2 import (
    DescribeClusterRequest,
    DescribeClusterResponse,
    GroupDescription,
    ReplicaDescription,
    ReplicaRole,
)

COLUMNS: Final = (
    "group",
    "replica",
    "address",
    "role",
    "term",
    "last",
    "commit",
    "durable",
    "applied",
    "lag",
    "views lag",
    "metrics",
)

OUT_OF_REACH: Final = "out of reach"


@click.command()
@json_option
@with_server
def describe(server: Server, as_json: bool) -> None:
    """Show the cluster: each group's replicas with role, term, log indexes and lag, and where their metrics are."""
    answer = server.ask(server.admin.DescribeCluster, DescribeClusterRequest())
    if as_json:
        print_json(_json(answer))
        return
    click.echo(f"cluster {answer.cluster_id}, placement epoch {answer.placement_epoch}")
    rows = [_row(group, replica) for group in answer.groups for replica in group.replicas]
    print_table(COLUMNS, rows, numbers=COLUMNS[4:-1])
    for group in answer.groups:
        click.echo(f"group {group.group}: {group.accounts} accounts, {group.open_reservations} open reservations")
    for replica in (one for group in answer.groups for one in group.replicas if one.HasField("fault")):
        click.echo(f"note: {fault_sentence(replica.fault)}")
    for difference in answer.differences:
        click.echo(f"note: {difference}")


def _role(replica: ReplicaDescription) -> str:
    return ReplicaRole.Name(replica.role).removeprefix("REPLICA_ROLE_").lower()


def _row(group: GroupDescription, replica: ReplicaDescription) -> list[str]:
    place = [str(group.group), replica.replica, replica.address]
    if replica.HasField("fault"):
        return [*place, OUT_OF_REACH, *[""] * (len(COLUMNS) - 5), replica.metrics_address]
    numbers = (
        replica.term,
        replica.last_log_index,
        replica.commit_index,
        replica.durable_index,
        replica.applied_index,
        replica.lag_records,
        replica.read_model_lag,
    )
    return [*place, _role(replica), *map(str, numbers), replica.metrics_address]


def _json(answer: DescribeClusterResponse) -> dict[str, object]:
    return {
        "cluster_id": answer.cluster_id,
        "placement_epoch": answer.placement_epoch,
        "ledgers": [{"ledger": one.ledger, "code": one.code, "scale": one.scale} for one in answer.ledgers],
        "groups": [_group_json(group) for group in answer.groups],
        "differences": list(answer.differences),
    }


def _group_json(group: GroupDescription) -> dict[str, object]:
    return {
        "group": group.group,
        "leader": group.leader,
        "slots": [[one.first, one.last] for one in group.slots],
        "accounts": group.accounts,
        "open_reservations": group.open_reservations,
        "replicas": [_replica_json(replica) for replica in group.replicas],
    }


def _replica_json(replica: ReplicaDescription) -> dict[str, object]:
    return {
        "replica": replica.replica,
        "address": replica.address,
        "metrics_address": replica.metrics_address,
        "fault": fault_sentence(replica.fault) if replica.HasField("fault") else None,
        "role": _role(replica),
        "term": replica.term,
        "first_log_index": replica.first_log_index,
        "last_log_index": replica.last_log_index,
        "commit_index": replica.commit_index,
        "durable_index": replica.durable_index,
        "applied_index": replica.applied_index,
        "lag_records": replica.lag_records,
        "log_bytes": replica.log_bytes,
        "next_position": replica.next_position,
        "read_model_lag": replica.read_model_lag,
        "uptime_ms": replica.uptime_ms,
        "version": replica.version,
    }
