"""A store that saves, restarts, merges and checkpoints at any moment answers as the plain model, whose memory is whole.

At the end its folder is verified from genesis: every row, balance, reservation, id and checkpoint is what the rules
give.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.log_record import RecordKind, decode_log_record
from engine.core.model.model import Model
from engine.core.settings import decode_settings
from engine.storage.state_machine import StateMachine
from engine.storage.verify.verify import verify
from tests.storage_histories import TINY, apply_all, make_records, opened, scratch_folder

RECORDS = 40
EXAMPLES = 100
"""Each is a life with several restarts, verified from genesis."""
SAVE_SHARE = 0.6
RESTART_SHARE = 0.12
Answers = list[list[tuple[int, ...]]]


def answers_of_the_model(records: list[bytes]) -> Answers:
    model, answers = Model(0), list[list[tuple[int, ...]]]()
    for data in records:
        record = decode_log_record(data)
        if record.kind == RecordKind.SETTINGS:
            answer = model.apply_settings(decode_settings(record.extra), record.timestamp_ns)
        else:
            answer = model.apply(record.rows.tobytes(), record.timestamp_ns)
        answers.append([tuple(result) for result in answer.results])
    return answers


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32), restarts=st.integers(0, 1 << 32))
def test_restarts_merges_and_checkpoints_change_no_answer(seed: int, restarts: int) -> None:
    records = make_records(seed, RECORDS)
    with scratch_folder() as scratch:
        rng, answers = np.random.default_rng(restarts), Answers()
        while len(answers) < len(records):
            with opened(scratch / "data", TINY) as machine:
                # What was applied and not saved is applied again: the log delivers it.
                assert machine.applied_index == machine.synced_log_index <= len(answers)
                del answers[machine.applied_index :]
                answers += run_until_restart(machine, records[len(answers) :], rng)
        assert answers == answers_of_the_model(records)
        verify(scratch / "data")


def run_until_restart(machine: StateMachine, records: list[bytes], rng: np.random.Generator) -> Answers:
    answers = Answers()
    for record in records:
        answers += apply_all(machine, [record])
        if rng.random() < SAVE_SHARE:
            machine.save()
        if rng.random() < RESTART_SHARE:
            break
    if rng.random() < 0.5:
        machine.close()
    return answers
