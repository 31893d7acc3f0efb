"""Steps of cross-group chains in one group: check, look what is on record, log the rest, answer in order (DESIGN §7).

A step whose word is on record already is answered from what is applied, without logging it, where the sender says that
this is likely: a word is final in its digest and only ever walks forward, so what is applied here is never false,
however old it is. ASK is always answered so.
"""

import asyncio
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import OTHER_CHAIN, StepAnswers, join_answers, split_answers
from engine.core.chains.step_record import StepRecord, take_steps
from engine.core.chains.word import Step, lifecycle
from engine.rpc.faults import CallFailed, deadline_passed
from engine.service.replica import Replica
from engine.service.submission import Caller

_HEARD: Final = lifecycle() != 0
"""Shape (states, steps): whether a word in that state hears the step."""

_LATE: Final = "the deadline passed before the words on record were read; send the same steps again"


class Stepped(NamedTuple):
    """What a batch of steps gave."""

    answers: StepAnswers
    log_index: int
    """At which the last of them is applied; 0 if nothing was logged."""


async def step(
    replica: Replica, record: StepRecord, caller: Caller, deadline_s: float, *, looks_first: bool
) -> Stepped:
    """Have checked steps heard, each at most once; `deadline_s` is on the loop's clock.

    looks_first: some of them may be on record. Raises `CallFailed` unless every one of them has its answer.
    """
    if not replica.is_leader:
        raise CallFailed(replica.not_leading())
    looked = np.full(len(record.steps), looks_first) | (record.steps["step"] == Step.ASK)
    if not looked.any():
        return await _logged(replica, record, caller, deadline_s)
    asked = take_steps(record, looked)
    found = await _found(replica, asked, deadline_s)
    known = ~_hears(found, asked.steps["step"])
    told = np.zeros(len(looked), np.bool_)
    told[looked] = known
    if told.all():
        return Stepped(found, 0)
    logged = await _logged(replica, take_steps(record, ~told), caller, deadline_s)
    return Stepped(_woven(told, _chosen(found, known), logged.answers), logged.log_index)


async def _found(replica: Replica, asked: StepRecord, deadline_s: float) -> StepAnswers:
    """Return what is on record for the chains of some steps, as far as this replica has applied its log."""
    try:
        async with asyncio.timeout_at(deadline_s):
            return await replica.applier.run(lambda: replica.machine.asked(asked))
    except TimeoutError:
        raise CallFailed(deadline_passed(_LATE)) from None


async def _logged(replica: Replica, record: StepRecord, caller: Caller, deadline_s: float) -> Stepped:
    done = await replica.step(record, caller, deadline_s)
    return Stepped(done.whole_answer(), done.log_index)


def _hears(found: StepAnswers, steps: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether each step would change the word that was found for it, shape (s,)."""
    same = (found.answers["flags"] & OTHER_CHAIN) == 0
    heard: npt.NDArray[np.bool_] = _HEARD[found.answers["state"], steps] & same
    return heard


def _chosen(answers: StepAnswers, wanted: npt.NDArray[np.bool_]) -> StepAnswers:
    """Return the answers for which `wanted`, shape (s,), is set."""
    lengths, values = _runs(wanted)
    parts = split_answers(answers, lengths)
    return join_answers([part for part, is_wanted in zip(parts, values, strict=True) if is_wanted])


def _woven(first: npt.NDArray[np.bool_], ones: StepAnswers, others: StepAnswers) -> StepAnswers:
    """Put two sets of answers in one order: where `first`, shape (s,), is set the next of `ones`, else of `others`."""
    lengths, values = _runs(first)
    from_ones = iter(split_answers(ones, [length for length, one in zip(lengths, values, strict=True) if one]))
    from_others = iter(split_answers(others, [length for length, one in zip(lengths, values, strict=True) if not one]))
    return join_answers([next(from_ones if one else from_others) for one in values])


def _runs(flags: npt.NDArray[np.bool_]) -> tuple[list[int], list[bool]]:
    """Return the lengths and values of the runs of equal flags, shape (s,), s > 0."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(flags)) + 1))
    return np.diff(np.append(starts, len(flags))).tolist(), flags[starts].tolist()
