"""Refusing many transfers at once that are proven to find no money: one request, no object for each (DESIGN §8).

Each is refused by an ABORT to the one group that it lies in, as `DrivenChain.refuse` sends it. Whatever is answered
otherwise than "refused, as this very transfer" is for the driver, one by one.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plain import plain_digests
from engine.core.chains.step_answers import ON_RECORD as ANSWERED_BEFORE
from engine.core.chains.step_answers import OTHER_CHAIN, SHORT
from engine.core.chains.step_record import plain_steps
from engine.core.chains.word import REFUSALS, Step
from engine.core.known import RESULT
from engine.core.outcomes import ResultFlag
from engine.core.records import Words
from router.chains.sending import Lane, SentAs

REQUEST_ROWS_MAX: Final = 2048
"""A larger number is cut, so that the first are answered while the last are being sent."""
_REFUSED: Final = np.array(sorted(REFUSALS), np.uint8)


class Refused(NamedTuple):
    """What a group answered to refusals."""

    results: npt.NDArray[np.void]
    """Shape (n,), dtype `RESULT`; without meaning where not `told`."""
    told: npt.NDArray[np.bool_]
    """Shape (n,): refused, by this or an earlier word for the very same transfer."""
    log_index: int
    """0 if nothing was logged."""


async def refuse_alone(
    words: Words, reasons: npt.NDArray[np.uint16], lane: Lane, sent_as: SentAs, deadline_s: float
) -> Refused:
    """Have single transfers, shape (n, 16), refused for these reasons, shape (n,), by the one group that each lies in.

    They are laid out as `engine.core.chains.plan.lay_out_alone` does. Raises `CallFailed`.
    """
    starts = range(0, len(words), REQUEST_ROWS_MAX)
    cuts = [slice(start, start + REQUEST_ROWS_MAX) for start in starts]
    return _joined(
        await asyncio.gather(*(_refuse(words[cut], reasons[cut], lane, sent_as, deadline_s) for cut in cuts))
    )


async def _refuse(
    words: Words, reasons: npt.NDArray[np.uint16], lane: Lane, sent_as: SentAs, deadline_s: float
) -> Refused:
    sides = np.full((len(words), 2), lane.group, np.uint16)
    record = plain_steps(words, sides, plain_digests(words, sides), Step.ABORT, reasons=reasons)
    replies = await lane.ask(record, sent_as, deadline_s)
    answers = replies.answers.answers
    results = np.zeros(len(words), RESULT)
    for field, answered in _FIELDS:
        results[field] = answers[answered]
    results["group"] = lane.group
    results["flags"][(answers["flags"] & ANSWERED_BEFORE) != 0] = ResultFlag.REPLAYED
    told = np.isin(answers["state"], _REFUSED) & ((answers["flags"] & (OTHER_CHAIN | SHORT)) == 0)
    return Refused(results, told, replies.log_index)


def _joined(parts: Sequence[Refused]) -> Refused:
    results = np.concatenate([part.results for part in parts])
    return Refused(results, np.concatenate([part.told for part in parts]), max(part.log_index for part in parts))


_FIELDS: Final = (("outcome", "reason"), ("position", "position"), ("timestamp", "timestamp"))
