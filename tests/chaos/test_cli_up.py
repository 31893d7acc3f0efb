"""`posting-engine up`: it serves, starts fallen processes again, and stops clean."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import run

WAIT_S_MAX = 120


class Up:
    """A running `up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready = folder / "ready.json"
        self.output = folder / "up.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "cli",
                    "up",
                    "--groups",
                    "1",
                    "--replicas",
                    "1",
                    "--folder",
                    str(folder / "c"),
                    "--ready-file",
                    str(self.ready),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def state(self) -> dict[str, Any]:
        self.wait_for(self.ready.exists)
        state: dict[str, Any] = json.loads(self.ready.read_text())
        return state

    def wait_for(self, condition: Any) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    yield started
    started.process.kill()
    started.process.wait()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_node_serves_again_with_all_it_had_and_the_end_is_clean(up: Up) -> None:
    state = up.state()
    server = ["--server", state["router"], "--deadline", "60"]
    assert run("accounts", "create", "name:a", "--ledger", "EUR", *server).returncode == 0
    os.kill(state["nodes"][0]["pid"], signal.SIGKILL)
    up.wait_for(lambda: "started again" in up.output.read_text())
    up.wait_for(lambda: up.state()["nodes"][0]["pid"] not in (None, state["nodes"][0]["pid"]))
    again = up.state()["nodes"][0]
    assert (again["restarts"], again["replica"], again["folder"]) == (1, "a", str(up.folder / "c" / "group-0" / "a"))
    assert is_alive(again["pid"])
    shown = run("accounts", "show", "name:a", "--json", *server)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)[0]["ledger_code"] == "EUR"
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S_MAX) == 0, up.output.read_text()
    assert "Stopped clean." in up.output.read_text()
    verified = run("verify", str(up.folder / "c" / "group-0" / "a"), "--json")
    assert verified.returncode == 0, verified.stderr
    told = json.loads(verified.stdout)
    assert told["accounts"] == 1
    assert told["log"]["last_index"] >= told["log_index"] > 1


def test_killing_the_supervisor_ends_its_processes(up: Up) -> None:
    state = up.state()
    pids = [one["pid"] for one in state["nodes"] + state["routers"]]
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + WAIT_S_MAX
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
