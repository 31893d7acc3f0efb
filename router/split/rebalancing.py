"""Keeping the buckets of split accounts near the demand of their groups, and splitting hot accounts by policy.

Splits that were left half done are finished here, too. All of it runs in every router, now and again, and remembers
nothing that matters. Ids of moves are derived from account, minute, giver and taker, and a bucket whose share account
changed since the last look rests for a minute: so several routers do not move twice. What to move is
`engine.core.split.rebalancer`'s; what to split is what the leaders advise (`hot`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from engine.config import HotAccountsPolicy
from engine.core.split.pools import Counters, Pull, Side, given_of, limited_side, pool_of
from engine.core.split.rebalancer import Bucket, next_moves, smoothed
from engine.rpc.faults import CallFailed
from postingengine.v1.admin_service_pb2 import HotAccount, ReportHeatRequest, ReportHeatResponse
from router.directory import Directory
from router.split.buckets import CALLER, DIRECTORY_GROUP, Buckets
from router.split.funds import SplitState
from router.split.splitting import Splitting

ROUND_S: Final = 15.0
ROUND_S_MAX: Final = 10.0
MINUTE_NS: Final = 60 * 10**9
REPORT_HEAT: Final = "/postingengine.v1.AdminService/ReportHeat"

logger = logging.getLogger(__name__)


class Memory:
    """What is remembered of one bucket between two looks."""

    def __init__(self, given: int, share: Counters) -> None:
        self.given, self.share = given, share
        self.demand = 0
        self.moved_at_ns: int | None = None

    def look(self, given: int, share: Counters, now_ns: int) -> None:
        """Take over what is seen now."""
        self.demand = smoothed(self.demand, max(0, given - self.given))
        if share != self.share:
            self.moved_at_ns = now_ns
        self.given, self.share = given, share


class Rebalancing:
    """One router's rounds."""

    def __init__(self, directory: Directory, buckets: Buckets, splitting: Splitting) -> None:
        """Nothing runs yet."""
        self._directory, self._buckets, self._splitting = directory, buckets, splitting
        self._memory: dict[tuple[bytes, int], Memory] = {}
        self.moves = self.splits = 0

    async def keep_on(self) -> None:
        """Do a round now and again, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            if self._directory.placement.single is None:
                await self._guarded(self.finish_splits)
                await self._guarded(self._split_hot_ones)
                await self._guarded(self._round)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except CallFailed as failed:
            logger.info("a round over split accounts is left out: %s", failed)
        except Exception:
            logger.exception("a round over split accounts broke")

    # ---- shares ----

    async def _round(self) -> None:
        for split in self._buckets.map.splits:
            deadline_s = asyncio.get_running_loop().time() + ROUND_S_MAX
            await self.balance(await self._buckets.collect(split.account, deadline_s), time.time_ns(), deadline_s)

    async def balance(self, state: SplitState, now_ns: int, deadline_s: float) -> None:
        """Look at one account, and begin the moves that its groups' demand asks for. Raises nothing."""
        side = limited_side(next(one.flags for one in state.buckets))
        if side is None:
            return  # nothing is ever short
        pulls = self._pulls(state, side, now_ns)
        nonce = (now_ns // MINUTE_NS).to_bytes(8, "little")
        posted = await asyncio.gather(*(self._buckets.moved(state, side, pull, nonce, deadline_s) for pull in pulls))
        self.moves += sum(posted)

    def _pulls(self, state: SplitState, side: Side, now_ns: int) -> list[Pull]:
        seen = []
        for one in state.buckets:
            key, given = (state.account, one.group), given_of(one, side)
            memory = self._memory.setdefault(key, Memory(given, one.share))
            memory.look(given, one.share, now_ns)
            seen.append(Bucket(one.group, max(0, pool_of(one, side)), memory.demand, memory.moved_at_ns))
        moves = next_moves(seen, now_ns)
        pulls = [Pull(move.source, share.group, share.amount) for move in moves for share in move.shares]
        for group in {group for pull in pulls for group in (pull.giver, pull.taker)}:
            self._memory[state.account, group].moved_at_ns = now_ns
        return pulls

    # ---- splits that nobody finished ----

    async def finish_splits(self) -> None:
        """Bring to their end splits that their homes have logged and the directory has not: whoever began them died.

        Till then the account has one bucket, at home, whose shortness no other group can relieve. Raises `CallFailed`.
        """
        deadline_s = asyncio.get_running_loop().time() + ROUND_S_MAX
        found = await asyncio.gather(
            *(self._buckets.listed(group, deadline_s) for group in self._directory.clients if group != DIRECTORY_GROUP)
        )
        begun = {account for accounts in found for account in accounts if account not in self._buckets.map}
        if begun:
            await self._buckets.refresh()  # what was finished since is there
        for account in sorted(begun - {one.account for one in self._buckets.map.splits}):
            await self._splitting.split(account, deadline_s)
            logger.warning("account %s was split at its home only: its split is finished", account.hex())

    # ---- the policy ----

    async def _split_hot_ones(self) -> None:
        """Split what the groups' leaders advise to split, if the policy says so."""
        hot = self._directory.config.hot_accounts
        if hot.policy is not HotAccountsPolicy.AUTOMATIC:
            return
        for one in await self._advised():
            if len(self._buckets.map) >= hot.accounts_max:
                logger.info("%d accounts are split, the most that hot_accounts allows", hot.accounts_max)
                return
            if one.account not in self._buckets.map:
                await self._split(one)

    async def _split(self, one: HotAccount) -> None:
        deadline_s = asyncio.get_running_loop().time() + ROUND_S_MAX
        try:
            await self._splitting.split(bytes(one.account), deadline_s)
        except CallFailed as failed:
            logger.warning("account %s is hot and was not split: %s", one.account.hex(), failed)
        else:
            self.splits += 1
            logger.warning("account %s is split by policy: %s", one.account.hex(), one.reason)

    async def _advised(self) -> Sequence[HotAccount]:
        deadline_s = asyncio.get_running_loop().time() + ROUND_S_MAX
        found = list[HotAccount]()
        for group, client in sorted(self._directory.clients.items()):
            request = ReportHeatRequest(groups=[group]).SerializeToString()
            answer = ReportHeatResponse.FromString(await client.call(REPORT_HEAT, request, deadline_s, CALLER))
            found += [one for heat in answer.groups for one in heat.accounts if one.split_advised]
        return sorted(found, key=lambda one: (-one.transfers_per_s, one.account))
