"""Steps of a cross-group chain that come to the store in records of their own, as they do between groups."""

from pathlib import Path

import numpy as np
import pytest

from engine.core.log_record import RecordKind, encode_log_record
from engine.core.placement import slot_of
from engine.core.records import Kind
from engine.core.settings import Ledger, Settings, SlotRange, encode_settings
from engine.core.step_answers import word_of
from engine.core.step_record import encode_steps, steps_of
from engine.core.word import Order, State, Step
from engine.storage.folder import Identity, open_folder
from engine.storage.recovery import open_state_machine
from engine.storage.state_machine import StateMachine
from tests.protocol_rows import laid_out, row

SETTINGS = Settings("5a" * 16, 7, (Ledger(1, "EUR", 2),), (SlotRange(0, 0, 2047), SlotRange(1, 2048, 4095)))
HERE = next(f"here{n}" for n in range(99) if slot_of(f"here{n}".encode().ljust(16, b"\0"), 7) < 2048)
THERE = next(f"there{n}" for n in range(99) if slot_of(f"there{n}".encode().ljust(16, b"\0"), 7) >= 2048)


@pytest.fixture
def machine(tmp_path: Path):
    with open_folder(tmp_path / "data", Identity("5a" * 16, 0, "a")) as folder:
        found, _ = open_state_machine(folder, 0)
        apply(found, RecordKind.SETTINGS, b"", encode_settings(SETTINGS))
        account = bytearray(row(HERE, debit="", credit=""))
        account[48:64], account[122] = bytes(16), Kind.CREATE_ACCOUNT
        apply(found, RecordKind.EVENTS, bytes(account), b"")
        yield found
        found.close()


def apply(machine: StateMachine, kind: RecordKind, rows: bytes, extra: bytes):
    at = machine.applied_index + 1
    return machine.apply(at, 1, encode_log_record(kind, rows, timestamp_ns=at, callers=[], extra=extra))


def heard(machine: StateMachine, order: Order) -> State:
    """The state of the group's word after a record with this one step."""
    record = steps_of([order])
    rows = np.ascontiguousarray(record.rows).tobytes()
    word = word_of(apply(machine, RecordKind.STEPS, rows, encode_steps(record)), 0, order.chain, 0)
    return State.NONE if word is None else word.state


@pytest.mark.parametrize("last", [State.COMMITTED, State.RELEASED])
def test_a_secured_chain_hears_its_end_in_a_later_record(machine: StateMachine, last: State) -> None:
    chain = laid_out(row("t1", debit=HERE, credit=THERE), sides=((0, 1),))
    assert heard(machine, Order(Step.RESERVE, 0, chain)) is State.RESERVED
    step = Step.COMMIT if last is State.COMMITTED else Step.RELEASE
    assert heard(machine, Order(step, 0, chain, (30,) if step is Step.COMMIT else ())) is last
    assert not machine.open_chains(-1, 1)
