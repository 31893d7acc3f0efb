"""Kills a process that applies and saves, again and again, at random moments: `python -m tests.chaos.storage_kills`.

A process of its own, because it forks: each victim starts from imported code, so that most of its life is saving. The
last line is JSON; the exit status is 0 if every start found what had been reported as saved.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from engine.exit_codes import ExitCode, require
from engine.storage.verify.verify import verify
from tests.storage_histories import TINY, apply_all, make_records, opened

RECORDS = 250
REPORTS_MAX = 8
MOMENT_S_MAX = 0.01
PAUSE_S_MAX = 300.0
SPARE_REPORTS_MAX = 10
"""So many more a victim makes and then waits: however late the kill, five lives are too short for all records."""


def run(folder: Path, seed: int, kills: int) -> dict[str, int]:
    """Kill so many victims, checking the folder after each; then let one finish, and verify."""
    rng, records = np.random.default_rng(seed), make_records(seed, RECORDS)
    expected_hash = _uninterrupted(folder / "expected", records)
    saved, lost, killed = 0, 0, 0
    while killed < kills:
        reports, moment_s = int(rng.integers(0, REPORTS_MAX)), float(rng.uniform(0, MOMENT_S_MAX))
        reported = _one_life(folder / "data", records, reports, moment_s)
        killed += 1
        saved = max(saved, reported)
        with opened(folder / "data", TINY) as machine:
            lost += machine.applied_index < saved
            finished = machine.applied_index == len(records)
        if killed % 5 == 0 and (folder / "data" / "store").exists():
            verify(folder / "data")
        if finished:
            break
    with opened(folder / "data", TINY) as machine:
        apply_all(machine, records[machine.applied_index :])
        machine.save()
        same = machine.head.hash == expected_hash
    report = verify(folder / "data")
    return {"killed": killed, "lost": lost, "same": int(same), "blocks": report.blocks, "records": len(records)}


def _uninterrupted(folder: Path, records: list[bytes]) -> bytes:
    with opened(folder, TINY) as machine:
        apply_all(machine, records)
        return machine.head.hash


def _one_life(folder: Path, records: list[bytes], reports: int, moment_s: float) -> int:
    """Fork a victim, kill it a moment after so many reports; return the last log index that it reported as saved.

    The victim's life is counted in its own reports, not in seconds: a fast machine would be done before the kill.
    """
    reader, writer = os.pipe()
    victim = os.fork()
    if victim == 0:
        os.close(reader)
        _apply_and_save(folder, records, writer, reports + SPARE_REPORTS_MAX)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = [pipe.readline() for _ in range(reports)]
        time.sleep(moment_s)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        lines += pipe.readlines()
    return max((int(line) for line in lines if line), default=0)


def _apply_and_save(folder: Path, records: list[bytes], writer: int, reports_max: int) -> None:
    """The victim: saves after every few records, and says so. Never returns."""
    try:
        with opened(folder, TINY) as machine:
            for number, record in enumerate(records[machine.applied_index :]):
                if number >= 3 * reports_max:
                    time.sleep(PAUSE_S_MAX)
                    break
                apply_all(machine, [record])
                if number % 3 == 0:
                    machine.save()
                    os.write(writer, b"%d\n" % machine.synced_log_index)
            machine.close()
    finally:
        os._exit(1)


def main(folder: Path, seed: int, kills: int) -> None:
    """Run, and say how it went."""
    result = run(folder, seed, kills)
    sys.stdout.write(json.dumps(result) + "\n")
    whole = result["lost"] == 0 and result["same"] == 1 and result["blocks"] == result["records"]
    require(whole, ExitCode.CHECK_FAILED, f"a start did not find what was saved: {result}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
