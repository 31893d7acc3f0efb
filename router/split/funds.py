"""Money for callers who found a bucket short: collected, pulled, or proven not to be there (DESIGN §8).

One worker for each account: whoever is short at the same time, in whatever groups, shares its rounds. A round collects
once, serves callers in the order in which they came, pulls what they lack to where they lack it, and proves by a second
collection what the account cannot pay. What is neither pulled nor proven waits for the next round: "contended" is never
told as "insufficient".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

from engine.core.split.pools import Bucket, Pull, Side, agree, bound_of, next_pulls, pool_of, sum_of
from engine.rpc.faults import CallFailed, Fault, Reason, fate_unknown, unavailable

ROUND_S_MAX: Final = 5.0
"""One round: two collections and the pulls."""
LATER_PAUSE_S: Final = 0.005
"""Before a round that only has callers who wait for others."""

logger = logging.getLogger(__name__)


class SplitState(NamedTuple):
    """One collection of a split account."""

    account: bytes
    ledger: int
    code: int
    home: int
    buckets: tuple[Bucket, ...]
    """Of the groups that have one, by group."""
    shares: Mapping[int, bytes]
    """By group: the id of its share account."""
    versions: Mapping[int, int]
    """By group: the version of the home's row that its head comes from."""
    log_indexes: Mapping[int, int]
    """By group: what its bucket is true at."""


Collect = Callable[[bytes, float], Awaitable[SplitState]]
"""Asks every group for an account's bucket, by a deadline on the loop's clock; linearizable. Raises `CallFailed`."""
Move = Callable[[SplitState, Side, Sequence[Pull], float], Awaitable[int]]
"""Moves what that side can spend between buckets; returns how many of the moves were posted. Raises no `CallFailed`."""


class Verdict(Enum):
    """What becomes of one unit that was short."""

    ASK_AGAIN = "the bucket should have it now"
    REFUSE = "the account could not pay it at one moment since it was asked for"
    MOVE = "a balancing transfer moves what there is"
    LATER = "others were before it: ask for relief again"


class Told(NamedTuple):
    """The verdict on one unit."""

    verdict: Verdict
    amount: int = 0
    """MOVE: how much, minor units."""


class Want(NamedTuple):
    """What one unit, a transfer or a chain, lacked."""

    amount: int
    """What it needs in its bucket at once, minor units."""
    is_exact: bool = True
    """Nothing less could be enough: only then it can be refused. False for what takes what there is, too."""
    is_balancing: bool = False
    """It takes what there is up to the amount."""


class Need(NamedTuple):
    """Units of one caller that one bucket was short for."""

    account: bytes
    side: Side
    group: int
    wants: tuple[Want, ...]
    ticket: int
    """Callers are served by ascending ticket (`Funds.ticket`)."""


class _Waiting(NamedTuple):
    need: Need
    told: "asyncio.Future[list[Told]]"


class Funds:
    """All accounts' workers. A bounded number of callers waits, because calls are bounded."""

    def __init__(self, collect: Collect, move: Move) -> None:
        """Needs no event loop yet."""
        self._collect, self._move = collect, move
        self._tickets = count(1)
        self._waiting: dict[bytes, list[_Waiting]] = {}
        """By account; an account is there while its worker runs."""
        self._granted: dict[bytes, dict[int, tuple[int, int]]] = {}
        """By account and ticket: (group, amount) that was pulled for somebody who has not come back yet."""
        self.rounds = 0
        self.pulls = 0
        """Moves that were posted."""
        self._workers: set[asyncio.Task[None]] = set()

    def ticket(self) -> int:
        """Return a place in the order of callers."""
        return next(self._tickets)

    async def relieve(self, need: Need, deadline_s: float) -> list[Told]:
        """Return the verdict on each unit after one round; `deadline_s` is on the loop's clock.

        Call `done` with its ticket once what may ask again has asked. Raises `CallFailed`.
        """
        waiting = _Waiting(need, asyncio.get_running_loop().create_future())
        queue = self._waiting.get(need.account)
        if queue is None:
            self._waiting[need.account] = queue = []
            worker = asyncio.create_task(self._work(need.account, queue))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        queue.append(waiting)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await waiting.told
        except TimeoutError:
            raise CallFailed(contended()) from None

    def done(self, account: bytes, ticket: int) -> None:
        """Note that whoever was told to ask again has asked."""
        self._granted.get(account, {}).pop(ticket, None)

    async def _work(self, account: bytes, queue: list[_Waiting]) -> None:
        try:
            while queue:
                waiting = [one for one in queue if not one.told.done()]
                queue.clear()
                if waiting:
                    await self._guarded_round(account, sorted(waiting, key=lambda one: one.need.ticket))
        finally:
            del self._waiting[account]

    async def _guarded_round(self, account: bytes, waiting: list[_Waiting]) -> None:
        try:
            await self._round(account, waiting)
        except CallFailed as failed:
            _fail(waiting, failed)
        except Exception:
            logger.exception("a round for a split account broke")
            _fail(waiting, CallFailed(fate_unknown("the buckets of the account could not be read; try again")))

    async def _round(self, account: bytes, waiting: list[_Waiting]) -> None:
        self.rounds += 1
        deadline_s = asyncio.get_running_loop().time() + ROUND_S_MAX
        first = await self._collect(account, deadline_s)
        side = waiting[0].need.side  # an account has one limit; callers of other sides are balancing ones, and wait
        waiting = self._of_side(waiting, side)
        plan = _Plan(first, side, self._granted.setdefault(account, {}))
        served = [(one, plan.serve(one.need)) for one in waiting]
        hopeless = any(told is None for _, verdicts in served for told in verdicts)
        second, moved = await asyncio.gather(
            self._second(account, hopeless, deadline_s), self._move(first, side, plan.pulls(), deadline_s)
        )
        self.pulls += moved
        short = _Short(first, second, side)
        for one, verdicts in served:
            pairs = zip(one.need.wants, verdicts, strict=True)
            told = [known or short.verdict(want) for want, known in pairs]
            if not one.told.done():
                one.told.set_result(told)
        if all(told is not _ASK_AGAIN for _, verdicts in served for told in verdicts):
            await asyncio.sleep(LATER_PAUSE_S)

    def _of_side(self, waiting: list[_Waiting], side: Side) -> list[_Waiting]:
        """Return those of one side; the others are in the next round."""
        others = [one for one in waiting if one.need.side is not side]
        if others:
            self._waiting[others[0].need.account].extend(others)
        return [one for one in waiting if one.need.side is side]

    async def _second(self, account: bytes, wanted: bool, deadline_s: float) -> SplitState | None:
        return await self._collect(account, deadline_s) if wanted else None


class _Plan:
    """Who is served by one collection."""

    def __init__(self, state: SplitState, side: Side, granted: dict[int, tuple[int, int]]) -> None:
        self._pools = {one.group: pool_of(one, side) for one in state.buckets}
        self._sum, self._granted = sum_of(state.buckets, side), granted
        self._free = self._sum - sum(amount for _, amount in granted.values())
        self._wanted: dict[int, int] = {}
        for group, amount in granted.values():
            self._wanted[group] = self._wanted.get(group, 0) + amount

    def serve(self, need: Need) -> list[Told | None]:
        """Return the verdict on each unit; None: the account has less than that."""
        self._granted.pop(need.ticket, None)
        before = self._wanted.get(need.group, 0)
        told = [self._one(need.group, want) for want in need.wants]
        granted = self._wanted.get(need.group, 0) - before
        if granted:
            self._granted[need.ticket] = (need.group, granted)
        return told

    def _one(self, group: int, want: Want) -> Told | None:
        if want.amount <= self._free:
            self._free -= want.amount
            self._wanted[group] = self._wanted.get(group, 0) + want.amount
            return _ASK_AGAIN
        if want.is_exact and want.amount > self._sum:
            return None
        if want.amount <= self._sum or self._wanted:
            return _LATER
        self._wanted[group] = max(0, self._sum)  # all there is
        return None if want.is_balancing else _ASK_AGAIN

    def pulls(self) -> list[Pull]:
        """Return the moves of this round."""
        return next_pulls(self._pools, self._wanted)


class _Short:
    """What two collections prove."""

    def __init__(self, first: SplitState, second: SplitState | None, side: Side) -> None:
        self._bound: int | None = None
        """At least what the account could spend at one moment between them; None: there is no second one."""
        self._agree = False
        if second is not None:
            self._bound = bound_of(first.buckets, second.buckets, side)
            self._agree = agree(first.buckets, second.buckets)

    def verdict(self, want: Want) -> Told:
        """Judge one unit of which the first collection did not have enough."""
        if self._bound is None:
            return _LATER
        if want.is_balancing and self._bound < 0:
            return _REFUSE  # as an account that is not split refuses it, once FORCE took it below zero
        if want.is_balancing:
            return Told(Verdict.MOVE, min(want.amount, self._bound)) if self._agree else _LATER
        return _REFUSE if want.is_exact and self._bound < want.amount else _LATER


_ASK_AGAIN: Final = Told(Verdict.ASK_AGAIN)
_REFUSE: Final = Told(Verdict.REFUSE)
_LATER: Final = Told(Verdict.LATER)


def contended() -> Fault:
    """Return the fault of what was neither paid nor proven short in time: never told as a refusal."""
    words = "other callers drew on the buckets of a split account meanwhile; try again shortly with the same ids"
    return unavailable(Reason.BUCKETS_CONTENDED, words)


def _fail(waiting: list[_Waiting], failed: CallFailed) -> None:
    for one in waiting:
        if not one.told.done():
            one.told.set_exception(CallFailed(failed.fault))
