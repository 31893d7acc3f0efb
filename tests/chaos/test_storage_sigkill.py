"""SIGKILL at any moment of a save: what was reported as saved is there, and applying goes on to the same state."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 15
DEADLINE_S = 300


@pytest.mark.parametrize("seed", [1, 2])
def test_a_store_killed_while_saving_has_lost_nothing_and_verifies(tmp_path: Path, seed: int) -> None:
    command = [sys.executable, "-m", "tests.chaos.storage_kills", str(tmp_path), str(seed), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["killed"] >= 5
    assert (result["lost"], result["same"]) == (0, 1)
