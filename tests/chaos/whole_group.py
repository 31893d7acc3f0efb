"""A group of three replicas as its operator sees it: who leads, how far each is, what each holds once stopped."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.chaos.processes import START_S_MAX, Cluster, run, started

ASK_EVERY_S: Final = 0.1
VERIFY_S_MAX: Final = 300.0


class WholeGroup(Cluster):
    """Three replicas of one group, and a router."""

    def __init__(self, folder: Path, *, limits: Mapping[str, int] | None = None) -> None:
        """Write a new cluster.yml with these limits; nothing runs yet."""
        super().__init__(folder, replicas=3)
        if limits:
            self.config["limits"] = {**self.config.get("limits", {}), **limits}
            self.path.write_bytes(msgspec.yaml.encode(self.config))

    def start_alone(self, name: str, *command: str, config: Path) -> "subprocess.Popen[bytes]":
        """Start a process of another cluster.yml; what it prints goes where the others' output is."""
        process = started([*command, "--config", str(config)], self.folder / f"{name}.txt", {})
        self.running[name] = process
        return process

    def described(self) -> dict[str, dict[str, Any]]:
        """Return what `describe` says of each replica that answers, by name."""
        groups: Any = self.describe()["groups"]
        return {one["replica"]: one for group in groups for one in group["replicas"] if not one["fault"]}

    def leader(self) -> str:
        """Ask until all replicas answer, so that a quorum outlives any one of them, and one says that it leads."""
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            described = self.described()
            leaders = [name for name, one in described.items() if one["role"] == "leader"]
            if len(described) == len(self.replicas) and len(leaders) == 1:
                return leaders[0]
            time.sleep(ASK_EVERY_S)
        raise RuntimeError(f"no leader of a whole group: {described}\n{self.outputs()}")

    def until_level(self) -> None:
        """Wait until all replicas have applied the same records."""
        deadline = time.monotonic() + START_S_MAX
        while len(applied := self.applied()) < len(self.replicas) or len(set(applied.values())) > 1:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the replicas stand at {applied}\n{self.outputs()}")
            time.sleep(ASK_EVERY_S)

    def applied(self) -> dict[str, int]:
        """Return the applied index of each replica that answers."""
        return {name: one["applied_index"] for name, one in self.described().items()}

    def heads(self, *, outcomes: bool = True) -> set[tuple[int, str]]:
        """Verify all stopped replicas, judging every outcome again or not; the log indexes and state hashes found."""
        heads, judge = set(), "--outcomes" if outcomes else "--no-outcomes"
        for replica in self.replicas:
            checked = run("verify", str(self.data_folder(replica)), judge, "--json", timeout_s=VERIFY_S_MAX)
            if checked.returncode:
                raise RuntimeError(f"verify of replica {replica} ended with {checked.returncode}: {checked.stderr}")
            found = json.loads(checked.stdout)
            heads.add((found["log_index"], found["hash"]))
        return heads

    def output(self, name: str) -> str:
        """Return all that a process printed."""
        return (self.folder / f"{name}.txt").read_text()
