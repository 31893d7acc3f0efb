"""SIGKILL of a process with the log under load: whatever it told is there at the next start."""

import random
import time
from pathlib import Path

from tests.chaos.log_check import check
from tests.chaos.log_children import LogProcess

KILLS = 6


def test_what_was_told_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    source, folder, told = random.Random(2), tmp_path / "data", []
    folder.mkdir()
    for round_number in range(KILLS):
        process = LogProcess(folder, round_number)
        process.wait_for_answers(50)
        time.sleep(source.uniform(0, 0.2))
        told += process.kill()
        check(folder, told)
    indexes = [answer.log_index for answer in told]
    assert indexes == sorted(set(indexes))
