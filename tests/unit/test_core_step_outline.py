"""What is told of plain steps from their runs alone, and when the journal may keep a payload as it is."""

import numpy as np
import pytest

from engine.core.chains.outline import outline_of, sides_of_payload
from engine.core.chains.step_record import PAYLOAD_HEADER, StepRecord, StepsDamaged, decode_steps, encode_steps
from engine.core.chains.word import Step
from tests.unit.test_core_step_formats import runs_of_plain_steps

RUN_BYTES = 24


def as_asked() -> StepRecord:
    """Three runs of five plain steps; each moves what it asks for."""
    record = runs_of_plain_steps()
    return record._replace(amounts=record.amounts[:0])


def changed(payload: bytes, at: int, byte: int) -> bytes:
    return payload[:at] + bytes((byte,)) + payload[at + 1 :]


def test_the_runs_name_the_steps_and_the_payload_is_kept() -> None:
    payload = encode_steps(as_asked())
    assert outline_of(as_asked(), payload) == (frozenset({Step.RESERVE, Step.COMMIT}), payload)


def test_a_payload_with_amounts_is_written_anew() -> None:
    record = runs_of_plain_steps()
    assert outline_of(record, encode_steps(record)) == (frozenset({Step.RESERVE, Step.COMMIT}), b"")


def test_a_payload_of_version_1_is_written_anew() -> None:
    record = as_asked()._replace(compact=False)
    assert outline_of(record, encode_steps(record)) == (frozenset({Step.RESERVE, Step.COMMIT}), b"")


@pytest.mark.parametrize("at", [2, PAYLOAD_HEADER.size + 5, PAYLOAD_HEADER.size + RUN_BYTES + 14])
def test_a_payload_that_says_something_where_nothing_is_said_is_written_anew(at: int) -> None:
    payload = changed(encode_steps(as_asked()), at, 1)
    record = decode_steps(as_asked().rows, payload)
    assert outline_of(record, payload).payload == b""
    assert encode_steps(record) == encode_steps(as_asked())


def test_a_payload_with_one_run_said_as_two_is_written_anew() -> None:
    whole = encode_steps(as_asked())
    runs = np.frombuffer(whole, "<u8", 9, PAYLOAD_HEADER.size).reshape(3, 3)
    first = runs[:1].copy()
    first[0, 0] -= np.uint64(1)
    second = runs[:1].copy()
    second[0, 0] -= first[0, 0] & np.uint64(0xFFFFFFFF)
    header = PAYLOAD_HEADER.pack(2, 0, 4, 5, 0)
    payload = b"".join((header, first, second, runs[1:], whole[PAYLOAD_HEADER.size + 3 * RUN_BYTES :]))
    record = decode_steps(as_asked().rows, payload)
    assert encode_steps(record) == whole
    assert outline_of(record, payload).payload == b""


def test_sides_are_those_of_the_steps_in_either_version() -> None:
    for record in (as_asked(), runs_of_plain_steps(), as_asked()._replace(compact=False)):
        sides = sides_of_payload(record.rows, encode_steps(record))
        assert sides.tolist() == record.sides.tolist()
        assert sides.flags.carray


def test_runs_that_do_not_fit_their_rows_are_damage() -> None:
    with pytest.raises(StepsDamaged):
        sides_of_payload(as_asked().rows[:4], encode_steps(as_asked()))
