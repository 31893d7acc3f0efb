"""Splitting and merging in a loop, under load, while leaders are killed: nothing is created, lost or overdrawn."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from bench.contention.accounts import BANK
from bench.contention.sending import AGAIN
from engine.core.outcomes import Outcome
from postingengine.v1.admin_service_pb2 import MergeAccountRequest, SplitAccountRequest
from tests.chaos.split_stage import CALL_S, Stage, on_stage

GROUPS: Final = 2
PEOPLE: Final = 8
"""Limited accounts that pay each other: each is split in turn, and merged again and again."""
MONEY: Final = 300
AMOUNT_MAX: Final = 40
CALLERS: Final = 8
KILLS: Final = 3
BETWEEN_KILLS_S: Final = 1.5
DOWN_S: Final = 0.5
PAUSE_S: Final = 0.1
REFUSED_S_MAX: Final = 180.0
MERGES_A_SPLIT: Final = 2


def test_splitting_and_merging_under_load_and_kills_loses_nothing(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        play = _Play(stage)
        await play.fund()
        callers = [asyncio.create_task(play.pay_about(number)) for number in range(CALLERS)]
        await asyncio.gather(play.split_and_merge(), play.kill_leaders())
        await play.until_refused(callers)
        play.is_over = True
        await asyncio.gather(*callers)
        await play.merge_again()
        assert play.outcomes == {Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS}
        assert play.splits == PEOPLE and play.merges
        await stage.check()
        assert (stage.moved.change[play.people] >= 0).all()
        assert stage.moved.change[play.people].sum() == PEOPLE * MONEY
        stage.cluster.stop(*stage.cluster.running)
        assert stage.cluster.verify(stage.cluster.nodes) == []

    on_stage(tmp_path, act, groups=GROUPS, replicas=3, people=PEOPLE)


class _Play:
    def __init__(self, stage: Stage) -> None:
        self.stage, self.people = stage, np.array(stage.cast.employees)
        self.is_over = False
        self.outcomes: set[int] = set()
        self.splits = self.merges = 0

    async def fund(self) -> None:
        for person in self.people:
            assert await self.stage.pay(BANK, int(person), MONEY) == Outcome.POSTED

    async def pay_about(self, seed: int) -> None:
        """Let people pay each other until it is over; a payment of an unknown fate is sent again until it has one."""
        rng = np.random.default_rng(seed)
        while not self.is_over:
            debit, credit = rng.choice(self.people, 2, replace=False)
            self.outcomes.add(await self.stage.pay(int(debit), int(credit), int(rng.integers(1, AMOUNT_MAX + 1))))

    async def split_and_merge(self) -> None:
        accounts = [self.stage.cast.ids[person].tobytes() for person in self.people]
        for number, account in enumerate(accounts):
            await _served(self.stage.admin.SplitAccount, SplitAccountRequest(account=account, buckets=GROUPS))
            self.splits += 1
            for again in range(MERGES_A_SPLIT):
                merged = accounts[(number * again) // MERGES_A_SPLIT]
                self.merges += await _served(self.stage.admin.MergeAccount, MergeAccountRequest(account=merged))

    async def until_refused(self, callers: "list[asyncio.Task[None]]") -> None:
        """Let the callers go on until one had too little: on a slow machine few payments were made so far."""
        async with asyncio.timeout(REFUSED_S_MAX):
            while Outcome.INSUFFICIENT_FUNDS not in self.outcomes:
                for caller in callers:
                    if caller.done():
                        caller.result()
                await asyncio.sleep(PAUSE_S)

    async def merge_again(self) -> None:
        """Merge at rest, if callers were quicker than every merge so far."""
        if not self.merges:
            merged = self.stage.cast.ids[self.people[0]].tobytes()
            self.merges += await _served(self.stage.admin.MergeAccount, MergeAccountRequest(account=merged))

    async def kill_leaders(self) -> None:
        for number in range(KILLS):
            await asyncio.sleep(BETWEEN_KILLS_S)
            leader = await self.stage.leader(number % GROUPS)
            self.stage.cluster.kill(leader)
            await asyncio.sleep(DOWN_S)
            self.stage.cluster.start(leader)


async def _served(call: Callable[..., Awaitable[Any]], request: object) -> bool:
    """Ask until it is done, as a caller of an unknown fate would; return whether it was.

    A merge that callers were quicker than, and a split that an earlier try has done already, are no harm.
    """
    while True:
        try:
            await call(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if "split already" in (error.details() or ""):
                return True
            if "could be brought home" in (error.details() or ""):
                return False
            if error.code() not in AGAIN:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return True
