import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import msgspec
import pytest

from engine.config import ClusterConfig
from engine.core.outcomes import Outcome
from engine.exit_codes import ExitCode
from postingengine.v1.posting_service_pb2 import GetAccountsRequest, PostTransfersRequest
from tests.running_node import Node, cluster, identity, running_node, transfer, write_cluster

ALICE, BOB = identity(0xA11CE), identity(0xB0B)
START_S_MAX = 60.0
COMMAND = (sys.executable, "-m", "cli", "node")


def start(path: Path, replica: str = "a") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "--config", str(path), "--replica", replica],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


@contextmanager
def process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    running = start(path)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def ended(path: Path, replica: str = "a") -> tuple[int, str]:
    """Run a node that cannot start: its exit code and its last words."""
    running = start(path, replica)
    _, errors = running.communicate(timeout=START_S_MAX)
    return running.returncode, errors.strip().splitlines()[-1]


async def client_of(config: ClusterConfig, channel: grpc.aio.Channel) -> Node:
    """A client, once the node serves."""
    node = Node(config.groups[0].replicas[0].grpc, channel)
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        try:
            await node.answer()
            return node
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
    raise TimeoutError("the node does not serve")


def channel_to(config: ClusterConfig) -> grpc.aio.Channel:
    options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
    return grpc.aio.insecure_channel(config.groups[0].replicas[0].grpc, options=options)


async def test_sigterm_drains_and_exits_with_zero(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    with process(write_cluster(config, tmp_path)) as running:
        async with channel_to(config) as channel:
            node = await client_of(config, channel)
            await node.make_accounts(ALICE, BOB)
            posts = [asyncio.create_task(node.post(transfer(number, ALICE, BOB))) for number in range(1, 200)]
            await asyncio.sleep(0.02)
            running.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*posts, return_exceptions=True)
        assert await asyncio.to_thread(running.wait, 20) == ExitCode.OK
    acknowledged = [number for number, answer in enumerate(answers, 1) if isinstance(answer, list)]
    async with running_node(config) as node:
        again = await node.post(*[transfer(number, ALICE, BOB) for number in range(1, 200)])
        assert all(again[number - 1].replayed for number in acknowledged)


async def test_a_killed_node_keeps_what_it_acknowledged_and_replays_blind_retries(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    path = write_cluster(config, tmp_path)
    answered: dict[int, int] = {}
    with process(path) as running:
        async with channel_to(config) as channel:
            node = await client_of(config, channel)
            await node.make_accounts(ALICE, BOB)

            async def post(number: int) -> None:
                (result,) = await node.post(transfer(number, ALICE, BOB))
                answered[number] = result.position

            posts = [asyncio.create_task(post(number)) for number in range(1, 400)]
            while len(answered) < 50:
                await asyncio.sleep(0.005)
            running.kill()
            await asyncio.gather(*posts, return_exceptions=True)
    with process(path):
        async with channel_to(config) as channel:
            node = await client_of(config, channel)
            results = await node.post(*[transfer(number, ALICE, BOB) for number in range(1, 400)])
            assert {result.outcome for result in results} == {Outcome.POSTED}
            for number, position in answered.items():
                assert (results[number - 1].replayed, results[number - 1].position) == (True, position)
            accounts = await node.posting.GetAccounts(GetAccountsRequest(ids=[BOB]), timeout=5)
            assert accounts.accounts[0].state.balances.credits_posted.low == 399


async def test_a_clock_that_jumped_back_does_not_take_time_with_it(tmp_path: Path) -> None:
    clock = [2_000_000_000_000_000_000]
    async with running_node(cluster(tmp_path), clock_ns=lambda: clock[0]) as node:
        await node.make_accounts(ALICE, BOB)
        (before,) = await node.post(transfer(1, ALICE, BOB))
        clock[0] -= 3_600_000_000_000
        (after,) = await node.post(transfer(2, ALICE, BOB))
    assert after.outcome == Outcome.POSTED
    assert after.timestamp > before.timestamp


async def test_a_port_in_use_ends_the_node_before_it_writes(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config):
        other = config.groups[0].replicas[0]
        moved = msgspec.structs.replace(other, folder=str(tmp_path / "other"))
        group = msgspec.structs.replace(config.groups[0], replicas=(moved,))
        path = write_cluster(msgspec.structs.replace(config, groups=(group,)), tmp_path)
        code, words = await asyncio.to_thread(ended, path)
    assert code == ExitCode.ADDRESS_IN_USE
    assert other.grpc in words


async def test_a_folder_in_use_ends_the_node(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config):
        code, _ = await asyncio.to_thread(ended, write_cluster(config, tmp_path))
    assert code == ExitCode.FOLDER_IN_USE


async def test_data_of_another_cluster_is_refused_and_left_alone(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config) as node:
        await node.make_accounts(ALICE, BOB)
    identity_before = (tmp_path / "data" / "identity").read_bytes()
    path = write_cluster(msgspec.structs.replace(config, cluster_id="f" * 32), tmp_path)
    code, words = await asyncio.to_thread(ended, path)
    assert code == ExitCode.CLUSTER_MISMATCH
    assert words
    assert (tmp_path / "data" / "identity").read_bytes() == identity_before


def test_a_missing_key_ends_the_node_with_one_sentence(tmp_path: Path) -> None:
    path = write_cluster(cluster(tmp_path), tmp_path)
    tree = msgspec.yaml.decode(path.read_bytes())
    del tree["hash_seed"]
    path.write_bytes(msgspec.yaml.encode(tree))
    code, words = ended(path)
    assert code == ExitCode.CONFIG_INVALID
    assert "`hash_seed`" in words


async def test_a_file_that_differs_from_the_log_is_reported_not_obeyed(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config):
        pass
    changed = msgspec.structs.replace(config, ledgers=config.ledgers[:1], hash_seed=5)
    async with running_node(changed) as node:
        description = await node.admin.DescribeCluster(_describe(), timeout=5)
        assert [line.split()[0] for line in description.differences] == ["hash_seed", "ledgers"]
        assert [ledger.code for ledger in description.ledgers] == ["EUR", "USD"]
        assert description.hash_seed == config.hash_seed


async def test_a_damaged_store_ends_the_node_by_name(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config) as node:
        await node.make_accounts(ALICE, BOB)
        await node.post(transfer(1, ALICE, BOB))
    shutil.rmtree(tmp_path / "data" / "log")
    code, words = await asyncio.to_thread(ended, write_cluster(config, tmp_path))
    assert code == ExitCode.DATA_MISSING
    assert words


async def test_a_nearly_full_disk_refuses_writes_and_goes_on_reading(tmp_path: Path) -> None:
    config = cluster(tmp_path)
    async with running_node(config) as node:
        await node.make_accounts(ALICE, BOB)
    limits = msgspec.structs.replace(config.limits, disk_free_bytes_min=1 << 60)
    async with running_node(msgspec.structs.replace(config, limits=limits)) as node:
        request = PostTransfersRequest(transfers=[transfer(1, ALICE, BOB)])
        for _ in range(200):
            try:
                await node.posting.PostTransfers(request, timeout=5)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("writes were not refused")
        assert (await node.posting.GetAccounts(GetAccountsRequest(ids=[BOB]), timeout=5)).accounts[0].HasField("state")


def _describe() -> object:
    from postingengine.v1.admin_service_pb2 import DescribeClusterRequest  # noqa: PLC0415

    return DescribeClusterRequest()
