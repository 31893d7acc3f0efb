"""SplitAccount and MergeAccount (DESIGN §8): logged at the account's home first, then in the directory, then elsewhere.

Both run under load and may be repeated. A split that stops half way is no harm: an account whose home alone has a
bucket is routed as before, and any later split goes on from there.
"""

import asyncio
import secrets
from typing import Final

from google.protobuf.message import DecodeError

from engine.config import LimitsConfig
from engine.core.outcomes import Outcome
from engine.core.records import AccountFlag
from engine.core.split.buckets import Presence, is_internal_id
from engine.core.split.pools import Side, drains_to, held_of, limited_side
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Reason
from engine.rpc.typed import uint128
from postingengine.v1.admin_service_pb2 import (
    MergeAccountRequest,
    MergeAccountResponse,
    SplitAccountRequest,
    SplitAccountResponse,
)
from router.calls import Handler, ServerContext, deadline_of
from router.directory import Directory
from router.split.buckets import DIRECTORY_GROUP, NONCE_BYTES, Buckets, Held, row_of
from router.split.funds import SplitState

SPLITS_MAX: Final = 4096
"""Accounts ever split in one cluster: every router keeps them in memory."""
MERGE_S_MAX: Final = 60.0
MERGE_PAUSE_S: Final = 0.1
ID_BYTES: Final = 16


class Splitting:
    """Splits and merges accounts."""

    def __init__(self, directory: Directory, limits: LimitsConfig, buckets: Buckets) -> None:
        """Act on the groups of `directory`."""
        self._directory, self._limits, self._buckets = directory, limits, buckets

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by rpc name."""
        return {"SplitAccount": self.split_account, "MergeAccount": self.merge_account}

    async def split_account(self, request: bytes, context: ServerContext) -> bytes:
        """Serve SplitAccount."""
        try:
            asked = SplitAccountRequest.FromString(request)
        except DecodeError as error:
            raise CallFailed(_unreadable()) from error
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        self._check_id(asked.account)
        self._check_number(asked.buckets)
        return (await self.split(bytes(asked.account), deadline_s)).SerializeToString()

    async def merge_account(self, request: bytes, context: ServerContext) -> bytes:
        """Serve MergeAccount."""
        try:
            asked = MergeAccountRequest.FromString(request)
        except DecodeError as error:
            raise CallFailed(_unreadable()) from error
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        self._check_id(asked.account)
        until_s = min(deadline_s, asyncio.get_running_loop().time() + MERGE_S_MAX)
        return (await self.merge(bytes(asked.account), until_s)).SerializeToString()

    # ---- splitting ----

    async def split(self, account: bytes, deadline_s: float) -> SplitAccountResponse:
        """Split an account; `deadline_s` is on the loop's clock. Raises `CallFailed`."""
        home = self._buckets.home_of(account)
        held, in_directory = await asyncio.gather(
            self._buckets.held(home, [account], deadline_s),
            self._buckets.held(DIRECTORY_GROUP, [account], deadline_s),
        )
        at_home, known = held[0][0], in_directory[0][0]
        self._check_home(at_home, known)
        row = row_of(account, at_home)
        for group in dict.fromkeys((home, DIRECTORY_GROUP)):
            _, epoch = await self._made(group, row, deadline_s)
        others = sorted(set(self._directory.clients) - {home, DIRECTORY_GROUP})
        reached = await asyncio.gather(
            *(self._made(group, row, deadline_s) for group in others), return_exceptions=True
        )
        await self._buckets.refresh()
        made = [group for group, one in zip(others, reached, strict=True) if not isinstance(one, BaseException)]
        return SplitAccountResponse(epoch=epoch, home=home, groups=sorted({home, DIRECTORY_GROUP, *made}))

    def _check_home(self, home: Held, known: Held) -> None:
        if home.presence is Presence.ABSENT:
            message = "no account of that id; create it before it is split"
            raise CallFailed(faults.Fault(faults.NOT_FOUND, Reason.ACCOUNT_NOT_FOUND, message))
        if home.presence is Presence.INTERNAL:
            raise CallFailed(_internal())
        if home.bucket.flags & AccountFlag.CLOSED:
            raise CallFailed(faults.refused(Reason.ACCOUNT_CLOSED, "the account is closed: nothing is posted to it"))
        if known.presence is Presence.BUCKET and home.presence is Presence.BUCKET:
            message = (
                "the account is split already, and a split is for ever: a merge brings its money home and keeps its"
                " buckets, which fill again as they are paid in or asked for; there is nothing to split again"
            )
            raise CallFailed(faults.refused(Reason.ACCOUNT_SPLIT_ALREADY, message))
        if len(self._buckets.map) >= SPLITS_MAX:
            message = f"{SPLITS_MAX} accounts are split already, which is the most"
            raise CallFailed(faults.refused(Reason.BUCKETS_INVALID, message))

    async def _made(self, group: int, row: bytes, deadline_s: float) -> tuple[Outcome, int]:
        ((outcome, position),) = await self._buckets.send_rows(group, [row], deadline_s)
        if outcome is not Outcome.BUCKET_MADE:
            raise CallFailed(_refused_by(outcome, group))
        return outcome, position

    def _check_id(self, account: bytes) -> None:
        if len(account) != ID_BYTES or account == bytes(ID_BYTES):
            message = f"account has {len(account)} bytes; an id has {ID_BYTES}, not all zeros"
            raise CallFailed(faults.invalid(Reason.ID_LENGTH_INVALID, message, field="account"))
        if is_internal_id(account):
            raise CallFailed(_internal())

    def _check_number(self, buckets: int) -> None:
        groups = len(self._directory.clients)
        if groups == 1:
            message = "the cluster has one group, in which a hot account costs nothing extra: there is nothing to split"
            raise CallFailed(faults.invalid(Reason.BUCKETS_INVALID, message, field="buckets"))
        if buckets != groups:
            message = f"an account is split into one bucket for each group: ask for {groups}, not {buckets}"
            raise CallFailed(faults.invalid(Reason.BUCKETS_INVALID, message, field="buckets"))

    # ---- merging ----

    async def merge(self, account: bytes, deadline_s: float) -> MergeAccountResponse:
        """Bring an account's money home; raises `CallFailed`."""
        held, _ = await self._buckets.held(DIRECTORY_GROUP, [account], deadline_s)
        if held[0].presence is not Presence.BUCKET:
            message = "the account was never split: there is nothing to merge"
            raise CallFailed(faults.refused(Reason.ACCOUNT_NOT_SPLIT, message))
        merging = _Merging(self._buckets)
        while not await merging.round(account, deadline_s):
            if asyncio.get_running_loop().time() + MERGE_PAUSE_S >= deadline_s:
                raise CallFailed(faults.unavailable(Reason.MERGE_UNFINISHED, merging.unfinished()))
            await asyncio.sleep(MERGE_PAUSE_S)
        home = self._buckets.home_of(account)
        return MergeAccountResponse(home=home, moved=uint128(merging.moved), moves=merging.moves)


class _Merging:
    """One merge: a bucket is done once nothing was held there, and what could be spent there then was brought home."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._done: set[int] = set()
        self._holding: list[int] = []
        self.moved = self.moves = 0

    async def round(self, account: bytes, deadline_s: float) -> bool:
        """Move what there is; return whether every bucket is done."""
        state = await self._buckets.collect(account, deadline_s)
        flags = next((one.flags for one in state.buckets), 0)
        side = limited_side(flags)
        pulls, nonce = drains_to(state.home, state.buckets), secrets.token_bytes(NONCE_BYTES)
        posted = await asyncio.gather(
            *(self._buckets.moved(state, side or Side.DEBIT, pull, nonce, deadline_s) for pull in pulls)
        )
        failed = set[int]()
        for pull, is_posted in zip(pulls, posted, strict=True):
            if is_posted:
                self.moved, self.moves = self.moved + pull.amount, self.moves + 1
            else:
                failed.add(pull.giver if pull.taker == state.home else pull.taker)
        self._holding = _holding(state, side)
        others = {one.group for one in state.buckets} - {state.home}
        self._done |= others - failed - set(self._holding)
        return others <= self._done

    def unfinished(self) -> str:
        """Say what it waited for."""
        where = f"reservations are open in group {self._holding[0]}" if self._holding else "other callers were quicker"
        return f"not everything could be brought home in time, as {where}; ask again later"


def _holding(state: SplitState, side: Side | None) -> list[int]:
    """Return the groups, other than home, whose bucket has something reserved."""
    sides = (Side.DEBIT, Side.CREDIT) if side is None else (side,)
    return [one.group for one in state.buckets if one.group != state.home and any(held_of(one, side) for side in sides)]


def _refused_by(outcome: Outcome, group: int) -> faults.Fault:
    if outcome is Outcome.ACCOUNT_CLOSED:
        return faults.refused(Reason.ACCOUNT_CLOSED, "the account is closed: nothing is posted to it")
    if outcome is Outcome.ACCOUNT_IS_INTERNAL:
        return _internal()
    message = f"group {group} refused the bucket: {outcome.name}"
    return faults.refused(Reason.BUCKETS_INVALID, message)


def _internal() -> faults.Fault:
    message = "this is one of the engine's own accounts; only callers' accounts are split"
    return faults.invalid(Reason.ACCOUNT_IS_INTERNAL, message, field="account")


def _unreadable() -> faults.Fault:
    return faults.invalid(Reason.BATCH_UNREADABLE, "the request is not a readable protobuf message of this call")
