"""Loading records ahead, and packing them apart, changes nothing: no answer, no row, no hash, no look-up later on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.log_record import decode_log_record
from engine.storage.state_machine import StateMachine
from tests.storage_histories import ROOMY, TINY, apply_all, make_records, opened, scratch_folder

RECORDS = 30
EXAMPLES = 60


def prepare_something(machine: StateMachine, records: list[bytes], at: int, rng: np.random.Generator) -> None:
    """Prepare the record at hand; or the one after it, one of before, or its bytes elsewhere: all in vain."""
    draw = rng.random()
    if draw < 0.5:
        machine.prepare(records[at])
    elif draw < 0.7:
        machine.prepare(records[min(at + 1, len(records) - 1)])
    elif draw < 0.8:
        machine.prepare(records[int(rng.integers(0, at + 1))])
    elif draw < 0.9:
        machine.prepare(bytes(bytearray(records[at])))


def apply_with_care(machine: StateMachine, records: list[bytes], rng: np.random.Generator) -> list[object]:
    results: list[object] = []
    for at, record in enumerate(records):
        for _ in range(int(rng.integers(0, 3))):
            prepare_something(machine, records, at, rng)
            if rng.random() < 0.2:
                machine.save()
        found = machine.judge(at + 1, 1, record)
        assert isinstance(found, np.ndarray)
        results.append(found.tolist())
        machine.pack()
        if rng.random() < 0.1:
            machine.apply(at + 1, 1, record)  # delivered again
    return results


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32), cares=st.integers(0, 1 << 32))
def test_a_record_that_was_loaded_ahead_is_answered_and_stored_as_any(seed: int, cares: int) -> None:
    records = make_records(seed, RECORDS)
    with scratch_folder() as scratch, opened(scratch / "a", TINY) as plain, opened(scratch / "b", TINY) as careful:
        assert apply_with_care(careful, records, np.random.default_rng(cares)) == apply_all(plain, records)
        assert careful.head == plain.head
        assert np.array_equal(careful.book.account_rows(), plain.book.account_rows())
        assert np.array_equal(careful.book.open_reservations(), plain.book.open_reservations())


def test_loading_ahead_leaves_the_filter_of_ids_as_it_is_and_applying_brings_it_up() -> None:
    records = make_records(7, 20)
    with scratch_folder() as scratch, opened(scratch / "a", ROOMY) as machine:
        (segment,) = machine._ids._filter._segments
        for log_index, record in enumerate(records, start=1):
            before = segment.copy()
            machine.prepare(record)
            assert np.array_equal(segment, before)
            ids = decode_log_record(record).rows[:, :2]
            machine.apply(log_index, 1, record)
            assert len(machine._ids._filter.maybe(machine._ids._keys_of(np.array(ids)))) == len(ids) or log_index < 3


def test_what_was_loaded_ahead_is_used_for_the_very_next_record_alone() -> None:
    records = make_records(7, 2)
    with scratch_folder() as scratch, opened(scratch / "a", TINY) as machine:
        apply_all(machine, records[:-2])
        machine.prepare(records[-1])
        ahead = machine._ahead
        assert ahead is not None
        assert ahead.is_of(records[-1], machine.head)
        assert not ahead.is_of(bytes(bytearray(records[-1])), machine.head)
        apply_all(machine, records[-2:-1])
        assert not ahead.is_of(records[-1], machine.head)
