"""A process that applies a group's log and saves it: `python -m tests.chaos.step_store_process FOLDER GROUP LOG`.

LOG is a pickle of records. After each save it prints how far that reaches, and when, in ns of the monotonic clock.
"""

import pickle
import sys
import time
from pathlib import Path

from tests.step_histories import opened_group
from tests.storage_histories import TINY

RECORDS_PER_SAVE = 2


def run(folder: Path, group: int, records: list[bytes]) -> None:
    """Apply and save everything."""
    with opened_group(folder, group, TINY) as machine:
        for log_index, record in enumerate(records, 1):
            machine.apply(log_index, 1, record)
            if log_index % RECORDS_PER_SAVE == 0:
                machine.save()
                print(log_index, time.monotonic_ns(), flush=True)
        machine.close()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), pickle.loads(Path(sys.argv[3]).read_bytes()))
