"""The node: one replica of one group as a process, from its data folder to its gRPC server (DESIGN §10)."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.config import ClusterConfig, metrics_address, replica_config, settings_differences
from engine.core.records import Words
from engine.exit_codes import EngineStopped, ExitCode
from engine.peer.v1 import peer_service_pb2
from engine.rpc.faults import MILLISECOND_NS
from engine.rpc.link_frames import POST_TRANSFERS, STEP, greeting
from engine.rpc.link_server import LinkServer
from engine.rpc.metrics import MetricsServer
from engine.rpc.process import Lifetime, settle_memory
from engine.rpc.server import Calls, Server, Service, behaviour_of
from engine.rpc.streams import Streams
from engine.service.admin import AdminServicer
from engine.service.courier.courier import Courier
from engine.service.courier.neighbours import Neighbours
from engine.service.group_log import make_log
from engine.service.metrics.disk import TimedDisk
from engine.service.metrics.exposition import NodeMetrics
from engine.service.metrics.tally import Tally
from engine.service.open_pages import pages_of
from engine.service.peers import PeerServicer
from engine.service.posting import RAW_METHODS, PostingServicer
from engine.service.replica import Place, Replica
from engine.service.snapshots import StoreSnapshots
from engine.service.statements import Statements
from engine.storage.folder import DataFolder, Identity, open_folder
from engine.storage.recovery import StoreLimits, open_state_machine
from engine.storage.state_machine import StateMachine
from postingengine.v1 import admin_service_pb2, posting_service_pb2

LOG: Final = logging.getLogger(__name__)

PEER_SERVICE: Final = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]
ADMIN_SERVICE: Final = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
POSTING_SERVICE: Final = posting_service_pb2.DESCRIPTOR.services_by_name["PostingService"]
ANSWER_GRACE_S: Final = 1.0
"""After draining, calls get so long to send their answers."""


async def run_node(config: ClusterConfig, group: int, replica: str) -> None:
    """Run one replica until SIGTERM or SIGINT, then drain; raises `EngineStopped` with what else ended it."""
    lifetime = Lifetime()
    lifetime.watch_signals()
    await serve_node(Place(config, group, replica_config(config, group, replica)), lifetime)


async def serve_node(place: Place, lifetime: Lifetime, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
    """Run one replica until its lifetime is over; raises `EngineStopped`.

    `clock_ns` is the clock that this replica gives its records while it leads (UTC).
    """
    identity = Identity(place.config.cluster_id, place.group, place.replica.id)
    with open_folder(Path(place.replica.folder), identity) as folder:
        machine = await _recover(folder, place)
        # A failure leaves the store as it is: the next start finds it there, and nothing is written past a failed sync.
        await _serve(place, folder, machine, lifetime, clock_ns)
        await asyncio.get_running_loop().run_in_executor(None, machine.close)


async def _recover(folder: DataFolder, place: Place) -> StateMachine:
    """Open the store; what was recovered, from where and in how long, goes into the log."""
    limits = StoreLimits(map_bytes_max=place.config.limits.store_map_bytes_max)
    loop = asyncio.get_running_loop()
    machine, recovered = await loop.run_in_executor(None, open_state_machine, folder, place.group, limits)
    LOG.info(recovered.sentence(), extra={"log_index": recovered.log_index, "seconds": round(recovered.elapsed_s, 3)})
    if machine.book.settings is not None:
        _compare_settings(place, machine)
    return machine


def _compare_settings(place: Place, machine: StateMachine) -> None:
    """Refuse another cluster's data; report every other difference of the file, and obey the log."""
    settings = machine.book.settings
    if settings is None:
        return
    if settings.cluster_id != place.config.cluster_id:
        message = f"the data folder {place.replica.folder} belongs to cluster {settings.cluster_id}; name its own file"
        raise EngineStopped(ExitCode.CLUSTER_MISMATCH, message)
    for difference in settings_differences(place.config, settings):
        LOG.warning("cluster.yml: %s", difference)


async def _serve(
    place: Place, folder: DataFolder, machine: StateMachine, lifetime: Lifetime, clock_ns: Callable[[], int]
) -> None:
    """Listen, then start the log: a port in use is found before anything is written."""
    limits = StoreLimits(map_bytes_max=place.config.limits.store_map_bytes_max)
    identity = Identity(place.config.cluster_id, place.group, place.replica.id)
    snapshots = StoreSnapshots(folder, identity, machine, limits)
    disk = TimedDisk()
    log = make_log(place, folder, snapshots, lifetime.fail, disk)
    replica = Replica(place, machine, log, failed=lifetime.fail, clock_ns=clock_ns)
    statements = Statements(replica, folder.views)
    metrics = _make_metrics(replica, statements, disk)
    snapshots.attach(replica.applier, statements)
    replica.applier.saved = statements.wake
    neighbours = Neighbours(replica)
    courier = _make_courier(replica, neighbours)
    calls = Calls(place.config.limits.calls_max)
    streams = Streams(calls, place.config.limits.stream_batches_in_flight_max)
    posting = PostingServicer(replica, statements, streams)
    servers = _make_servers(replica, posting, AdminServicer(replica, statements, courier.waited_for), calls)
    server, _ = servers
    for one in servers:
        await one.start()
    for told in metrics:
        await told.start()
    statements.resume()
    await replica.start()
    courier.start()
    await server.set_serving(True)
    settle_memory()
    LOG.info("serving", extra={"address": place.replica.grpc, "seconds": replica.uptime_ms() / 1000})
    await lifetime.over()
    LOG.info("stopping: no new calls are admitted")
    await server.set_serving(False)
    courier.stop()
    replica.refuse()
    await replica.drain()
    await replica.hand_over()
    streams.end()
    await asyncio.gather(*(one.stop(ANSWER_GRACE_S) for one in servers), *(one.stop() for one in metrics))
    await replica.stop()
    await neighbours.close()
    await asyncio.get_running_loop().run_in_executor(None, statements.close)


def _make_metrics(replica: Replica, statements: Statements, disk: TimedDisk) -> tuple[MetricsServer, ...]:
    """Serve metrics where the file says so; without it nothing is counted."""
    address = metrics_address(replica.place.replica)
    if address is None:
        return ()
    tally, heat = Tally(), replica.heat.note

    def watch(rows: Words) -> None:
        heat(rows)
        tally.note(rows)

    replica.machine.watch, replica.applier.applied = watch, tally.applied
    return (MetricsServer(address, NodeMetrics(replica, statements, tally, disk).collect),)


def _make_courier(replica: Replica, neighbours: Neighbours) -> Courier:
    return Courier(
        replica.place.group,
        pages_of(replica),
        neighbours.way_to,
        is_leader=lambda: replica.is_leader,
        clock_ns=replica.now_ns,
        grace_ns=replica.place.config.limits.courier_grace_ms * MILLISECOND_NS,
    )


def _make_servers(
    replica: Replica, posts: PostingServicer, administers: AdminServicer, calls: Calls
) -> tuple[Server, LinkServer]:
    place = replica.place
    posting = Service(POSTING_SERVICE, posts, RAW_METHODS)
    admin = Service(ADMIN_SERVICE, administers)
    peer = Service(PEER_SERVICE, PeerServicer(replica))
    linked = {POST_TRANSFERS: behaviour_of(posting, "PostTransfers"), STEP: behaviour_of(peer, "Step")}
    greets_with = greeting(place.config.cluster_id, place.group)
    return (
        Server(place.replica.grpc, (posting, admin, peer), calls),
        LinkServer(place.replica.link, greets_with, linked, calls),
    )
