"""UpdateAccounts of split accounts: home first, then the other buckets are brought up to what home says (DESIGN §8).

Freezing takes effect bucket by bucket, and is told once all have it. Closing needs a proof that the sum is zero: the
account is frozen in every bucket before, so that nothing external comes or goes any more; then what the buckets have is
brought home, whose book alone decides.
"""

import asyncio
import secrets
from collections.abc import Sequence

from engine.core.outcomes import Outcome
from engine.core.records import AccountFlag
from engine.core.split.buckets import Presence
from engine.core.split.pools import Side, balance_of, drains_to, held_of, limited_side
from engine.rpc.faults import CallFailed, Fault, Reason, fate_unknown, refused, unavailable
from postingengine.v1.account_pb2 import AccountResult, AccountUpdate
from router.directory import Directory
from router.split.buckets import NONCE_BYTES, Buckets
from router.split.funds import SplitState


class SplitUpdates:
    """What a router does before and after updates of accounts that may be split."""

    def __init__(self, directory: Directory, buckets: Buckets) -> None:
        """Reach the groups of `directory`."""
        self._directory, self._buckets = directory, buckets

    async def before(self, updates: Sequence[AccountUpdate], deadline_s: float) -> dict[int, Fault]:
        """Prepare what closes split accounts; return, by item, why it cannot be closed now."""
        closing = [item for item, one in enumerate(updates) if one.closed and len(one.account) == 16]
        split = await self._split([bytes(updates[item].account) for item in closing], deadline_s)
        chosen = [item for item in closing if bytes(updates[item].account) in split]
        found = await asyncio.gather(*(self._drained(bytes(updates[item].account), deadline_s) for item in chosen))
        return {item: fault for item, fault in zip(chosen, found, strict=True) if fault is not None}

    async def after(
        self, updates: Sequence[AccountUpdate], results: Sequence[AccountResult], deadline_s: float
    ) -> dict[int, Fault]:
        """Bring the other buckets of what was updated up to date; return, by item, why that is not known yet."""
        updated = [item for item, one in enumerate(results) if int(one.outcome) == Outcome.ACCOUNT_UPDATED]
        try:
            split = await self._split([bytes(updates[item].account) for item in updated], deadline_s)
        except CallFailed as failed:
            return dict.fromkeys(updated, fate_unknown(f"{failed.fault.message} {_AGAIN}"))
        chosen = [item for item in updated if bytes(updates[item].account) in split]
        found = await asyncio.gather(*(self._spread(bytes(updates[item].account), deadline_s) for item in chosen))
        return {item: fault for item, fault in zip(chosen, found, strict=True) if fault is not None}

    async def _split(self, accounts: Sequence[bytes], deadline_s: float) -> set[bytes]:
        """Return those that are split, by the word of their homes; raises `CallFailed`."""
        if self._directory.placement.single is not None or not accounts:
            return set()
        by_home: dict[int, list[bytes]] = {}
        for account in dict.fromkeys(accounts):
            by_home.setdefault(self._buckets.home_of(account), []).append(account)
        answers = await asyncio.gather(*(self._buckets.held(at, own, deadline_s) for at, own in by_home.items()))
        return {
            account
            for own, (held, _) in zip(by_home.values(), answers, strict=True)
            for account, one in zip(own, held, strict=True)
            if one.presence is Presence.BUCKET
        }

    async def _spread(self, account: bytes, deadline_s: float) -> Fault | None:
        others = sorted(set(self._directory.clients) - {self._buckets.home_of(account)})
        try:
            await asyncio.gather(*(self._buckets.make(group, [account], deadline_s) for group in others))
        except CallFailed as failed:
            return fate_unknown(f"{failed.fault.message} {_AGAIN}")
        return None

    # ---- closing ----

    async def _drained(self, account: bytes, deadline_s: float) -> Fault | None:
        try:
            state = await self._buckets.collect(account, deadline_s)
            if any(one.flags & AccountFlag.CLOSED for one in state.buckets if one.group == state.home):
                return None  # asked again: home has the answer
            if not all(one.flags & AccountFlag.FROZEN for one in state.buckets) or not _is_level(state):
                return refused(Reason.ACCOUNT_NOT_FROZEN, _FREEZE)
            side, nonce = limited_side(next(one.flags for one in state.buckets)), secrets.token_bytes(NONCE_BYTES)
            pulls = drains_to(state.home, state.buckets)
            await asyncio.gather(
                *(self._buckets.moved(state, side or Side.DEBIT, pull, nonce, deadline_s) for pull in pulls)
            )
            await self._buckets.behind.drain()
            state = await self._buckets.collect(account, deadline_s)
        except CallFailed as failed:
            return failed.fault
        return None if _is_at_home(state) else unavailable(Reason.MERGE_UNFINISHED, _NOT_HOME)


def _is_level(state: SplitState) -> bool:
    """Whether every bucket has what home says."""
    return len(set(state.versions.values())) == 1


def _is_at_home(state: SplitState) -> bool:
    others = [one for one in state.buckets if one.group != state.home]
    return not any(balance_of(one) or held_of(one, Side.DEBIT) or held_of(one, Side.CREDIT) for one in others)


_AGAIN = "(the home of the account has the update; ask again with the same id until all its buckets have it)"
_FREEZE = "a split account is closed in two updates: freeze it first, so that its sum can be proven to be zero"
_NOT_HOME = "reservations are open on the account, or moves between its buckets are on their way; try again shortly"
