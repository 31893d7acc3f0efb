"""A cluster for the demonstration: `posting-engine up` in a folder of its own, its leader killed, stopped clean."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from cli.cluster_file import Shape, write_new_cluster
from cli.server import Server
from cli.supervisor import READY_S_MAX
from engine.config import ClusterConfig
from engine.core.settings import Ledger
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2 import (
    DescribeClusterRequest,
    GroupDescription,
    ReplicaDescription,
    ReplicaRole,
)

STOP_S_MAX: Final = 60
POLL_PAUSE_S: Final = 0.05
ASK_S_MAX: Final = 15.0


class DemoCluster:
    """A running cluster, used in a `with` statement."""

    def __init__(self, folder: Path, ledgers: tuple[Ledger, ...], shape: Shape) -> None:
        """Write a fresh cluster.yml; nothing runs yet."""
        self.folder = folder
        self.config: ClusterConfig = write_new_cluster(folder, ledgers, shape)
        self._ready_file = folder / "ready.json"
        self._output = folder / "up.txt"
        self._state: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DemoCluster":
        """Start it, and wait until it serves."""
        command = [
            sys.executable,
            "-m",
            "cli",
            "up",
            "--folder",
            str(self.folder),
            "--ready-file",
            str(self._ready_file),
        ]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            self._state = self._wait_until_ready()
        except EngineStopped:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop it."""
        self.stop()

    @property
    def router(self) -> str:
        """host:port of the router."""
        return str(self._state["router"])

    def leader_pids(self) -> list[int]:
        """Return the process id of each group's leader: of those that say they lead, the one of the highest term.

        Asks until every group has one; raises `EngineStopped`.
        """
        deadline_s = time.monotonic() + READY_S_MAX
        with Server(self.router, ASK_S_MAX) as server:
            while True:
                groups = server.ask(server.admin.DescribeCluster, DescribeClusterRequest()).groups
                without = [group.group for group in groups if not _leaders(group)]
                if not without:
                    return [self._leader_pid(group) for group in groups]
                if time.monotonic() > deadline_s:
                    words = f"no replica of groups {without} says that it leads, for {READY_S_MAX} s"
                    raise EngineStopped(ExitCode.FAILED, words)
                time.sleep(POLL_PAUSE_S)

    def _leader_pid(self, group: GroupDescription) -> int:
        name = f"node-{group.group}-{max(_leaders(group), key=lambda one: one.term).replica}"
        (pid,) = (int(node["pid"]) for node in self._state["nodes"] if node["name"] == name)
        return pid

    def until_caught_up(self) -> None:
        """Wait until every replica has applied the same log records as its group's others; raises `EngineStopped`."""
        deadline_s = time.monotonic() + READY_S_MAX
        with Server(self.router, ASK_S_MAX) as server:
            while True:
                groups = server.ask(server.admin.DescribeCluster, DescribeClusterRequest()).groups
                behind = [group.group for group in groups if not _is_level(group)]
                if not behind:
                    return
                if time.monotonic() > deadline_s:
                    words = f"not caught up within {READY_S_MAX} s: the replicas of groups {behind}"
                    raise EngineStopped(ExitCode.FAILED, words)
                time.sleep(POLL_PAUSE_S)

    def stop(self) -> int:
        """Stop it with SIGTERM, once; return its exit status."""
        if self._process is None:
            return ExitCode.OK
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return ExitCode.FAILED

    def _wait_until_ready(self) -> dict[str, Any]:
        deadline_s = time.monotonic() + READY_S_MAX
        while not self._ready_file.exists():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline_s:
                words = self._output.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                raise EngineStopped(ExitCode.FAILED, f"the cluster did not start: {words[-1]}")
            time.sleep(POLL_PAUSE_S)
        state: dict[str, Any] = json.loads(self._ready_file.read_text())
        return state


def _leaders(group: GroupDescription) -> list[ReplicaDescription]:
    """Return the replicas that say they lead; an old leader may not know yet that there is another."""
    return [one for one in group.replicas if one.role == ReplicaRole.REPLICA_ROLE_LEADER]


def _is_level(group: GroupDescription) -> bool:
    applied = {one.applied_index for one in group.replicas}
    return len(applied) == 1 and not any(one.HasField("fault") for one in group.replicas)
