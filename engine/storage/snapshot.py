"""Snapshots: the whole store in one checked file, made while writes go on, installed whole or not at all.

The file is LMDB's own data file, a copy of one moment, with a trailer of 256 bytes that says whose it is, where it
stands, and the BLAKE3 digest of all before it. All functions do slow work: call them in a thread.
"""

import contextlib
import os
import struct
import threading
from pathlib import Path
from typing import IO, Final, NamedTuple

import lmdb
from blake3 import blake3

from engine.exit_codes import ExitCode, require
from engine.storage.environment import DATA_FILE, DATABASES_MAX, explained
from engine.storage.files import sync_descriptor, sync_folder
from engine.storage.folder import DataFolder, Identity
from engine.storage.head import Head, read_head
from engine.storage.store import STATE, Store

MAGIC: Final = b"pe-snap\n"
FORMAT_VERSION: Final = 1
TRAILER: Final = struct.Struct("<8sHHIQQQQ32s32s32s80x32s")
TRAILER_BYTES: Final = 256
_DIGEST_BYTES: Final = 32
_PIECE_BYTES: Final = 1 << 20

if TRAILER.size != TRAILER_BYTES:
    raise AssertionError("a snapshot's trailer is 256 bytes")


class SnapshotInfo(NamedTuple):
    """What a snapshot file says of itself."""

    cluster_id: str
    group: int
    head: Head
    data_bytes: int
    """Of the data file; the trailer follows."""
    data_digest: bytes
    file_digest: bytes
    """BLAKE3 of the whole file, trailer included; empty where the file was not read whole."""

    @property
    def file_bytes(self) -> int:
        """Length of the file."""
        return self.data_bytes + TRAILER_BYTES


def write_snapshot(store: Store, identity: Identity, path: Path) -> SnapshotInfo:
    """Copy the store as it is at this moment to `path`, durably; writes go on meanwhile.

    What is at `path` when this returns is whole; after a crash there is nothing, or a file beside it. Raises
    `EngineStopped` (DISK_FULL, SYNC_FAILED).
    """
    beside = path.with_name(path.name + ".new")
    with explained(path), beside.open("wb") as file:
        digest, data_bytes = _copy(store, file)
        file.flush()
        head = _head_of(beside)
        trailer = _pack_trailer(identity, head, data_bytes, digest.digest())
        file.write(trailer)
        file.flush()
        sync_descriptor(file.fileno(), beside)
    beside.replace(path)
    sync_folder(path.parent)
    data_digest = digest.digest()
    return SnapshotInfo(
        identity.cluster_id, identity.group, head, data_bytes, data_digest, digest.update(trailer).digest()
    )


def read_snapshot(path: Path) -> SnapshotInfo:
    """Read a snapshot's trailer; the data is not looked at. Raises `EngineStopped(DATA_DAMAGED)`."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        require(size > TRAILER_BYTES, ExitCode.DATA_DAMAGED, _DAMAGED.format(path))
        file.seek(size - TRAILER_BYTES)
        trailer = file.read(TRAILER_BYTES)
    magic, version, _, group, data_bytes, log_index, term, position, state_hash, cluster, digest, own = TRAILER.unpack(
        trailer
    )
    whole = magic == MAGIC and own == _digest(trailer[:-_DIGEST_BYTES]) and data_bytes + TRAILER_BYTES == size
    require(whole, ExitCode.DATA_DAMAGED, _DAMAGED.format(path))
    require(version == FORMAT_VERSION, ExitCode.DATA_DAMAGED, f"snapshot {path} has format {version}: upgrade first")
    head = Head(log_index, term, position, state_hash)
    return SnapshotInfo(cluster.decode(), group, head, data_bytes, digest, b"")


def check_snapshot(path: Path) -> SnapshotInfo:
    """Read a whole snapshot and compare it with its digest. Raises `EngineStopped(DATA_DAMAGED)`."""
    info = read_snapshot(path)
    digest = blake3()
    with path.open("rb") as file:
        left = info.data_bytes
        while left:
            piece = file.read(min(left, _PIECE_BYTES))
            digest.update(piece)
            left -= len(piece)
        found = digest.digest()
        digest.update(file.read(TRAILER_BYTES))
    require(found == info.data_digest, ExitCode.DATA_DAMAGED, _DAMAGED.format(path))
    return info._replace(file_digest=digest.digest())


def install_snapshot(path: Path, folder: DataFolder, identity: Identity) -> SnapshotInfo:
    """Let a snapshot become the folder's store; the file is used up. The store must be closed.

    The snapshot is checked whole first, and takes its place by one rename: a crash leaves the old store or the new one.
    `path` must be on the folder's file system. Raises `EngineStopped` (DATA_DAMAGED, CLUSTER_MISMATCH).
    """
    info = check_snapshot(path)
    require(
        (info.cluster_id, info.group) == (identity.cluster_id, identity.group),
        ExitCode.CLUSTER_MISMATCH,
        f"snapshot {path} is of group {info.group} of cluster {info.cluster_id}, not of this replica's: discard it",
    )
    with path.open("r+b") as file:
        file.truncate(info.data_bytes)
        sync_descriptor(file.fileno(), path)
    folder.store.mkdir(exist_ok=True)
    sync_folder(folder.path)
    path.replace(folder.store / DATA_FILE)
    sync_folder(path.parent)
    sync_folder(folder.store)
    return info


_DAMAGED: Final = "snapshot {} is damaged: discard it and fetch another"


def _copy(store: Store, file: IO[bytes]) -> "tuple[blake3, int]":
    """Copy the data file through a pipe, so that it is digested on its way."""
    reader, writer = os.pipe()
    failures: list[Exception] = []

    def feed() -> None:
        try:
            with contextlib.closing(os.fdopen(writer, "wb", buffering=0)):
                store.environment.copyfd(writer)
        except Exception as error:  # told to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=feed, name="snapshot", daemon=True)
    thread.start()
    digest, size = blake3(), 0
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while piece := pipe.read(_PIECE_BYTES):
            digest.update(piece)
            size += file.write(piece)
    thread.join()
    if failures:
        raise failures[0]
    return digest, size


def _head_of(data_file: Path) -> Head:
    """Read where a copied data file stands: exactly that of its moment."""
    with (
        lmdb.open(str(data_file), subdir=False, readonly=True, lock=False, max_dbs=DATABASES_MAX) as environment,
        environment.begin() as transaction,
    ):
        return read_head(transaction, environment.open_db(STATE, txn=transaction, create=False))


def _pack_trailer(identity: Identity, head: Head, data_bytes: int, digest: bytes) -> bytes:
    fields = (MAGIC, FORMAT_VERSION, 0, identity.group, data_bytes, head.log_index, head.term, head.next_position)
    cluster = identity.cluster_id.encode()
    unsealed = TRAILER.pack(*fields, head.hash, cluster, digest, bytes(_DIGEST_BYTES))[:-_DIGEST_BYTES]
    return unsealed + _digest(unsealed)


def _digest(data: bytes) -> bytes:
    return blake3(data).digest()
