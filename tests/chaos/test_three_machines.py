"""Three replicas on machines of their own, as docs/operating/three-machines.md has it: the leader's cable is cut.

Nothing resets a connection then, which no test on the loopback shows. Cut are both ways, or one. Needs root and
iproute2. How long callers waited is printed, never judged.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.chaos.forked import Forked
from tests.chaos.machines import Machines
from tests.chaos.processes import COMMAND, START_S_MAX, STOP_S_MAX, started
from tests.chaos.whole_group import WholeGroup

CUTS = 12 if os.environ.get("AT_LENGTH") else 3
SEED = os.environ.get("SEED", "1")
CALLERS: Final = "d"
"""The machine of the router and the caller."""
ROUTER_PORT: Final = 7000
Cut = Callable[[Machines, str], None]
WAYS: Final[tuple[Cut, ...]] = (Machines.cut, Machines.mute, Machines.deafen)


class GroupOnMachines(WholeGroup):
    """Replicas a, b and c on machines of these names, the router on another one."""

    def __init__(self, folder: Path, machines: Machines) -> None:
        super().__init__(folder)
        self._machines = machines
        for replica in self.config["groups"][0]["replicas"]:
            for port, use in enumerate(("peer", "grpc", "link", "metrics"), 7100):
                replica[use] = f"{machines.address(replica['id'])}:{port}"
        self.config["routers"] = [{"grpc": f"{machines.address(CALLERS)}:{ROUTER_PORT}"}]
        self.path.write_bytes(msgspec.yaml.encode(self.config))

    def start_process(
        self, name: str, arguments: list[str], environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | Forked":
        place = self._machines.on(CALLERS if name in self.routers else name)
        return started(arguments, self.folder / f"{name}.txt", environment, before=place)

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*self._machines.on(CALLERS), *COMMAND, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=STOP_S_MAX, check=False)


class RemoteCaller:
    """`tests.chaos.caller_process` on the callers' machine."""

    def __init__(self, machines: Machines, address: str) -> None:
        command = [*machines.on(CALLERS), sys.executable, "-m", "tests.chaos.caller_process", address, SEED]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def machines() -> Iterator[Machines]:
    try:
        made = Machines(["a", "b", "c", CALLERS])
    except RuntimeError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def cluster(tmp_path: Path, machines: Machines) -> Iterator[GroupOnMachines]:
    made = GroupOnMachines(tmp_path / "cluster", machines)
    yield made
    made.close()


@pytest.fixture
def caller(machines: Machines, cluster: GroupOnMachines) -> Iterator[RemoteCaller]:
    made = RemoteCaller(machines, cluster.router)
    yield made
    made.close()


def until_out_of_reach(cluster: GroupOnMachines, leader: str) -> None:
    """Until all replicas but one answer: another may be slow, but the one that was cut off never does."""
    deadline = time.monotonic() + START_S_MAX
    while set(described := cluster.described()) != {*cluster.replicas} - {leader}:
        assert time.monotonic() < deadline, f"the leader {leader} was still there: {described}\n{cluster.outputs()}"


def test_a_leader_whose_cable_is_cut_is_followed_by_another_and_nothing_is_lost(
    machines: Machines, cluster: GroupOnMachines, caller: RemoteCaller
) -> None:
    cluster.start(*cluster.replicas, "router")
    caller("create")
    caller("load")
    for number in range(CUTS):
        caller("again")
        leader, cut = cluster.leader(), WAYS[number % len(WAYS)]
        cut(machines, leader)
        print(f"{cut.__name__} {leader}: acknowledged again after {caller('again'):.3f} s")
        until_out_of_reach(cluster, leader)
        machines.mend(leader)
    assert caller("rest") > 0
    assert caller("differences") == []
    cluster.until_level()
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads()) == 1, "the replicas' hashes differ"
