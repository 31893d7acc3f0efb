"""Which replicated log a replica stands on: a group of one needs no peers, any other is Raft's (DESIGN §3)."""

from collections.abc import Callable

from engine.config import ReplicaConfig, group_config, split_address
from engine.exit_codes import EngineStopped
from engine.replication.interface import ReplicatedLog
from engine.replication.journal.disk import Disk
from engine.replication.journal.segment_format import Identity as LogIdentity
from engine.replication.raft.boot import Placement, this_machine
from engine.replication.raft.log import RaftLog
from engine.replication.raft.settings import RaftSettings
from engine.replication.single import SingleLog, SingleLogLimits
from engine.replication.transport.transport import Address, AsyncioTransport
from engine.service.replica import Place
from engine.service.snapshots import StoreSnapshots
from engine.storage.folder import DataFolder

LOG_FOLDER = "log"

Failed = Callable[[EngineStopped], None]


def make_log(place: Place, folder: DataFolder, snapshots: StoreSnapshots, failed: Failed, disk: Disk) -> ReplicatedLog:
    """Return the log of this replica, not yet started; `failed` gets what must end the process."""
    replicas = group_config(place.config, place.group).replicas
    if len(replicas) == 1:
        return _single(place, folder, failed, disk)
    return _raft(place, replicas, folder, snapshots, failed, disk)


def _single(place: Place, folder: DataFolder, failed: Failed, disk: Disk) -> SingleLog:
    identity = LogIdentity(place.config.cluster_id, place.group, place.replica.id)
    limits = SingleLogLimits(segment_bytes=place.config.limits.segment_bytes)
    return SingleLog(folder.path / LOG_FOLDER, identity, stopped=failed, limits=limits, disk=disk)


def _raft(
    place: Place,
    replicas: tuple[ReplicaConfig, ...],
    folder: DataFolder,
    snapshots: StoreSnapshots,
    failed: Failed,
    disk: Disk,
) -> RaftLog:
    placement = Placement(
        place.config.cluster_id, place.group, place.replica.id, tuple(replica.id for replica in replicas)
    )
    addresses = {replica.id: Address(*split_address(replica.peer)) for replica in replicas}
    limits = place.config.limits
    return RaftLog(
        placement,
        folder.path / LOG_FOLDER,
        AsyncioTransport(place.replica.id, addresses),
        snapshots,
        stop_process=failed,
        settings=RaftSettings(
            retained_bytes_min=limits.log_retained_bytes_min, retained_bytes_max=limits.log_retained_bytes_max
        ),
        machine=this_machine()._replace(segment_bytes=limits.segment_bytes, disk=disk),
    )
