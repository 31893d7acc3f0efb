"""What a group finds wrong with steps before it logs any of them."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.core.chains.plan import Chain
from engine.core.chains.step_record import StepRecord, encode_steps, join_steps, steps_of
from engine.core.chains.word import Order, Step
from engine.core.limits import IDENTITY_BYTES_MAX, LOG_RECORD_BYTES_MAX
from engine.core.log_record import Caller as RecordCaller
from engine.core.log_record import RecordKind, encode_log_record
from engine.core.records import Kind
from engine.rpc.faults import INVALID_ARGUMENT, CallFailed, Fault
from engine.service.step_checks import STEP_ROWS_MAX, require_sound
from tests.protocol_rows import laid_out, row

PLAIN = laid_out(row("t1"), sides=((0, 1),))
LONG = laid_out(
    row("c1"), row("c2", debit="bob", credit="carol"), row("c3", debit="carol"), sides=((0, 1), (1, 2), (2, 1))
)


def step(kind: Step, group: int, chain: Chain = PLAIN) -> StepRecord:
    reason = 70 if kind is Step.ABORT else 0
    back = (1,) if kind is Step.EXPIRE else ()
    return steps_of([Order(kind, group, chain, given_back=back, reason=reason)])


def fault(record: StepRecord, group: int) -> Fault:
    with pytest.raises(CallFailed) as failed:
        require_sound(record, group)
    found = failed.value.fault
    assert found.code == INVALID_ARGUMENT
    assert found.logged == "no"
    return found


GOOD = [
    (Step.RESERVE, 0, PLAIN),
    (Step.COMMIT, 0, PLAIN),
    (Step.RELEASE, 0, PLAIN),
    (Step.HOLD, 0, PLAIN),
    (Step.EXPIRE, 0, PLAIN),
    (Step.DECIDE, 1, PLAIN),
    (Step.ABORT, 1, PLAIN),
    (Step.ASK, 0, PLAIN),
    (Step.ASK, 1, PLAIN),
    (Step.RESERVE, 2, LONG),
    (Step.COMMIT, 2, LONG),
    (Step.DECIDE, 1, LONG),
]


@pytest.mark.parametrize(("kind", "group", "chain"), GOOD)
def test_what_drivers_send_is_sound(kind: Step, group: int, chain: Chain) -> None:
    require_sound(step(kind, group, chain), group)


def test_steps_of_many_chains_are_sound_together() -> None:
    require_sound(join_steps([step(Step.RESERVE, 0), step(Step.RESERVE, 0, LONG), step(Step.COMMIT, 0)]), 0)


@pytest.mark.parametrize(
    ("kind", "meant_for", "sent_to"),
    [
        (Step.RESERVE, 0, 1),
        (Step.COMMIT, 0, 1),
        (Step.EXPIRE, 0, 1),
        (Step.DECIDE, 1, 0),
        (Step.ABORT, 1, 0),
        (Step.RESERVE, 0, 2),
        (Step.ASK, 0, 2),
    ],
)
def test_a_step_for_another_group_is_told_so(kind: Step, meant_for: int, sent_to: int) -> None:
    assert fault(step(kind, meant_for), sent_to).reason == "PLAN_DIFFERS"


@pytest.mark.parametrize("chain", [PLAIN, LONG])
def test_another_digest_than_that_of_bodies_and_plan_is_told_with_its_step(chain: Chain) -> None:
    record = join_steps([step(Step.RESERVE, 0), step(Step.RESERVE, 0, chain)])
    steps = record.steps.copy()
    steps["digest"][1] = np.void(bytes(16))
    found = fault(record._replace(steps=steps), 0)
    assert (found.reason, found.item) == ("PLAN_DIFFERS", 1)


def test_another_body_under_the_digest_is_told() -> None:
    record = step(Step.DECIDE, 1)
    rows = record.rows.copy()
    rows[0, 6] += 1
    assert fault(record._replace(rows=rows), 1).reason == "PLAN_DIFFERS"


def test_a_body_that_could_never_be_valid_is_told_by_its_own_reason() -> None:
    chain = laid_out(row("t1", amount=0), sides=((0, 1),))
    found = fault(join_steps([step(Step.RESERVE, 0), step(Step.RESERVE, 0, chain)]), 0)
    assert (found.reason, found.item) == ("AMOUNT_ZERO", 1)


def changed(field: str, value: int) -> Callable[[StepRecord], StepRecord]:
    def change(record: StepRecord) -> StepRecord:
        steps = record.steps.copy()
        steps[field][0] = value
        return record._replace(steps=steps)

    return change


@pytest.mark.parametrize(
    ("kind", "group", "change"),
    [
        (Step.RESERVE, 0, changed("step", 0)),
        (Step.RESERVE, 0, changed("step", 99)),
        (Step.RESERVE, 0, changed("reason", 70)),
        (Step.ABORT, 1, changed("reason", 0)),
        (Step.ABORT, 1, changed("leg", 1)),
        (Step.RESERVE, 0, changed("legs", 2)),
    ],
)
def test_a_step_that_no_driver_sends_is_unreadable(
    kind: Step, group: int, change: Callable[[StepRecord], StepRecord]
) -> None:
    assert fault(change(step(kind, group)), group).reason == "STEPS_UNREADABLE"


def test_a_chain_that_is_cut_off_is_unreadable() -> None:
    record = step(Step.RESERVE, 0, LONG)
    steps = record.steps.copy()
    steps["rows"], steps["legs"] = 2, 2
    assert fault(StepRecord(record.rows[:2], steps, record.sides[:2], record.amounts), 0).reason == "STEPS_UNREADABLE"


def test_a_group_that_cannot_be_numbered_is_told() -> None:
    chain = laid_out(row("t1", kind=Kind.POST), sides=((0, 60_000),))
    assert fault(step(Step.RESERVE, 0, chain), 0).reason == "PLAN_DIFFERS"


def test_more_groups_than_a_chain_may_take_are_told() -> None:
    legs = [row(f"c{number}", debit=f"a{number}", credit=f"a{number + 1}") for number in range(20)]
    chain = laid_out(*legs, sides=tuple((number, number + 1) for number in range(20)))
    assert fault(step(Step.RESERVE, 0, chain), 0).reason == "PLAN_DIFFERS"


def test_a_chain_whose_later_steps_would_not_fit_into_a_record_is_refused_before_it_is_reserved() -> None:
    legs = [row(f"c{number}", amount=9) for number in range(STEP_ROWS_MAX + 1)]
    fits = laid_out(*legs[:-1], sides=((0, 1),) * STEP_ROWS_MAX)
    require_sound(step(Step.RESERVE, 0, fits), 0)
    back = (1,) * STEP_ROWS_MAX
    commit = steps_of([Order(Step.COMMIT, 0, fits, (8,) * STEP_ROWS_MAX, back)])
    caller = RecordCaller(0, STEP_ROWS_MAX, "x" * IDENTITY_BYTES_MAX, 1)
    record = encode_log_record(
        RecordKind.STEPS, commit.rows.tobytes(), timestamp_ns=1, callers=[caller], extra=encode_steps(commit)
    )
    assert len(record) <= LOG_RECORD_BYTES_MAX
    long = laid_out(*legs, sides=((0, 1),) * len(legs))
    assert fault(step(Step.RESERVE, 0, long), 0).reason == "CHAIN_TOO_LONG"
