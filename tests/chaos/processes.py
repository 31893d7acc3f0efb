"""Real processes of a real cluster, started and killed by the test itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 60.0
COMMAND: Final = (sys.executable, "-m", "cli")


def run(*arguments: str, timeout_s: float = STOP_S_MAX) -> "subprocess.CompletedProcess[str]":
    """Run one command of `posting-engine` to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
    )


class Cluster:
    """A cluster.yml in a folder, and the processes of it that run now, by name: ``a``, ``b``, ``c``, ``router``."""

    def __init__(self, folder: Path, *, replicas: int) -> None:
        """Write a new cluster.yml with free ports; nothing runs yet."""
        made = run("init", "--folder", str(folder), "--replicas", str(replicas))
        if made.returncode:
            raise RuntimeError(made.stderr)
        self.folder = folder
        self.path = folder / "cluster.yml"
        self.config = msgspec.yaml.decode(self.path.read_bytes())
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def replicas(self) -> list[str]:
        """The names of the replicas of group 0."""
        return [replica["id"] for replica in self.config["groups"][0]["replicas"]]

    @property
    def router(self) -> str:
        """host:port of the router."""
        address: str = self.config["routers"][0]["grpc"]
        return address

    def data_folder(self, replica: str) -> Path:
        """Return a replica's data folder."""
        names = {one["id"]: one["folder"] for one in self.config["groups"][0]["replicas"]}
        return self.folder / names[replica]

    def start(self, *names: str, environment: Mapping[str, str] | None = None) -> None:
        """Start replicas or the router; what they print goes to a file beside the cluster.yml."""
        for name in names:
            place = ["router"] if name == "router" else ["node", "--group", "0", "--replica", name]
            with (self.folder / f"{name}.txt").open("ab") as output:
                self.running[name] = subprocess.Popen(
                    [*COMMAND, *place, "--config", str(self.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **(environment or {})},
                )

    def kill(self, *names: str) -> None:
        """End processes with SIGKILL, all before waiting for any."""
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running.pop(name).wait()

    def stop(self, *names: str) -> list[int]:
        """Ask processes to stop with SIGTERM and return their exit codes."""
        for name in names:
            self.running[name].send_signal(signal.SIGTERM)
        return [self.running.pop(name).wait(STOP_S_MAX) for name in names]

    def close(self) -> None:
        """Kill whatever still runs."""
        self.kill(*self.running)

    def describe(self) -> dict[str, object]:
        """Ask for the cluster's description by the command line; raises RuntimeError after `START_S_MAX`."""
        deadline = time.monotonic() + START_S_MAX
        while True:
            asked = run("describe", "--server", self.router, "--json")
            if not asked.returncode:
                described: dict[str, object] = json.loads(asked.stdout)
                return described
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster does not answer: {asked.stderr}\n{self.outputs()}")
            time.sleep(0.2)

    def verify(self, replicas: Sequence[str]) -> list[str]:
        """Run `verify` on stopped replicas' data folders; return what each found wrong, if anything."""
        found = []
        for replica in replicas:
            checked = run("verify", str(self.data_folder(replica)), timeout_s=300)
            if checked.returncode:
                found.append(f"verify of replica {replica} ended with {checked.returncode}: {checked.stderr}")
        return found

    def outputs(self) -> str:
        """Return the last lines that each process printed, for a failing test's message."""
        return "\n".join(f"--- {path.stem}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.txt")))
