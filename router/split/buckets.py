"""Buckets of split accounts over gRPC: who was ever split, what the groups have of them, and moves between them."""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from engine.core.chains.plan import ChainFault, lay_out
from engine.core.chains.plan import Side as Groups
from engine.core.chains.word import took_effect
from engine.core.known import RESULT
from engine.core.model.state import Event, pack
from engine.core.outcomes import Outcome
from engine.core.records import Kind
from engine.core.split.buckets import Presence, bucket_row, bucket_states
from engine.core.split.pools import Bucket, Counters, Pull, Side
from engine.peer.v1.peer_service_pb2 import (
    MakeBucketsRequest,
    MakeBucketsResponse,
    ReadBucketsRequest,
    ReadBucketsResponse,
)
from engine.rpc.faults import CallFailed, Reason, unavailable
from router.calls import CALLER_KEY
from router.chains.behind import Behind
from router.chains.driven import DrivenChain, OriginalElsewhere, ShortAt
from router.chains.network import Splits
from router.chains.sending import SentAs
from router.directory import Directory
from router.lanes import Lanes
from router.split.funds import Funds, SplitState
from router.split.map import Split, SplitMap

READ_BUCKETS: Final = "/engine.peer.v1.PeerService/ReadBuckets"
MAKE_BUCKETS: Final = "/engine.peer.v1.PeerService/MakeBuckets"
DIRECTORY_GROUP: Final = 0
"""The group whose log keeps the directory."""
REFRESH_S: Final = 10.0
"""An old map is harmless, and every reading costs group 0 an empty record."""
REFRESH_S_MAX: Final = 1.0
FIRST_S: Final = 0.1
"""Between tries as long as the directory was never read."""
MOVE_ID_PERSON: Final = b"move"
NONCE_BYTES: Final = 8
CALLER: Final = ((CALLER_KEY, "router/buckets"),)
NS_PER_S: Final = 1_000_000_000

logger = logging.getLogger(__name__)


class Held(NamedTuple):
    """What one group has of one account."""

    presence: Presence
    ledger: int
    code: int
    version: int
    epoch: int
    share_id: bytes
    bucket: Bucket


class Buckets:
    """All that one router knows and does about split accounts."""

    def __init__(self, directory: Directory, lanes: Lanes, behind: Behind) -> None:
        """Nothing is sent yet."""
        self.lanes, self.behind = lanes, behind
        self.map = SplitMap()
        self.funds = Funds(self.collect, self.move)
        self._directory = directory
        self._is_read = False
        self._reading: asyncio.Task[None] | None = None

    def splits(self) -> Splits:
        """Return what posting a batch needs, by the map as it is now."""
        return Splits(self.map, self.funds, self.make, self.newest)

    # ---- the directory ----

    async def keep_fresh(self) -> None:
        """Read the directory, now and again, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S if self._is_read else FIRST_S)

    async def refresh(self) -> None:
        """Read what group 0 has logged since; callers at the same time share one reading. Keeps the old map where group
        0 does not answer: an old map is harmless."""
        if self._directory.placement.single is not None:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._refresh())
        await asyncio.shield(self._reading)

    async def newest(self) -> SplitMap:
        """Read the directory again, and return the newest map."""
        await self.refresh()
        return self.map

    async def _refresh(self) -> None:
        deadline_s = time.monotonic() + REFRESH_S_MAX
        found, from_epoch = list[Split](), self.map.epoch + 1
        try:
            while from_epoch:
                answer = await self._read(DIRECTORY_GROUP, (), deadline_s, from_epoch)
                found += [Split(bytes(one["id"]), int(one["epoch"])) for one in bucket_states(answer.buckets)]
                from_epoch = answer.next_epoch
        except CallFailed as failed:
            logger.info("the directory of split accounts was not read: %s", failed)
            return
        self._is_read = True
        if found:
            self.map = SplitMap((*self.map.splits, *found))

    async def listed(self, group: int, deadline_s: float) -> list[bytes]:
        """Return the accounts that a group has buckets of, in the order in which it got them; raises `CallFailed`."""
        found, from_epoch = list[bytes](), 1
        while from_epoch:
            answer = await self._read(group, (), deadline_s, from_epoch)
            found += [bytes(one["id"]) for one in bucket_states(answer.buckets)]
            from_epoch = answer.next_epoch
        return found

    # ---- reading ----

    async def held(self, group: int, accounts: Sequence[bytes], deadline_s: float) -> tuple[list[Held], int]:
        """Return what a group has of accounts, and the log index at which that is true. Raises `CallFailed`."""
        answer = await self._read(group, accounts, deadline_s)
        return [_held(one) for one in bucket_states(answer.buckets)], answer.log_index

    async def collect(self, account: bytes, deadline_s: float) -> SplitState:
        """Ask every group for an account's bucket, at the same time; raises `CallFailed`."""
        groups = sorted(self._directory.clients)
        answers = await asyncio.gather(*(self.held(group, [account], deadline_s) for group in groups))
        found = {group: held[0] for group, (held, _) in zip(groups, answers, strict=True)}
        buckets = {group: one for group, one in found.items() if one.presence is Presence.BUCKET}
        if not buckets:
            raise CallFailed(unavailable(Reason.BUCKET_MISSING, "no group has a bucket of that account; try again"))
        home = self.home_of(account)
        one = buckets.get(home) or next(iter(buckets.values()))
        return SplitState(
            account,
            one.ledger,
            one.code,
            home,
            tuple(held.bucket for held in buckets.values()),
            {group: held.share_id for group, held in buckets.items()},
            {group: held.version for group, held in buckets.items()},
            {group: log_index for group, (_, log_index) in zip(groups, answers, strict=True)},
        )

    def home_of(self, account: bytes) -> int:
        """Return the group of an account's slot."""
        return int(self._directory.placement.groups_of_ids([account])[0])

    async def _read(
        self, group: int, accounts: Sequence[bytes], deadline_s: float, from_epoch: int = 0
    ) -> ReadBucketsResponse:
        client = self._directory.client(group)
        request = ReadBucketsRequest(
            cluster_id=self._directory.config.cluster_id, group=group, ids=b"".join(accounts), from_epoch=from_epoch
        )
        return ReadBucketsResponse.FromString(
            await client.call(READ_BUCKETS, request.SerializeToString(), deadline_s, CALLER)
        )

    # ---- making ----

    async def make(self, group: int, accounts: Sequence[bytes], deadline_s: float) -> None:
        """Give a group its buckets of accounts, as their homes have them now; raises `CallFailed`."""
        by_home: dict[int, list[bytes]] = {}
        for account in accounts:
            by_home.setdefault(self.home_of(account), []).append(account)
        rows = []
        for home, own in by_home.items():
            held, _ = await self.held(home, own, deadline_s)
            rows += [row_of(account, one) for account, one in zip(own, held, strict=True) if one.ledger]
        if rows:
            await self.send_rows(group, rows, deadline_s)

    async def send_rows(self, group: int, rows: Sequence[bytes], deadline_s: float) -> list[tuple[Outcome, int]]:
        """Send BUCKET records to a group; return each one's outcome and position. Raises `CallFailed`."""
        request = MakeBucketsRequest(
            cluster_id=self._directory.config.cluster_id, group=group, rows=b"".join(rows), attempt=1
        )
        client = self._directory.client(group)
        answer = MakeBucketsResponse.FromString(
            await client.call(MAKE_BUCKETS, request.SerializeToString(), deadline_s, CALLER)
        )
        results = np.frombuffer(answer.results, RESULT)
        return [(Outcome(int(one["outcome"])), int(one["position"])) for one in results]

    # ---- moving ----

    async def move(self, state: SplitState, side: Side, pulls: Sequence[Pull], deadline_s: float) -> int:
        """Move money between buckets; return how many moves were posted. Raises nothing: it is tried again."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return sum(await asyncio.gather(*(self.moved(state, side, pull, nonce, deadline_s) for pull in pulls)))

    async def moved(self, state: SplitState, side: Side, pull: Pull, nonce: bytes, deadline_s: float) -> bool:
        """Post one move under an id derived from what it moves and the nonce: equal ones are posted once."""
        row, groups = move_row(state, side, pull, nonce)
        chain = lay_out(row, [groups])
        if isinstance(chain, ChainFault):
            return False
        left_ns = int(max(0.0, deadline_s - time.monotonic()) * NS_PER_S)
        sent_as = SentAs(CALLER, self._directory.placement.epoch)
        driven = DrivenChain(chain, self.lanes.lane, sent_as, time.time_ns() + left_ns)
        try:
            told = await driven.until_answered(deadline_s)
        except (CallFailed, OriginalElsewhere, ShortAt) as failed:
            logger.info("a move between buckets has no outcome here: %s", failed)
            return False
        self.behind.send(1, driven.to_the_end)
        return took_effect(told.word)


def row_of(account: bytes, held: Held) -> bytes:
    """Return the BUCKET record that carries what an account's home says of it."""
    return bucket_row(account, ledger=held.ledger, code=held.code, flags=held.bucket.flags, version=held.version)


def move_row(state: SplitState, side: Side, pull: Pull, nonce: bytes) -> tuple[bytes, Groups]:
    """Return the record of a move, 128 bytes, and the groups of its two sides."""
    named = state.account + pull.giver.to_bytes(2, "little") + pull.taker.to_bytes(2, "little") + nonce
    move_id = hashlib.blake2b(named, digest_size=16, person=MOVE_ID_PERSON).digest()
    debit, credit = (pull.giver, pull.taker) if side is Side.DEBIT else (pull.taker, pull.giver)
    event = Event(
        id=move_id,
        kind=Kind.POST,
        debit=state.shares[debit],
        credit=state.shares[credit],
        amount=pull.amount,
        ledger=state.ledger,
        code=state.code,
    )
    return pack(event), Groups(debit, credit)


def _held(one: np.void) -> Held:
    bucket = Bucket(
        int(one["group"]),
        int(one["flags"]),
        Counters(*(_number(one, name) for name in _COUNTERS)),
        Counters(*(_number(one, f"share_{name}") for name in _COUNTERS)),
        _number(one, "overdraft"),
        _number(one, "given_back"),
    )
    ledger, code, version, epoch = (int(one[name]) for name in ("ledger", "code", "version", "epoch"))
    return Held(Presence(int(one["presence"])), ledger, code, version, epoch, bytes(one["share_id"]), bucket)


def _number(one: np.void, name: str) -> int:
    return int(one[f"{name}_low"]) | int(one[f"{name}_high"]) << 64


_COUNTERS: Final = ("debits_posted", "credits_posted", "debits_reserved", "credits_reserved")
