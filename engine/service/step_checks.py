"""What a group checks of steps before it logs them: that they are whole, meant for it, and of the digest they name.

A router or courier of this engine never sends others; what fails here fails the whole call, and nothing is logged. The
digest is computed anew from bodies and plan wherever the whole chain is carried, so that no replica's apply has to.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.chains.plain import plain_digests
from engine.core.chains.plan import ChainFault, Plan, Side, chain_of
from engine.core.chains.step_record import STEP_AMOUNT, StepRecord, step_words
from engine.core.chains.word import WHOLE, Step
from engine.core.kernel.step_payload import are_plain
from engine.core.limits import CHAIN_GROUPS_MAX, GROUPS_MAX, LOG_RECORD_BYTES_MAX
from engine.core.records import RECORD_BYTES, Words
from engine.core.validation import fault_text, faults_of
from engine.rpc.faults import CallFailed, Reason, invalid
from engine.service.submission import LINKED_BIT

STEP_ROWS_MAX: Final = (LOG_RECORD_BYTES_MAX - (4 << 10)) // (RECORD_BYTES + 4 + STEP_AMOUNT.itemsize)
"""Legs of a chain over groups: every later step of it must fit into a log record too, even if each of its legs gives
something back."""

Flags = npt.NDArray[np.bool_]

_KNOWN: Final = np.zeros(256, np.bool_)
_KNOWN[[step for step in Step if step]] = True
_WHOLE: Final = np.zeros(256, np.bool_)
_WHOLE[list(WHOLE)] = True
_FOR_DECIDER: Final = np.zeros(256, np.bool_)
_FOR_DECIDER[[Step.DECIDE, Step.ABORT]] = True


def require_sound(record: StepRecord, group: int) -> bool:
    """Raise `CallFailed` (INVALID_ARGUMENT) unless `group` may log every step; return whether all are plain."""
    whole, plain = _WHOLE[record.steps["step"]], _are_plain(record, group)
    if not plain:
        _require(_KNOWN[record.steps["step"]], Reason.STEPS_UNREADABLE, "step {} is of no kind that this engine knows")
        _require_plans(record, whole, group)
        if whole.any():
            _require_bodies(record, whole)
    if whole.any():
        _require_valid(record, whole)
        _require_digests(record, whole)
    return plain


def _are_plain(record: StepRecord, group: int) -> bool:
    """Whether this is, as nearly always, a batch of plain steps in which only bodies and digests may be wrong."""
    if len(record.steps) != len(record.rows):
        return False
    rows, sides = np.ascontiguousarray(record.rows), np.ascontiguousarray(record.sides)
    return bool(are_plain(step_words(record.steps), rows, sides, np.uint64(group)))


def _require_plans(record: StepRecord, whole: Flags, group: int) -> None:
    """A group hears of chains that it takes part in, and each step has its place."""
    steps, first = record.steps, record.steps["first_row"]
    debit, credit = record.sides[:, 0], record.sides[:, 1]  # column by column: to reduce rows of two takes far longer
    known = np.maximum.reduceat(np.maximum(debit, credit), first) < GROUPS_MAX
    _require(known & (steps["decider"] < GROUPS_MAX), Reason.PLAN_DIFFERS, "step {} names a group that cannot be")
    runs = (debit == group) | (credit == group)
    runs_some, runs_all = np.logical_or.reduceat(runs, first), np.logical_and.reduceat(runs, first)
    decides = steps["decider"] == group
    elsewhere = ~decides & np.where(whole, runs_some, runs_all)
    fits = np.where(_FOR_DECIDER[steps["step"]], decides, elsewhere | (decides & (steps["step"] == Step.ASK)))
    _require(fits, Reason.PLAN_DIFFERS, f"the plan of step {{}} gives group {group} no part in it")
    _require(steps["leg"] < steps["legs"], Reason.STEPS_UNREADABLE, "step {} names a leg that its chain does not have")
    reasons = (steps["reason"] != 0) == (steps["step"] == Step.ABORT)
    _require(reasons, Reason.STEPS_UNREADABLE, "step {} is an ABORT without a reason, or has one and is not")


def _require_bodies(record: StepRecord, whole: Flags) -> None:
    """Whole chains consist of legs linked from the first to the last, and not too many."""
    steps = record.steps
    short = ~whole | (steps["rows"] <= STEP_ROWS_MAX)
    _require(short, ChainFault.CHAIN_TOO_LONG, f"the chain of step {{}} has more than {STEP_ROWS_MAX} legs: split it")
    last = np.zeros(len(record.rows), np.bool_)
    last[steps["first_row"] + steps["rows"] - 1] = True
    linked = (record.rows[:, 15] & LINKED_BIT) != 0
    closed = np.logical_and.reduceat(linked != last, steps["first_row"])
    ids = _ids(steps)
    named = (record.rows[steps["first_row"], 0] == ids[:, 0]) & (record.rows[steps["first_row"], 1] == ids[:, 1])
    _require(
        ~whole | (closed & named & (steps["legs"] == steps["rows"])),
        Reason.STEPS_UNREADABLE,
        "the rows of step {} are not the whole chain that it names",
    )


def _require_valid(record: StepRecord, whole: Flags) -> None:
    """Whole chains consist of valid legs."""
    steps, faults = record.steps, _faults(record, whole)
    if faults.any():
        row = int(np.flatnonzero(faults)[0])
        reason, field, message = fault_text(int(faults[row]))
        step = int(np.searchsorted(steps["first_row"], row, "right")) - 1
        raise CallFailed(invalid(reason, message, field=field, item=step))


def _faults(record: StepRecord, whole: Flags) -> npt.NDArray[np.uint16]:
    if whole.all():
        return faults_of(np.ascontiguousarray(record.rows))
    carried = np.repeat(whole, record.steps["rows"])
    faults = np.zeros(len(record.rows), np.uint16)
    faults[carried] = faults_of(record.rows[carried])
    return faults


def _require_digests(record: StepRecord, whole: Flags) -> None:
    plain = whole & (record.steps["rows"] == 1)
    same = ~whole
    same[plain] = _has_plain_digests(record, plain)
    for step in np.flatnonzero(whole & ~plain).tolist():
        same[step] = _digest(record, step) == record.steps["digest"][step].tobytes()
    _require(same, Reason.PLAN_DIFFERS, "step {} names another digest than that of its bodies and plan")


def _has_plain_digests(record: StepRecord, plain: Flags) -> Flags:
    """Return whether each of the `plain` steps has its digest."""
    which = plain if not plain.all() else slice(None)  # mostly all: nothing is copied
    steps = record.steps[which]
    rows = steps["first_row"] if len(steps) != len(record.rows) else slice(None)
    bodies: Words = np.ascontiguousarray(record.rows[rows])
    digests = plain_digests(bodies, record.sides[rows], steps["decider"]).view(np.uint64)
    named = step_words(steps)[:, 2:4]
    same: Flags = (digests[:, 0] == named[:, 0]) & (digests[:, 1] == named[:, 1])
    return same


def _digest(record: StepRecord, step: int) -> bytes:
    one = record.steps[step]
    first, last = int(one["first_row"]), int(one["first_row"]) + int(one["rows"])
    sides = tuple(Side(debit, credit) for debit, credit in record.sides[first:last].tolist())
    chain = chain_of(np.ascontiguousarray(record.rows[first:last]).tobytes(), Plan(sides, int(one["decider"])))
    if len(chain.groups) > CHAIN_GROUPS_MAX:
        message = f"the chain of step {step} takes {len(chain.groups)} groups, more than {CHAIN_GROUPS_MAX}"
        raise CallFailed(invalid(Reason.PLAN_DIFFERS, message, item=step))
    return chain.digest


def _ids(steps: npt.NDArray[np.void]) -> Words:
    return np.ascontiguousarray(steps["chain_id"]).view(np.uint64).reshape(-1, 2)


def _require(holds: Flags, reason: str, message: str) -> None:
    if not holds.all():
        step = int(np.flatnonzero(~holds)[0])
        raise CallFailed(invalid(reason, message.format(step), field="steps", item=step))
