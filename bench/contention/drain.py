"""The drain: one funded account is spent to exactly zero by many callers at once.

All transfers ask for 1 and nothing is paid in, so the money only falls: a refusal is false if a transfer that was sent
after it had been answered is posted. Seen from outside, with no knowledge of how the engine keeps the account.
"""

import asyncio
import time
from typing import Final, NamedTuple

import numpy as np

from bench.contention.accounts import BANK, PURSE, Cast
from bench.contention.checks import Moved
from bench.contention.mixes import Mix
from bench.contention.sending import Sender
from engine.core.outcomes import Outcome

CALLERS: Final = 64
REFUSALS_EACH: Final = 3
"""A caller goes on until it was refused so often."""


class Drained(NamedTuple):
    """What was seen."""

    posted: int
    refused: int
    false_refusals: int
    overdrafts: int
    """Minor units that were spent and never there."""
    left: int
    """Minor units that were never spent."""
    seconds: float


async def drain(sender: Sender, cast: Cast, mix: Mix, moved: Moved, *, money: int) -> Drained:
    """Fund the account, and spend it; raises RuntimeError if a transfer ends otherwise than posted or refused."""
    fund = mix.between(np.array([[BANK, PURSE]]), np.array([money]))
    moved.add([fund], [await sender.post(fund.tobytes())])
    refused_s: list[float] = []
    posted_s: list[float] = []
    shops = np.resize(np.array(cast.ordinary), CALLERS)

    async def caller(shop: int) -> None:
        refusals = 0
        while refusals < REFUSALS_EACH:
            row = mix.between(np.array([[PURSE, shop]]), np.array([1]))
            sent_s = time.perf_counter()
            outcomes = await sender.post(row.tobytes())
            moved.add([row], [outcomes])
            if outcomes[0] == Outcome.POSTED:
                posted_s.append(sent_s)
            elif outcomes[0] == Outcome.INSUFFICIENT_FUNDS:
                refusals += 1
                refused_s.append(time.perf_counter())
            else:
                raise RuntimeError(f"a transfer of the drain ended as outcome {outcomes[0]}")

    started = time.perf_counter()
    await asyncio.gather(*(caller(int(shop)) for shop in shops))
    last_sent_s = max(posted_s, default=0.0)
    false = sum(answered_s < last_sent_s for answered_s in refused_s)
    posted = len(posted_s)
    seconds = time.perf_counter() - started
    return Drained(posted, len(refused_s), false, max(0, posted - money), max(0, money - posted), seconds)
