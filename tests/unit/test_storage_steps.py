"""Steps of a cross-group chain that come to the store in records of their own, as they do between groups."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.core.chains.plan import Chain
from engine.core.chains.step_answers import ON_RECORD, word_of, words_of
from engine.core.chains.step_record import StepRecord, encode_steps, steps_of
from engine.core.chains.word import Order, State, Step
from engine.core.kernel.open_chains import BODY
from engine.core.log_record import RecordKind, encode_log_record
from engine.core.placement import slot_of
from engine.core.records import Kind, as_records, as_words
from engine.core.settings import Ledger, Settings, SlotRange, encode_settings
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


PAID = laid_out(row("t1", debit=HERE, credit=THERE), sides=((0, 1),))
RESERVE, COMMIT = Order(Step.RESERVE, 0, PAID), Order(Step.COMMIT, 0, PAID, (30,))


def told(machine: StateMachine, record: StepRecord, chains: Sequence[Chain]) -> list[tuple[State, bool]]:
    """The state of the group's word after a record, for each step, and whether the step changed it."""
    answers = apply(machine, RecordKind.STEPS, np.ascontiguousarray(record.rows).tobytes(), encode_steps(record))
    words = words_of(answers, chains, 0)
    changed = (answers.answers["flags"] & ON_RECORD) == 0
    return [(State.NONE if word is None else word.state, bool(one)) for word, one in zip(words, changed, strict=True)]


@pytest.mark.parametrize(
    "field", ["debit", "credit", "amount_low", "reference", "effective_at", "ledger", "code", "leg"]
)
def test_a_commit_with_another_body_than_the_one_on_record_changes_nothing(machine: StateMachine, field: str) -> None:
    heard(machine, RESERVE)
    record = steps_of([COMMIT])
    as_records(record.rows)[field] = as_records(as_words(row("t2", code=7, ledger=2, effective_at=3, amount=29)))[field]
    if field == "leg":
        as_records(record.rows)[field] = 1
    if field == "reference":
        as_records(record.rows)[field] = np.void(b"another".ljust(16))
    assert told(machine, record, [PAID]) == [(State.RESERVED, False)]


def test_a_commit_between_other_groups_than_those_on_record_changes_nothing(machine: StateMachine) -> None:
    heard(machine, RESERVE)
    record = steps_of([COMMIT])
    record.sides[:] = ((0, 2),)
    assert told(machine, record, [PAID]) == [(State.RESERVED, False)]


def test_a_commit_that_comes_twice_in_one_record_is_told_from_the_first(machine: StateMachine) -> None:
    heard(machine, RESERVE)
    found = told(machine, steps_of([COMMIT, COMMIT]), [PAID, PAID])
    assert found == [(State.COMMITTED, True), (State.COMMITTED, False)]


@pytest.mark.parametrize(
    ("last", "reversal"), [(Step.COMMIT, State.RESERVED), (Step.RELEASE, State.REFUSED)], ids=["commit", "release"]
)
def test_a_reversal_sees_how_its_original_ended_in_the_very_same_record(
    machine: StateMachine, last: Step, reversal: State
) -> None:
    heard(machine, RESERVE)
    back = laid_out(row("r1", debit=HERE, credit=THERE, followed="t1", kind=Kind.REVERSE), sides=((0, 1),))
    end = COMMIT if last is Step.COMMIT else Order(last, 0, PAID)
    found = told(machine, steps_of([end, Order(Step.RESERVE, 0, back)]), [PAID, back])
    assert found[1] == (reversal, True)


def test_a_chain_that_was_saved_without_its_body_is_looked_up(machine: StateMachine) -> None:
    heard(machine, RESERVE)
    machine.book.tables.chains[:, BODY] = 0
    assert heard(machine, COMMIT) is State.COMMITTED
