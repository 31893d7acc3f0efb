"""The power goes off under a store that saves steps of cross-group chains: every image opens at a saved moment, goes on
to the same hash, and is verified from genesis."""

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from engine.storage.verify.verify import verify
from tests.chaos.recorded_writes import Recording, build_recorder
from tests.step_histories import Logged, opened_group, world
from tests.storage_histories import TINY

GROUP = 0
RECORDS = 90
IMAGES = int(os.environ.get("IMAGES", "12"))
PROCESS_S_MAX = 300


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[Logged]:
    with world(tmp_path_factory.mktemp("world"), seed=5, records=RECORDS, splits=True) as lived:
        return lived.logs[GROUP]


def test_every_image_of_a_power_cut_goes_on_to_the_same_state(log: list[Logged], tmp_path: Path) -> None:
    recording, saved = recorded(log, tmp_path)
    dice = random.Random(7)
    for number in range(IMAGES):
        cut_ns = dice.randint(saved[0][1], recording.ended_ns)
        image = tmp_path / f"image-{number}"
        recording.rebuild(image, cut_ns, seed=number)
        saved_index = max(log_index for log_index, at_ns in saved if at_ns <= cut_ns)
        go_on(image, log, saved_index)
        verify(image)
        print(f"image {number + 1} of {IMAGES}: went on from log index {saved_index} or later, verified")


def recorded(log: list[Logged], tmp_path: Path) -> tuple[Recording, list[tuple[int, int]]]:
    """Let a process save the log; return its writes, and (log index, when) of each save."""
    recorder, folder, records = build_recorder(tmp_path), tmp_path / "data", tmp_path / "records"
    folder.mkdir()
    records.write_bytes(pickle.dumps([logged.record for logged in log]))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.step_store_process", str(folder), str(GROUP), str(records)],
        stdout=subprocess.PIPE,
        env={**os.environ, **recorder.environment(folder)},
    )
    output, _ = process.communicate(timeout=PROCESS_S_MAX)
    assert process.returncode == 0
    saved = [tuple(map(int, line.split())) for line in output.decode().splitlines()]
    return recorder.read(process.pid, folder), [(one[0], one[1]) for one in saved]


def go_on(image: Path, log: list[Logged], saved_index: int) -> None:
    """Open an image, which must have what was saved by then, and apply the rest of the log."""
    with opened_group(image, GROUP, TINY) as machine:
        assert saved_index <= machine.applied_index <= len(log)
        assert machine.state_hash == log[machine.applied_index - 1].state_hash
        for log_index, logged in enumerate(log[machine.applied_index :], machine.applied_index + 1):
            machine.apply(log_index, 1, logged.record)
            assert machine.state_hash == logged.state_hash
        machine.close()
