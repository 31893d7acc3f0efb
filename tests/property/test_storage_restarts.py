"""A store that saves, restarts and merges at any moment answers as one that never does, and ends in the same state."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.storage.state_machine import StateMachine
from tests.storage_histories import ROOMY, TINY, apply_all, make_records, opened

SAVE_SHARE = 0.6
RESTART_SHARE = 0.12


def state_of(machine: StateMachine) -> tuple[bytes, bytes, list[list[int]], int]:
    """Everything that two replicas must agree on: running hash, accounts, open reservations in log order, time."""
    reservations = machine.book.open_reservations()
    return (
        machine.head.hash,
        machine.book.account_rows().tobytes(),
        reservations[np.argsort(reservations[:, 12])].tolist(),
        machine.book.last_timestamp_ns,
    )


@given(seed=st.integers(0, 1 << 32), restarts=st.integers(0, 1 << 32))
def test_restarts_merges_and_checkpoints_change_no_answer(seed: int, restarts: int) -> None:
    records = make_records(seed, 60)
    scratch = Path(tempfile.mkdtemp())
    try:
        with opened(scratch / "roomy", ROOMY) as roomy:
            expected = apply_all(roomy, records)
            final = state_of(roomy)
        rng, answers = np.random.default_rng(restarts), list[list[tuple[int, ...]]]()
        while len(answers) < len(records):
            with opened(scratch / "tiny", TINY) as machine:
                # What was applied and not saved is applied again: the log delivers it.
                assert machine.applied_index == machine.synced_log_index <= len(answers)
                del answers[machine.applied_index :]
                answers += run_until_restart(machine, records[len(answers) :], rng)
                if len(answers) == len(records):
                    assert state_of(machine) == final
        assert answers == expected
    finally:
        shutil.rmtree(scratch)


def run_until_restart(
    machine: StateMachine, records: list[bytes], rng: np.random.Generator
) -> list[list[tuple[int, ...]]]:
    answers = []
    for record in records:
        answers += apply_all(machine, [record])
        if rng.random() < SAVE_SHARE:
            machine.save()
        if rng.random() < RESTART_SHARE:
            if rng.random() < 0.5:
                machine.close()
            break
    return answers
