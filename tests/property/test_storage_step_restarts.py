"""A store of a group among others, restarted at any moment, goes on as one that never was: hashes, answers, words and
what it knows of ids. At the end its folder is verified from genesis by the plain model."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.chains.step_record import steps_of
from engine.core.chains.word import Order, Step
from engine.core.known import Known
from engine.core.records import Words
from engine.storage.state_machine import StateMachine
from engine.storage.verify.verify import verify
from tests.step_histories import GROUPS, Logged, World, opened_group, plain_answer, world
from tests.storage_histories import TINY, scratch_folder

RECORDS = 36
EXAMPLES = 12
"""Each restarts three groups a dozen times, and verifies them: about a second."""
SAVE_SHARE = 0.6
RESTART_SHARE = 0.15


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32), restarts=st.integers(0, 1 << 32), splits=st.booleans())
def test_restarts_change_no_hash_no_answer_and_nothing_that_is_known(seed: int, restarts: int, splits: bool) -> None:
    with scratch_folder() as scratch, world(scratch, seed, RECORDS, splits=splits) as lived:
        rng = np.random.default_rng(restarts)
        for group in range(GROUPS):
            apply_again(scratch / f"r{group}", group, lived.logs[group], rng)
            with opened_group(scratch / f"r{group}", group, TINY) as machine:
                compare(lived, machine, group)
            verify(scratch / f"r{group}")


def apply_again(path: Path, group: int, log: list[Logged], rng: np.random.Generator) -> None:
    """Apply a log with saves, restarts and clean stops anywhere; the last one is clean."""
    while True:
        with opened_group(path, group, TINY) as machine:
            done = machine.applied_index
            assert done == 0 or machine.state_hash == log[done - 1].state_hash
            for index, logged in enumerate(log[done:], done + 1):
                assert plain_answer(machine.apply(index, 1, logged.record)) == logged.answer
                assert machine.state_hash == logged.state_hash
                if rng.random() < SAVE_SHARE:
                    machine.save()
                if rng.random() < RESTART_SHARE:
                    break
            else:
                machine.close()
                return
            if rng.random() < 0.5:
                machine.close()


def compare(lived: World, machine: StateMachine, group: int) -> None:
    """Hold a restarted store against the one that never was."""
    reference = lived.machines[group]
    asks = [Order(Step.ASK, group, chain) for chain in lived.chains]
    asked = steps_of(asks)
    assert plain_answer(machine.asked(asked)) == plain_answer(reference.asked(asked))
    assert opened(machine) == opened(reference)
    rows = np.array(asked.rows)
    assert known_by_value(machine.loader.load(rows.copy()), rows) == known_by_value(reference.loader.load(rows), rows)


def opened(machine: StateMachine) -> list[Any]:
    """What is open, a page of two at a time."""
    found, after = list[Any](), -1
    while page := machine.open_chains(after, 2):
        found += page
        after = page[-1].position
    assert len(found) == machine.book.open_chain_count
    found += machine.overdue_holds(1 << 62, -1, 1000)
    return [(one.word.chain.digest, one.word[1:], one.deadline_ns, one.position) for one in found]


def known_by_value(known: Known, batch: Words) -> list[Any]:
    """What is known of each record of a batch."""
    stored = list(zip(*(field.tolist() for field in known[2:]), strict=True))
    return [[stored[row] if row >= 0 else None for row in column.tolist()] for column in known[:2]]
