"""The power goes off under a real node: every acknowledged transfer is in every image that the disk may hold then.

The node's writes (log and LMDB) are recorded with their syncs; images are rebuilt at random moments of the load, with
any write that was not yet synced left out or torn. Each image is started, rolled forward, and verified.

IMAGES=200 in the environment (`make chaos`) for the long run.
"""

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.core.limits import BATCH_TRANSFERS_MAX
from engine.core.outcomes import Outcome
from engine.core.records import Kind, as_records
from engine.exit_codes import EngineStopped
from engine.replication.journal.segment_format import Identity as LogIdentity
from engine.replication.single import SingleLog, SingleLogLimits
from engine.storage.folder import Identity, open_folder
from engine.storage.loading import Loader
from engine.storage.recovery import open_state_machine
from engine.storage.state_machine import StateMachine
from engine.storage.verify.verify import verify
from tests.chaos.caller import Books, Caller
from tests.chaos.calling import HEAL_S_MAX
from tests.chaos.processes import Cluster
from tests.chaos.recorded_writes import build_recorder

IMAGES = int(os.environ.get("IMAGES", "8"))
SEED = int(os.environ.get("SEED", "1"))
LOAD_S = 1.0
LOAD_TRANSFERS_MIN = 1_000
LOAD_TRANSFERS_MAX = 24_000
"""Whatever the machine can do in that time: every image is verified from genesis."""
SEGMENT_BYTES = 2 << 20
"""Small, so that the load crosses segments and the log is trimmed."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", replicas=1)
    with made.path.open("a") as file:
        file.write(f"\nlimits:\n  segment_bytes: {SEGMENT_BYTES}\n")
    yield made
    made.close()


async def test_every_image_of_a_power_cut_holds_what_was_acknowledged_before_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    recorder = build_recorder(tmp_path)
    (replica,) = cluster.replicas
    data = cluster.data_folder(replica)
    cluster.start(replica, environment=recorder.environment(data))
    process_id = cluster.running[replica].pid
    cluster.start("router")
    caller = Caller(cluster.router, seed=SEED)
    await caller.create_accounts()
    await load_for(caller, LOAD_S)
    await asyncio.to_thread(cluster.kill, replica)
    recording = recorder.read(process_id, data)

    times = sorted(caller.books.acknowledged_ns.values())
    assert len(times) >= LOAD_TRANSFERS_MIN, "too little load to cut into"
    dice = random.Random(SEED)
    for number in range(IMAGES):
        cut_ns = dice.randint(times[0], recording.ended_ns)
        image = tmp_path / "image"
        recording.rebuild(image, cut_ns, seed=dice.getrandbits(32))
        place = f"image {number} of seed {SEED}"
        due = await start_and_check(image, cluster.config, replica, caller.books, cut_ns, place)
        shutil.rmtree(image)
        print(f"image {number + 1} of {IMAGES}: {due} transfers acknowledged before the cut are there, verified")


async def load_for(caller: Caller, seconds: float) -> None:
    stopped, acknowledged = asyncio.Event(), caller.books.acknowledged
    load = asyncio.create_task(caller.post_until(stopped, tasks=8, batch=50))
    until_s = time.monotonic() + seconds
    async with asyncio.timeout(HEAL_S_MAX):
        while len(acknowledged) < LOAD_TRANSFERS_MIN or (
            time.monotonic() < until_s and len(acknowledged) < LOAD_TRANSFERS_MAX
        ):
            if load.done():
                load.result()
            await asyncio.sleep(0.01)
    stopped.set()
    await load


async def start_and_check(
    image: Path, config: dict[str, object], replica: str, books: Books, cut_ns: int, place: str
) -> int:
    """Start a log and a state machine on the image as the node does, then look every acknowledged id up.

    Returns how many those are.
    """
    cluster_id, failures = str(config["cluster_id"]), list[EngineStopped]()
    with open_folder(image, Identity(cluster_id, 0, replica)) as folder:
        machine, _ = open_state_machine(folder, 0)
        log = SingleLog(
            folder.path / "log",
            LogIdentity(cluster_id, 0, replica),
            stopped=failures.append,
            limits=SingleLogLimits(segment_bytes=SEGMENT_BYTES),
        )
        await log.start(partial(apply_with, machine), machine.applied_index)
        confirmed = asyncio.get_running_loop().create_future()
        log.barrier(confirmed.set_result)
        async with asyncio.timeout(60):
            await confirmed
        machine.save()
        due = [one for one, at_ns in books.acknowledged_ns.items() if at_ns < cut_ns]
        missing = [one.hex() for one in not_posted(machine.loader, due)]
        await log.stop()
        machine.close()
    assert not failures, f"{place}: {failures}"
    assert not missing, f"{place}: {len(missing)} of {len(due)} acknowledged transfers are lost, {missing[0]} first"
    await asyncio.to_thread(verify, image)  # raises at the first difference
    return len(due)


def apply_with(machine: StateMachine, log_index: int, term: int, record: bytes | memoryview) -> None:
    machine.apply(log_index, term, record)


def not_posted(loader: Loader, ids: list[bytes]) -> list[bytes]:
    """Look ids up, many at a time: one by one took ten times as long as all the rest of an image."""
    missing: list[bytes] = []
    for first in range(0, len(ids), BATCH_TRANSFERS_MAX):
        chosen = ids[first : first + BATCH_TRANSFERS_MAX]
        words = np.zeros((len(chosen), 16), np.uint64)
        words[:, :2] = np.frombuffer(b"".join(chosen), "<u8").reshape(-1, 2)
        words[:, 15] = Kind.POST << 16
        known = loader.load(words)
        rows = as_records(known.rows)
        missing += [
            one
            for one, row in zip(chosen, known.id_row.tolist(), strict=True)
            if row < 0 or rows[row]["id"].tobytes() != one or rows[row]["outcome"] != Outcome.POSTED
        ]
    return missing
