"""Three real processes: the leader is killed under load; nothing acknowledged is lost, and there is one order."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.raft_node import LINE_BYTES
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
KILLS = 3
PATIENCE_S = 120.0
ACKNOWLEDGED_A_KILL = 100


class Group:
    """The processes `a`, `b` and `c`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in "abc"}
        self.processes = {name: self.start(name) for name in "abc"}

    def start(self, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.chaos.raft_node", name, json.dumps(self.ports), str(self.folder / name)]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def status(self, name: str) -> list:
        process = self.processes[name]
        process.stdin.write("status\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def leader(self, names: str = "abc") -> str:
        return until(lambda: next((name for name in names if self.status(name)[0] == "leader"), None))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name].stdin.close()
        self.processes[name].stdout.close()

    def quit(self) -> list[int]:
        for process in self.processes.values():
            if process.poll() is None:
                process.stdin.write("quit\n")
                process.stdin.flush()
        return [process.wait(PATIENCE_S) for process in self.processes.values()]

    def close(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is None:
                self.kill(name)
            process.stdin.close()
            process.stdout.close()


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        result = condition()
        if result is not None:
            return result
        time.sleep(0.01)
    pytest.fail(f"nothing came of it within {PATIENCE_S} s")


def acknowledged(folder: Path) -> set[bytes]:
    files = [folder / name / "acknowledged" for name in "abc"]
    data = b"".join(file.read_bytes() for file in files if file.exists())
    return {data[start : start + 16] for start in range(0, len(data), 16)}


def applied(folder: Path, name: str) -> list[tuple[int, bytes]]:
    data = (folder / name / "applied").read_bytes()
    lines = [data[start : start + LINE_BYTES] for start in range(0, len(data), LINE_BYTES)]
    return [(int.from_bytes(line[:8], "little"), line[8:]) for line in lines]


@pytest.fixture
def group(tmp_path):
    made = Group(tmp_path)
    yield made
    made.close()


def test_nothing_acknowledged_is_lost_when_leaders_are_killed(group, tmp_path):
    for _ in range(KILLS):
        leader = group.leader()
        wanted = len(acknowledged(tmp_path)) + ACKNOWLEDGED_A_KILL
        until(lambda wanted=wanted: len(acknowledged(tmp_path)) >= wanted or None)
        group.kill(leader)
        group.leader("abc".replace(leader, ""))
        group.processes[leader] = group.start(leader)
    for name in "abc":
        group.kill(name)  # all three at once
    group.processes = {name: group.start(name) for name in "abc"}
    leader = group.leader()
    reached = group.status(leader)[2] + 50
    until(lambda: all(group.status(name)[3] >= reached for name in "abc") or None)
    assert group.quit() == [0, 0, 0]
    histories = {name: applied(tmp_path, name) for name in "abc"}
    shortest = min(map(len, histories.values()))
    assert all(history[:shortest] == histories["a"][:shortest] for history in histories.values())
    longest = max(histories.values(), key=len)
    held = {identity for _, identity in longest}
    assert len(held) == len(longest)
    promised = acknowledged(tmp_path)
    assert len(promised) >= ACKNOWLEDGED_A_KILL * KILLS
    assert promised <= held
