"""From a batch to its answer: check the items, log the valid ones, put outcomes and faults back in order."""

import numpy as np
import numpy.typing as npt

from engine.core.known import NO_POSITION
from engine.core.records import Words
from engine.rpc.answers import Answered, no_results
from engine.rpc.checks import faults_in
from engine.rpc.faults import CallFailed, Fault, at_item
from engine.service.replica import Replica
from engine.service.submission import Caller, Submission, words_of_results


async def post(replica: Replica, words: Words, faults: list[Fault], caller: Caller, deadline_s: float) -> Answered:
    """Post rows, shape (n, 16), of which some are known to be no records (`faults`).

    Raises `CallFailed` where no item got further than admission, or none came back.
    """
    found = faults_in(words, faults)
    if found:
        return await _post_valid(replica, words, found, caller, deadline_s)
    submission = await replica.post(words, caller, deadline_s)
    if submission.missing:
        _raise_if_all_missing(submission)
        return _answered(replica, np.arange(len(words)), len(words), [], submission)
    return Answered(submission.results, found, ((replica.place.group, submission.log_index),))


async def _post_valid(
    replica: Replica, words: Words, found: list[Fault], caller: Caller, deadline_s: float
) -> Answered:
    """Post the rows that have no fault yet."""
    valid = np.ones(len(words), np.bool_)
    valid[[item_of(fault) for fault in found]] = False
    items = np.flatnonzero(valid)
    if not len(items):
        return Answered(no_results(len(words)), found, ())
    submission = await replica.post(np.ascontiguousarray(words[items]), caller, deadline_s)
    return _answered(replica, items, len(words), found, submission)


def _raise_if_all_missing(submission: Submission) -> None:
    """A batch of which nothing came back fails as a call: thousands of equal item faults would say no more."""
    if sum(part.rows for part in submission.missing) < submission.count:
        return
    if len({part.fault for part in submission.missing}) == 1:
        raise CallFailed(submission.missing[0].fault)


def _answered(
    replica: Replica, items: npt.NDArray[np.int64], count: int, found: list[Fault], submission: Submission
) -> Answered:
    """Put outcomes and faults of a batch of `count` items in order; `items`, shape (m,): which each row posted is."""
    results, faults = no_results(count), list(found)
    words_of_results(results)[items] = words_of_results(submission.results)
    for part in submission.missing:
        missing = items[part.first : part.first + part.rows]
        results["position"][missing] = NO_POSITION
        faults += [at_item(part.fault, int(item)) for item in missing]
    return Answered(results, sorted(faults, key=item_of), ((replica.place.group, submission.log_index),))


def item_of(fault: Fault) -> int:
    """Return which item a fault is about."""
    return fault.item or 0


def by_item(faults: list[Fault]) -> dict[int, Fault]:
    """Return faults by their items."""
    return {item_of(fault): fault for fault in faults}
