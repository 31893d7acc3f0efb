"""A node tells Prometheus of itself over HTTP, on the address that the file names and nowhere else."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.config import ClusterConfig, metrics_address, parse_config
from engine.exit_codes import EngineStopped, ExitCode
from engine.rpc.faults import CallFailed
from engine.rpc.metrics import MetricsServer
from engine.service.admission import AdmissionQueue
from engine.service.metrics.histogram import Histogram
from engine.service.submission import Caller, Submission
from postingengine.v1.account_pb2 import AccountFlag
from postingengine.v1.admin_service_pb2 import DescribeClusterRequest
from postingengine.v1.transfer_pb2 import TransferKind
from tests.ports import free_address
from tests.running_node import Node, cluster, identity, running_node, transfer, write_cluster

ALICE, BOB, BANK = identity(0xA11CE), identity(0xB0B), identity(0xBA27)
Figures = dict[tuple[str, ...], float]
"""By name and label values."""


def with_metrics(config: ClusterConfig, address: str | int) -> ClusterConfig:
    (group,) = config.groups
    (replica,) = group.replicas
    replica = msgspec.structs.replace(replica, metrics=address)
    return msgspec.structs.replace(config, groups=(msgspec.structs.replace(group, replicas=(replica,)),))


async def fetch(address: str, request: bytes = b"GET /metrics HTTP/1.1\r\n\r\n") -> tuple[str, str]:
    """The status line and the body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        answer = (await asyncio.wait_for(reader.read(), 30)).decode()
    except ConnectionResetError:  # closed before all of the request was read
        answer = ""
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.splitlines()[0] if head else "", body


async def figures(address: str) -> Figures:
    _, body = await fetch(address)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


async def post_some(node: Node) -> None:
    limited = AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS
    await node.make_accounts(BOB, BANK)
    await node.make_accounts(ALICE, flags=[limited])
    await node.post(*(transfer(number, BANK, BOB) for number in range(1, 31)))
    await node.post(transfer(1, BANK, BOB), transfer(2, BANK, BOB))  # again
    await node.post(transfer(3, BANK, BOB, amount=7))  # another body
    await node.post(transfer(50, ALICE, BOB))  # has nothing


async def test_what_was_posted_replayed_refused_and_contested_is_told(tmp_path: Path) -> None:
    address = free_address()
    async with running_node(with_metrics(cluster(tmp_path), address)) as node:
        await post_some(node)
        first = await figures(address)
        await node.post(*(transfer(number, BANK, BOB) for number in range(100, 110)))
        second = await figures(address)
    rows = "posting_engine_journal_rows_total"
    assert first[rows, "post", "posted", "local"] == 30
    assert first[rows, "post", "insufficient_funds", "local"] == 1
    assert first[rows, "create_account", "account_created", "local"] == 3
    assert second[rows, "post", "posted", "local"] == 40
    assert first["posting_engine_replays_total",] == 2 and first["posting_engine_conflicts_total",] == 1
    assert first["posting_engine_accounts",] == 3
    hot = {name[1]: value for name, value in first.items() if name[0] == "posting_engine_hot_account_share"}
    assert hot[BOB.hex()] == 1.0 and 0 < hot[ALICE.hex()] < 0.1


async def test_the_log_the_queues_and_the_process_are_told(tmp_path: Path) -> None:
    address = free_address()
    config = with_metrics(cluster(tmp_path), address)
    async with running_node(config) as node:
        await post_some(node)
        told = await figures(address)
    assert told["posting_engine_is_leader",] == 1 and told["posting_engine_leader_changes_total",] == 1
    assert told["posting_engine_applied_index",] == told["posting_engine_commit_index",] > 5
    records = told["posting_engine_apply_seconds_count",]
    assert 5 < records <= told["posting_engine_applied_index",]
    assert told["posting_engine_sync_seconds_count",] >= 5 and told["posting_engine_sync_seconds_sum",] > 0
    assert told["posting_engine_apply_seconds_bucket", "+Inf"] == records
    for idle in ("queue_rows", "queue_age_seconds", "open_chains", "transit_accounts_not_zero", "records_in_flight"):
        assert told[f"posting_engine_{idle}",] == 0
    assert told["posting_engine_oldest_open_reservation_seconds",] == 0
    assert told["process_resident_memory_bytes",] > 1 << 20
    assert told["posting_engine_replica", config.cluster_id, "0", "a", *_version(told)] == 1


async def test_the_age_of_the_oldest_open_reservation_is_told(tmp_path: Path) -> None:
    address = free_address()
    async with running_node(with_metrics(cluster(tmp_path), address)) as node:
        await node.make_accounts(BOB, BANK)
        held = [transfer(number, BANK, BOB, kind=TransferKind.TRANSFER_KIND_RESERVE) for number in (1, 2)]
        await node.post(held[0])
        await asyncio.sleep(0.05)
        await node.post(held[1])
        both = await figures(address)
        release = {"kind": TransferKind.TRANSFER_KIND_RELEASE, "followed": held[0].id}
        await node.post(transfer(3, BANK, BOB, 0, **release))
        one = await figures(address)
    age = ("posting_engine_oldest_open_reservation_seconds",)
    assert both["posting_engine_open_reservations",] == 2 and one["posting_engine_open_reservations",] == 1
    assert both[age] >= 0.05
    assert 0 < one[age] < both[age] + 60


async def test_a_node_tells_where_its_metrics_and_its_peers_are(tmp_path: Path) -> None:
    address = free_address()
    async with running_node(with_metrics(cluster(tmp_path), address)) as node:
        description = await node.admin.DescribeCluster(DescribeClusterRequest(), timeout=5)
    assert [one.metrics_address for one in description.groups[0].replicas] == [address]


def _version(told: Figures) -> tuple[str, ...]:
    return next(name[4:] for name in told if name[0] == "posting_engine_replica")


async def test_what_is_refused_by_admission_is_counted() -> None:
    queue = AdmissionQueue(bytes_max=10 * 128, age_s_max=1.0, live_rows_max=4)
    done: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()

    def rows(count: int, arrived_s: float) -> Submission:
        words = np.zeros((count, 16), np.uint64)
        return Submission(words, Caller("a", 1), done, first_seen_ns=0, arrived_s=arrived_s, deadline_s=9.0)

    queue.admit(rows(4, 0.0), 0.0)
    for refused, now_s in ((rows(7, 0.5), 0.5), (rows(2, 2.0), 2.0)):  # too many; the oldest waits too long
        with pytest.raises(CallFailed):
            queue.admit(refused, now_s)
    queue.admit(rows(6, 2.0), 2.0)  # the other lane
    assert (queue.refused_rows, queue.waiting_rows) == (9, 10)


async def test_without_an_address_nothing_listens_and_nothing_is_counted(tmp_path: Path) -> None:
    async with running_node(cluster(tmp_path)) as node:
        await post_some(node)
    assert metrics_address(cluster(tmp_path).groups[0].replicas[0]) is None


async def test_a_bare_port_is_one_of_the_loopback_and_a_wrong_address_is_refused(tmp_path: Path) -> None:
    config = with_metrics(cluster(tmp_path), 9123)
    assert metrics_address(config.groups[0].replicas[0]) == "127.0.0.1:9123"
    read = parse_config(write_cluster(config, tmp_path).read_bytes(), folder=tmp_path)
    assert metrics_address(read.groups[0].replicas[0]) == "127.0.0.1:9123"
    wrong = write_cluster(with_metrics(config, "nowhere"), tmp_path).read_bytes()
    with pytest.raises(EngineStopped, match="is not host:port") as stopped:
        parse_config(wrong, folder=tmp_path)
    assert stopped.value.code is ExitCode.CONFIG_INVALID
    shared = write_cluster(with_metrics(config, config.groups[0].replicas[0].grpc), tmp_path).read_bytes()
    with pytest.raises(EngineStopped, match="stands there 2 times"):
        parse_config(shared, folder=tmp_path)


async def test_whatever_is_not_that_one_request_is_refused() -> None:
    async def nothing() -> list[object]:
        return []

    async def broken() -> list[object]:
        raise TimeoutError

    served, failing = free_address(), free_address()
    servers = [MetricsServer(served, nothing), MetricsServer(failing, broken)]  # type: ignore[arg-type]
    for server in servers:
        await server.start()
    assert (await fetch(served))[0] == "HTTP/1.1 200 OK"
    assert (await fetch(served, b"GET /metrics?name=x HTTP/1.1\r\nHost: here\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        assert (await fetch(served, request))[0] == "HTTP/1.1 404 Not Found"
    assert (await fetch(served, b"x" * 100_000))[0] == ""
    assert (await fetch(failing))[0] == "HTTP/1.1 500 Internal Server Error"
    with pytest.raises(EngineStopped, match="is in use") as stopped:
        await MetricsServer(served, nothing).start()  # type: ignore[arg-type]
    assert stopped.value.code is ExitCode.ADDRESS_IN_USE
    for server in servers:
        await server.stop()


def test_a_histogram_counts_each_duration_once_in_the_bucket_that_it_is_within() -> None:
    histogram = Histogram()
    for seconds in (0.00005, 0.0001, 0.003, 7.0):
        histogram.observe(seconds)
    told = dict(histogram.cumulative())
    assert (told["0.0001"], told["0.002"], told["0.005"], told["5.0"], told["+Inf"]) == (2, 2, 3, 3, 4)
    assert histogram.sum_s == pytest.approx(7.00315)
