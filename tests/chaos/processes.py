"""Real processes of a real cluster, started and killed by the test itself."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from tests.chaos import forked
from tests.chaos.forked import Forked
from tests.ports import LOOPBACK, free_address

START_S_MAX: Final = 120.0
STOP_S_MAX: Final = 120.0
LOOK_S: Final = 0.02
SERVES: Final = re.compile(r'"message":"(serving|router serves at )')
"""What a node or a router says once it has started."""
LOADER: Final = "LD_PRELOAD"
"""What stands in it has to be there when a program is loaded: a fork comes too late."""
COMMAND: Final = (sys.executable, "-m", "cli")


def run(*arguments: str, timeout_s: float = STOP_S_MAX) -> "subprocess.CompletedProcess[str]":
    """Run one command of `posting-engine` to its end."""
    return forked.run(*arguments, timeout_s=timeout_s)


def started(
    arguments: list[str], output: Path, environment: Mapping[str, str], before: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    """Start `posting-engine` as a program, with more in its environment, its output added to a file.

    before: words before the command, of a program that runs it.
    """
    with output.open("ab") as text:
        command, merged = [*before, *COMMAND, *arguments], {**os.environ, **environment}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=text, stderr=text, env=merged)


class Cluster:
    """A cluster.yml in a folder, and the processes of it that run now, by name.

    Replicas of group 0 are ``a``, ``b`` and so on, those of group 1 ``1a``; routers are ``router``, ``router1``.
    """

    def __init__(self, folder: Path, *, replicas: int, groups: int = 1, routers: int = 1) -> None:
        """Write a new cluster.yml with free ports; nothing runs yet."""
        sizes = {"--replicas": replicas, "--groups": groups, "--routers": routers}
        made = run("init", "--folder", str(folder), *(str(word) for pair in sizes.items() for word in pair))
        if made.returncode:
            raise RuntimeError(made.stderr)
        self.folder = folder
        self.path = folder / "cluster.yml"
        address = re.compile(re.escape(LOOPBACK) + r":\d+")
        self.path.write_text(address.sub(lambda _: free_address(), self.path.read_text()))
        self.config = msgspec.yaml.decode(self.path.read_bytes())
        self.running: dict[str, subprocess.Popen[bytes] | Forked] = {}
        self._said_before: dict[str, int] = {}
        """How long a process's output was when it was started."""

        self._places = {
            f"{group['group'] or ''}{replica['id']}": (group["group"], replica)
            for group in self.config["groups"]
            for replica in group["replicas"]
        }
        self.routers = ["router", *(f"router{number}" for number in range(1, len(self.config["routers"])))]

    @property
    def replicas(self) -> list[str]:
        """The names of the replicas of group 0."""
        return self.replicas_of(0)

    @property
    def nodes(self) -> list[str]:
        """The names of all replicas."""
        return list(self._places)

    def replicas_of(self, group: int) -> list[str]:
        """Return the names of the replicas of one group."""
        return [name for name, (number, _) in self._places.items() if number == group]

    @property
    def router(self) -> str:
        """host:port of the first router."""
        return self.address_of("router")

    def address_of(self, name: str) -> str:
        """Return host:port at which a process serves."""
        if name in self.routers:
            return str(self.config["routers"][self.routers.index(name)]["grpc"])
        return str(self._places[name][1]["grpc"])

    def data_folder(self, replica: str) -> Path:
        """Return a replica's data folder."""
        folder: str = self._places[replica][1]["folder"]
        return self.folder / folder

    def start(self, *names: str, environment: Mapping[str, str] | None = None) -> None:
        """Start replicas or routers; what they print goes to a file beside the cluster.yml."""
        for name in names:
            place = ["router", "--number", str(self.routers.index(name))] if name in self.routers else self._node(name)
            arguments, output = [*place, "--config", str(self.path)], self.folder / f"{name}.txt"
            self._said_before[name] = output.stat().st_size if output.exists() else 0
            self.running[name] = self.start_process(name, arguments, environment or {})

    def start_process(
        self, name: str, arguments: list[str], environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | Forked":
        """Start a command of `posting-engine` that is to be the process of this name."""
        start = started if LOADER in environment else Forked
        return start(arguments, self.folder / f"{name}.txt", environment)

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of `posting-engine` where the cluster can be reached."""
        return run(*arguments)

    def _node(self, name: str) -> list[str]:
        group, replica = self._places[name]
        return ["node", "--group", str(group), "--replica", replica["id"]]

    def fallen(self) -> list[str]:
        """Return the names of the processes that have ended by themselves, and take them out of `running`."""
        ended = [name for name, process in self.running.items() if process.poll() is not None]
        for name in ended:
            del self.running[name]
        return ended

    def kill(self, *names: str) -> None:
        """End processes with SIGKILL, all before waiting for any."""
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running.pop(name).wait()

    def stop(self, *names: str) -> list[int]:
        """Ask processes to stop with SIGTERM, once they serve, and return their exit codes.

        One that is just starting may have no handler of the signal yet, and would be ended by it.
        """
        for name in names:
            self._until_serving(name)
        for name in names:
            self.running[name].send_signal(signal.SIGTERM)
        return [self.running.pop(name).wait(STOP_S_MAX) for name in names]

    def _until_serving(self, name: str) -> None:
        deadline, output = time.monotonic() + START_S_MAX, self.folder / f"{name}.txt"
        while self.running[name].poll() is None:
            with output.open() as said:
                said.seek(self._said_before[name])
                if SERVES.search(said.read()):
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not serve\n{self.outputs()}")
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Kill whatever still runs."""
        self.kill(*self.running)

    def describe(self) -> dict[str, object]:
        """Ask for the cluster's description by the command line; raises RuntimeError after `START_S_MAX`."""
        deadline = time.monotonic() + START_S_MAX
        while True:
            asked = self.ask("describe", "--server", self.router, "--json")
            if not asked.returncode:
                described: dict[str, object] = json.loads(asked.stdout)
                return described
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster does not answer: {asked.stderr}\n{self.outputs()}")
            time.sleep(0.2)

    def verify(self, replicas: Sequence[str]) -> list[str]:
        """Run `verify` on stopped replicas' data folders; return what each found wrong, if anything."""
        folders = [str(self.data_folder(replica)) for replica in replicas]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            checked = list(pool.map(lambda folder: run("verify", folder, timeout_s=300), folders))
        return [
            f"verify of replica {replica} ended with {one.returncode}: {one.stderr}"
            for replica, one in zip(replicas, checked, strict=True)
            if one.returncode
        ]

    def outputs(self) -> str:
        """Return the last lines that each process printed, for a failing test's message."""
        return "\n".join(f"--- {path.stem}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.txt")))
