"""A whole cluster on this machine: every node and router of `cluster.yml` as a supervised process."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cli.children import Child, Launch
from cli.fork_server.client import ForkServer
from cli.fork_server.forked import fork
from cli.health import until_serving
from engine.config import ClusterConfig, ReplicaConfig, metrics_address
from engine.exit_codes import EngineStopped, ExitCode

READY_S_MAX: Final = 120
"""From start to serving; a first start compiles the kernels, and a large store is rolled forward."""
LOOK_S: Final = 0.1
"""How often to look whether a process that does not serve will be started again."""
STOP_SLACK_S: Final = 10
"""Beyond the time that a process may take to drain."""

Announce = Callable[[str], None]


class Supervisor:
    """Runs a cluster until it is told to stop."""

    def __init__(self, config: ClusterConfig, config_path: Path, logs: Path, announce: Announce) -> None:
        """`logs` is the folder of the processes' outputs; `announce` gets one sentence for each event."""
        logs.mkdir(parents=True, exist_ok=True)
        self.config = config
        self._fork_server = ForkServer(logs / "fork-server.log")
        launch = partial(fork, self._fork_server)
        self.nodes = list(_nodes(config, config_path, logs, launch))
        self.routers = list(_routers(config, config_path, logs, launch))
        self._announce = announce
        self._over = asyncio.Event()
        self._failure: EngineStopped | None = None
        self._tell: Callable[[str], None] | None = None
        self._replicas = {
            _node_name(group.group, replica): replica for group in config.groups for replica in group.replicas
        }

    @property
    def children(self) -> list[Child]:
        """Nodes, then routers."""
        return [*self.nodes, *self.routers]

    def start(self) -> None:
        """Start every process; returns at once."""
        for child in self.children:
            child.start(self._fell, self._changed)

    async def until_ready(self) -> bool:
        """Wait until every process serves, but for those that stay down: a group does without a minority of replicas.

        False if told to stop before; `EngineStopped` for a failure.
        """
        serving = asyncio.create_task(self._all_serve())
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({serving, over}, timeout=READY_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        ready = serving.done()
        serving.cancel()
        over.cancel()
        if not ready and not self._over.is_set():
            silent = ", ".join(child.name for child in self.children if child.gave_up is not None)
            down = f" ({silent} stayed down, and a group needs a majority of its replicas)" if silent else ""
            words = f"not every process serves after {READY_S_MAX} s{down}: see {self.children[0].log.parent}"
            raise EngineStopped(ExitCode.UNREACHABLE, words)
        return ready

    async def _all_serve(self) -> bool:
        await asyncio.gather(*(until_settled(child) for child in self.children))
        return True

    async def until_over(self) -> None:
        """Wait until `request_stop`, or until a group has no process left; raises `EngineStopped` for the latter."""
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    def request_stop(self) -> None:
        """End `until_over`; for signal handlers."""
        self._over.set()

    async def stop(self) -> bool:
        """Stop routers, then nodes. Return whether all of them ended by themselves."""
        deadline_s = self.config.limits.drain_ms_max / 1000 + STOP_SLACK_S
        clean = [await _stop_all(self.routers, deadline_s), await _stop_all(self.nodes, deadline_s)]
        self._fork_server.close()
        return all(clean)

    def keep_told(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the ready text now, and again whenever a process fell or was started: its id is another."""
        self._tell = tell
        self._changed()

    def _changed(self) -> None:
        if self._tell is not None:
            self._tell(self.ready_text())

    def ready_text(self) -> str:
        """Return what the ready file holds: where everything serves, and its process ids, as JSON."""
        return json.dumps(
            {
                "cluster_id": self.config.cluster_id,
                "pid": os.getpid(),
                "router": self.routers[0].address if self.routers else self.nodes[0].address,
                "routers": [_description(child) for child in self.routers],
                "nodes": [_description(child, self._replicas[child.name]) for child in self.nodes],
            },
            indent=2,
        )

    def _fell(self, child: Child, status: int) -> None:
        ended = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {_status_name(status)}"
        words = f": {child.last_words()}" if status > 0 and child.last_words() else ""
        self._changed()
        if child.gave_up is None:
            self._announce(f"{child.name} {ended}{words}; it is started again")
            return
        self._announce(f"{child.name} {ended}{words}; it stays down until you act and start again")
        if not any(other.gave_up is None for other in self.children if other.group == child.group):
            self._failure = EngineStopped(child.gave_up, f"no process is left like {child.name}, which {ended}{words}")
            self._over.set()


async def run(supervisor: Supervisor, tell: Callable[[str], None], greet: Callable[[], None]) -> bool:
    """Start; once all serves, `tell` the ready text, now and at each change, and `greet`; stop at SIGTERM or SIGINT.

    Return whether all stopped clean.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.request_stop)
    supervisor.start()
    try:
        if await supervisor.until_ready():
            supervisor.keep_told(tell)
            greet()
        await supervisor.until_over()
    finally:
        clean = await supervisor.stop()
    return clean


async def until_settled(child: Child) -> None:
    """Wait until a process serves, or is known to stay down."""
    serving = asyncio.create_task(until_serving(child.address))
    try:
        while not serving.done() and child.gave_up is None:
            await asyncio.wait({serving}, timeout=LOOK_S)
    finally:
        serving.cancel()


def write_atomically(path: Path, text: str) -> None:
    """Put a file in place whole: a reader that polls for it never sees a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def _nodes(config: ClusterConfig, config_path: Path, logs: Path, launch: Launch) -> Iterator[Child]:
    for group in config.groups:
        for replica in group.replicas:
            name = _node_name(group.group, replica)
            place = ["--group", str(group.group), "--replica", replica.id]
            command = ["node", "--config", str(config_path), *place]
            log, metrics, address = logs / f"{name}.log", metrics_address(replica), replica.grpc
            yield Child(name, command, group=group.group, address=address, log=log, metrics=metrics, launch=launch)


def _routers(config: ClusterConfig, config_path: Path, logs: Path, launch: Launch) -> Iterator[Child]:
    for number, router in enumerate(config.routers):
        name = f"router-{number}"
        command = ["router", "--config", str(config_path), "--number", str(number)]
        log, metrics = logs / f"{name}.log", metrics_address(router)
        yield Child(name, command, group=None, address=router.grpc, log=log, metrics=metrics, launch=launch)


async def _stop_all(children: list[Child], deadline_s: float) -> bool:
    return all(await asyncio.gather(*(child.stop(deadline_s) for child in children)))


def _node_name(group: int, replica: ReplicaConfig) -> str:
    return f"node-{group}-{replica.id}"


def _description(child: Child, replica: ReplicaConfig | None = None) -> dict[str, object]:
    told = {} if child.metrics is None else {"metrics": child.metrics}
    place: dict[str, object] = {}
    if replica is not None:
        place = {"group": child.group, "replica": replica.id, "peer": replica.peer, "folder": replica.folder}
    return {"name": child.name, "address": child.address, "pid": child.pid, "restarts": child.restarts, **told, **place}


def _status_name(status: int) -> str:
    known = status in ExitCode.__members__.values()
    return f"{status} ({ExitCode(status).name})" if known else str(status)
