"""A cluster for one benchmark: started by the product's own command in a folder of its own, stopped at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.usage import Usage, bytes_on_disk, usage_of, written_bytes_of

READY_S_MAX: Final = 90
STOP_S_MAX: Final = 30


class BenchCluster(NamedTuple):
    """A running cluster."""

    folder: Path
    router: str
    """host:port of the router."""
    node_pids: tuple[int, ...]
    router_pids: tuple[int, ...]
    metrics: tuple[str, ...] = ()
    """Where each replica tells of itself."""

    def node_usage(self) -> list[Usage]:
        """Return what each replica's process has used so far."""
        return [usage_of(pid) for pid in self.node_pids]

    def node_cpu_s(self) -> float:
        """Return the CPU time that all replicas have used so far, seconds."""
        return sum(one.cpu_s for one in self.node_usage())

    def node_written_bytes(self) -> int:
        """Return what all replicas have had the kernel write to disks so far."""
        return sum(map(written_bytes_of, self.node_pids))

    def router_usage(self) -> list[Usage]:
        """Return what each router's process has used so far."""
        return [usage_of(pid) for pid in self.router_pids]

    def data_bytes(self) -> int:
        """Return the bytes that all replicas' data folders occupy."""
        return bytes_on_disk(self.folder)


@contextmanager
def running_cluster(folder: Path, *, replicas: int, groups: int = 1) -> Iterator[BenchCluster]:
    """Start `posting-engine up` and yield once it serves; stop it with SIGTERM and check that it exits with 0."""
    ready = folder / "ready.json"
    command = ["posting-engine", "up", "--folder", str(folder / "cluster"), "--replicas", str(replicas)]
    command += ["--groups", str(groups)]
    with (folder / "up.txt").open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:], "--ready-file", str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(os.environ),
        )
    try:
        yield _describe(_wait_until_ready(process, ready, folder / "up.txt"), folder / "cluster")
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the supervisor to stop; kill it only when it does not within `STOP_S_MAX`."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready: Path, output: Path) -> dict[str, object]:
    deadline = time.monotonic() + READY_S_MAX
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the cluster did not start: {output.read_text()[-2000:]}")
        time.sleep(0.05)
    state: dict[str, object] = json.loads(ready.read_text())
    return state


def _describe(state: dict[str, object], folder: Path) -> BenchCluster:
    nodes, routers = state["nodes"], state["routers"]
    if not isinstance(nodes, list) or not isinstance(routers, list):
        raise RuntimeError("the ready file lists no nodes or no routers")
    return BenchCluster(
        folder,
        str(state["router"]),
        tuple(node["pid"] for node in nodes),
        tuple(one["pid"] for one in routers),
        tuple(node["metrics"] for node in nodes if "metrics" in node),
    )
