"""A simulated node and a simulated router: the product's objects as their processes wire them, without gRPC."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from engine.config import ClusterConfig, replica_config
from engine.core.records import Words
from engine.exit_codes import EngineStopped
from engine.peer.v1 import peer_service_pb2
from engine.replication.interface import ReplicatedLog
from engine.rpc.server import Calls, Service, method_handlers
from engine.rpc.streams import Streams
from engine.service.admin import AdminServicer
from engine.service.courier.courier import Courier
from engine.service.courier.neighbours import Neighbours
from engine.service.node import _make_courier
from engine.service.peers import PeerServicer
from engine.service.posting import RAW_METHODS, PostingServicer
from engine.service.replica import Place, Replica
from engine.storage.folder import Identity, open_folder
from engine.storage.ids.known_ids import IdLimits
from engine.storage.recovery import StoreLimits, open_state_machine
from postingengine.v1 import admin_service_pb2, posting_service_pb2
from router.calls import Calls as RouterCalls
from router.chains.behind import Behind
from router.directory import Directory
from router.lanes import Lanes
from router.posting import Posting
from router.split.buckets import Buckets
from tests.simulation.groups.process import Process
from tests.simulation.groups.virtual_time import BEGIN_NS
from tests.simulation.groups.wire import Endpoint, Handler, Wire

STORE = StoreLimits(
    map_bytes_max=64 << 20,
    checkpoint_journal_bytes=8 << 10,
    recent_rows=64,
    ids=IdLimits(newest_entries=1 << 13, filter_keys=1 << 12),
)
"""Small, so that starts meet checkpoints, and reads the journal itself."""


class SimulatedReplica(Replica):
    """A replica whose disk has always room: measuring it takes a thread."""

    async def _measure_space(self) -> None:
        """Nothing to measure."""


class NoStatements:
    """No read models."""

    def lag(self) -> int:
        return 0


class Node:
    """One replica's place; its data outlives its processes."""

    def __init__(
        self, config: ClusterConfig, group: int, name: str, folder: Path, wire: Wire, log: Callable[["Node"], Any]
    ) -> None:
        """`log` makes the log of one life, within its process."""
        self.place = Place(config, group, replica_config(config, group, name))
        self.group, self.name, self.folder, self.wire = group, name, folder, wire
        self.loop = wire.loop
        self.skew_s = 0.0
        self.process: Process | None = None
        self.replica: SimulatedReplica | None = None
        self.failed: Callable[[Node, EngineStopped], None] = lambda node, stopped: None
        self.on_end: Callable[[Node], None] = lambda node: None
        self._make_log = log
        self._close: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        return self.place.replica.grpc

    @property
    def alive(self) -> bool:
        return self.process is not None

    @property
    def leads(self) -> bool:
        return self.replica is not None and self.replica.is_leader

    def clock_ns(self) -> int:
        """Each node's clock is a little wrong."""
        return BEGIN_NS + int((self.loop.time() + self.skew_s) * 1e9)

    async def start(self) -> None:
        """A new process, which recovers and serves."""
        process = self.process = Process(self.address, self.loop)
        await process.spawn(self._run(process))

    async def _run(self, process: Process) -> None:
        folder = open_folder(self.folder, Identity(self.place.config.cluster_id, self.group, self.name))
        machine, _ = open_state_machine(folder, self.group, STORE)
        self._close = lambda: (machine.abandon(), folder.close())  # type: ignore[func-returns-value]
        log = cast(ReplicatedLog, self._make_log(self))
        replica = SimulatedReplica(
            self.place, machine, log, failed=lambda stopped: self.failed(self, stopped), clock_ns=self.clock_ns
        )
        note_rows = machine.watch

        def watch(rows: Words) -> None:
            process.rows = rows
            note_rows(rows)

        machine.watch = watch
        neighbours = Neighbours(replica)
        courier = _make_courier(replica, neighbours)
        self.wire.endpoints[self.address] = Endpoint(process, _handlers(replica, courier))
        self.replica = replica
        await replica.start()
        courier.start()

    def crash(self) -> None:
        """Killed at once: what was not saved is for the log to hand over again."""
        process, self.process, self.replica = self.process, None, None
        if process is not None:
            process.end()
            self.on_end(self)
            self._close()
            self._close = lambda: None


class RouterNode:
    """One router's place; nothing of it outlives its processes."""

    def __init__(self, name: str, config: ClusterConfig, wire: Wire) -> None:
        """`config` is its cluster.yml, which may be old."""
        self.name, self.config, self.wire = name, config, wire
        self.process: Process | None = None
        self.posting: Posting | None = None
        self.calls = RouterCalls(config.limits.calls_max)

    @property
    def alive(self) -> bool:
        return self.process is not None

    async def start(self) -> None:
        """A new process, which knows nothing but its file."""
        process = self.process = Process(self.name, self.wire.loop)
        await process.spawn(self._run(process))

    async def _run(self, process: Process) -> None:
        directory = Directory(self.config)
        buckets = Buckets(directory, Lanes(directory), Behind())
        posting = self.posting = Posting(directory, self.config.limits, buckets)
        self.calls = RouterCalls(self.config.limits.calls_max)
        handlers: dict[str, Handler] = {"PostTransfers": self.calls.admitted(posting.post_transfers)}
        self.wire.endpoints[self.name] = Endpoint(process, handlers)
        asyncio.get_running_loop().create_task(directory.keep_fresh())

    def crash(self) -> None:
        """Killed at once."""
        process, self.process = self.process, None
        if process is not None:
            process.end()


def _handlers(replica: Replica, courier: Courier) -> dict[str, Handler]:
    """The node's own handlers, by full method name."""
    statements = cast(Any, NoStatements())
    calls = Calls(replica.place.config.limits.calls_max)
    streams = Streams(calls, replica.place.config.limits.stream_batches_in_flight_max)
    services = (
        Service(
            _named(posting_service_pb2, "PostingService"), PostingServicer(replica, statements, streams), RAW_METHODS
        ),
        Service(_named(admin_service_pb2, "AdminService"), AdminServicer(replica, statements, courier.waited_for)),
        Service(_named(peer_service_pb2, "PeerService"), PeerServicer(replica)),
    )
    found: dict[str, Handler] = {}
    for service in services:
        for name, handler in _served(service, calls).items():
            if handler.unary_unary is not None:
                found[f"/{service.descriptor.full_name}/{name}"] = handler.unary_unary
    return found


def _served(service: Service, calls: Calls) -> dict[str, Any]:
    """AdminServicer serves what it has; the contract may name more."""
    return cast(dict[str, Any], method_handlers(service, calls))


def _named(module: Any, name: str) -> Any:
    return module.DESCRIPTOR.services_by_name[name]
