"""From a batch to its answer: check the items, log the valid ones, put outcomes and faults back in order."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.known import NO_POSITION
from engine.core.records import Words
from engine.rpc.answers import Answered, no_results
from engine.rpc.checks import faults_in
from engine.rpc.faults import CallFailed, Fault, at_item
from engine.service.replica import Replica
from engine.service.submission import Caller, Submission, words_of_results


class _Checked(NamedTuple):
    """A batch after its check."""

    words: Words
    """The valid rows, shape (m, 16)."""
    items: npt.NDArray[np.int64] | None
    """Shape (m,): which item each valid row is; None where all are."""
    faults: list[Fault]


async def post(replica: Replica, words: Words, faults: list[Fault], caller: Caller, deadline_s: float) -> Answered:
    """Post rows, shape (n, 16), of which some are known to be no records (`faults`).

    Raises `CallFailed` where no item got further than admission, or none came back.
    """
    checked = _check(words, faults)
    if not len(checked.words):
        return Answered(no_results(len(words)), checked.faults, ())
    submission = await replica.post(checked.words, caller, deadline_s)
    _raise_if_all_missing(submission, checked.faults)
    return _answered(replica.place.group, len(words), checked, submission)


def _check(words: Words, faults: list[Fault]) -> _Checked:
    found = faults_in(words, faults)
    if not found:
        return _Checked(words, None, found)
    valid = np.ones(len(words), np.bool_)
    valid[[item_of(fault) for fault in found]] = False
    return _Checked(np.ascontiguousarray(words[valid]), np.flatnonzero(valid), found)


def _raise_if_all_missing(submission: Submission, faults: list[Fault]) -> None:
    """A batch of which nothing came back fails as a call: thousands of equal item faults would say no more."""
    if faults or not submission.missing or sum(part.rows for part in submission.missing) < submission.count:
        return
    if len({part.fault for part in submission.missing}) == 1:
        raise CallFailed(submission.missing[0].fault)


def _answered(group: int, items: int, checked: _Checked, submission: Submission) -> Answered:
    log_indexes = ((group, submission.log_index),)
    if checked.items is None and not submission.missing:
        return Answered(submission.results, [], log_indexes)
    numbers = np.arange(items) if checked.items is None else checked.items
    results, faults = no_results(items), list(checked.faults)
    words_of_results(results)[numbers] = submission.result_words
    for part in submission.missing:
        missing = numbers[part.first : part.first + part.rows]
        results["position"][missing] = NO_POSITION
        faults += [at_item(part.fault, int(item)) for item in missing]
    return Answered(results, sorted(faults, key=item_of), log_indexes)


def item_of(fault: Fault) -> int:
    """Return which item a fault is about."""
    return fault.item or 0


def by_item(faults: list[Fault]) -> dict[int, Fault]:
    """Return faults by their items."""
    return {item_of(fault): fault for fault in faults}
