"""What must not get into a group of three: each is refused, or stops, in one sentence that says what to do."""

import asyncio
import contextlib
import json
import pickle
import shutil
import socket
from pathlib import Path

import msgspec

from engine.exit_codes import ExitCode
from tests.chaos.caller import Caller
from tests.chaos.processes import START_S_MAX, STOP_S_MAX
from tests.chaos.whole_group import WholeGroup

ATTACKS = (
    pickle.dumps({"type": "append_entries", "term": 1 << 40}),
    b"GET / HTTP/1.1\r\nHost: peers\r\n\r\n",
    bytes(64),
    b"\xff\xff\xff\x7f" + bytes(100_000),  # a frame of two gigabytes
)


async def test_what_does_not_belong_is_refused_and_the_group_goes_on(cluster: WholeGroup) -> None:
    caller = Caller(cluster.router, seed=1)
    await caller.create_accounts()
    await asyncio.to_thread(cluster.leader)
    load = asyncio.create_task(caller.post_until(stopped := asyncio.Event()))
    for attack in ATTACKS:
        await asyncio.to_thread(send_to_peer_port, cluster, "a", attack)
    await until(lambda: len(warnings(cluster, "a", "let nobody but this group's replicas")) >= len(set(ATTACKS)) - 1)
    for replica in cluster.replicas:
        assert cluster.running[replica].poll() is None, cluster.output(replica)

    for wrong in ({"cluster_id": "cd" * 16}, {"group": 1}):
        await asyncio.to_thread(start_stranger, cluster, wrong)
        await until(lambda: "refused this one: it belongs to" in cluster.output("stranger"))
        cluster.kill("stranger")
        assert "correct the peer addresses" in cluster.output("stranger")
        (cluster.folder / "stranger.txt").unlink()
        cluster.start("c")

    await asyncio.sleep(0.2)
    stopped.set()
    await load
    await caller.settle()
    assert await caller.differences() == []


async def test_a_damaged_or_foreign_folder_stops_its_replica(cluster: WholeGroup) -> None:
    caller = Caller(cluster.router, seed=2)
    await caller.create_accounts()
    await asyncio.to_thread(cluster.leader)
    load = asyncio.create_task(caller.post_until(stopped := asyncio.Event()))
    await until(lambda: len(caller.books.acknowledged) > 1000)
    stopped.set()
    await load
    assert await asyncio.to_thread(cluster.stop, "b", "c") == [0, 0]

    segment = sorted((cluster.data_folder("b") / "log" / "records").glob("segment-*"))[0]
    flip_bytes(segment)
    assert ends_with(cluster, "b") == ExitCode.DATA_DAMAGED
    assert (
        "replace this replica, or, if its group has no other, restore it from a backup"
        in cluster.output("b").splitlines()[-1]
    )

    shutil.rmtree(cluster.data_folder("b"))
    shutil.copytree(cluster.data_folder("c"), cluster.data_folder("b"))
    assert ends_with(cluster, "b") == ExitCode.CLUSTER_MISMATCH
    assert "c" in cluster.output("b").splitlines()[-1]


def send_to_peer_port(cluster: WholeGroup, replica: str, data: bytes) -> None:
    """Send, and return once the other end has hung up."""
    address = peer_address(cluster, replica)
    with socket.create_connection(address, STOP_S_MAX) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        while connection.recv(4096):
            pass


def peer_address(cluster: WholeGroup, replica: str) -> tuple[str, int]:
    places = {one["id"]: one["peer"] for one in cluster.config["groups"][0]["replicas"]}
    host, _, port = places[replica].rpartition(":")
    return host, int(port)


def warnings(cluster: WholeGroup, replica: str, words: str) -> list[str]:
    whole = cluster.output(replica).split("\n")[:-1]  # it may be writing the last line just now
    lines = [json.loads(line) for line in whole if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] == "warning" and words in line["message"]]


def start_stranger(cluster: WholeGroup, wrong: dict[str, object]) -> None:
    """Stop `c`, and start in its place, on its ports, a replica of another cluster or group with an empty folder."""
    cluster.stop("c")
    config = msgspec.yaml.decode(cluster.path.read_bytes())
    config["groups"][0]["replicas"][2]["folder"] = str(cluster.folder / f"stranger-{next(iter(wrong))}")
    if "group" in wrong:
        config["groups"].insert(0, {**config["groups"][0], "replicas": one_replica(config)})
        config["groups"][1]["group"] = 1
    else:
        config.update(wrong)
    path = cluster.folder / "stranger.yml"
    path.write_bytes(msgspec.yaml.encode(config))
    cluster.start_alone("stranger", "node", "--group", str(wrong.get("group", 0)), "--replica", "c", config=path)


def one_replica(config: dict) -> list[dict[str, str]]:  # type: ignore[type-arg]
    """A group of its own, on addresses of which none is used."""
    return [{"id": "x", "peer": "127.0.0.1:1", "grpc": "127.0.0.1:2", "folder": "unused"}]


def flip_bytes(path: Path) -> None:
    """A few in the middle of what was written: one alone might be padding."""
    content = path.read_bytes().rstrip(b"\0")
    at = len(content) // 2
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(byte ^ 1 for byte in content[at : at + 16]))


def ends_with(cluster: WholeGroup, replica: str) -> int:
    """Start a replica that stops by itself; return its exit code."""
    cluster.start(replica)
    return cluster.running.pop(replica).wait(STOP_S_MAX)


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(START_S_MAX):
        while not condition():
            await asyncio.sleep(0.02)
