"""Posting through the router: read the batch, post it over its groups, answer in order."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

import numpy as np

from engine.config import LimitsConfig
from engine.core.records import Words
from engine.failpoints import Failpoint, is_armed, reach
from engine.rpc.answers import Answered, no_results, post_response
from engine.rpc.batch import Batch, read_batch
from engine.rpc.checks import faults_in, refuse_commands
from engine.rpc.faults import CallFailed, Fault, Reason, at_item, unavailable
from engine.rpc.link_frames import Metadata
from engine.rpc.streams import NumberedBatch, Streams
from router.calls import ServerContext, caller_of, deadline_of
from router.chains.answers import BatchAnswers
from router.chains.network import LocalAnswers, Network
from router.chains.posting import BatchRun
from router.chains.sending import SentAs
from router.directory import Directory
from router.local_posts import Epochs, post_local, post_until_closed
from router.split.buckets import Buckets

STALE_PAUSE_S: Final = 0.05
AFTER_REPLY_S: Final = 0.005
"""When a failpoint takes an answer for sent."""
DRAIN_S_MAX: Final = 2.0
"""How long a router that stops waits for COMMITs behind its answers; the rest is the couriers'."""


class Posting:
    """PostTransfers and StreamTransfers."""

    def __init__(self, directory: Directory, limits: LimitsConfig, buckets: Buckets) -> None:
        """Send through the groups of `directory`."""
        self._directory, self._limits, self._buckets = directory, limits, buckets
        self._lanes, self._behind = buckets.lanes, buckets.behind

    async def drain(self) -> None:
        """Let what is sent behind answers arrive, within a bound."""
        await asyncio.wait({asyncio.create_task(self._behind.drain())}, timeout=DRAIN_S_MAX)

    async def post_transfers(self, request: bytes, context: ServerContext) -> bytes:
        """Serve PostTransfers on the wire's own bytes."""
        deadline_s = deadline_of(context, self._limits.post_deadline_ms_default)
        return await self._post(request, deadline_s, caller_of(context))

    async def stream_transfers(self, streams: Streams, context: ServerContext) -> None:
        """Serve StreamTransfers; raises `CallFailed`."""
        caller, default_ms = caller_of(context), self._limits.post_deadline_ms_default

        def post_one(numbered: NumberedBatch) -> Awaitable[bytes]:
            deadline_s = time.monotonic() + (numbered.timeout_ms or default_ms) / 1000
            return self._post(numbered.batch, deadline_s, caller)

        await streams.serve(context, post_one)

    def _post(self, request: bytes, deadline_s: float, caller: Metadata) -> Awaitable[bytes]:
        single = self._directory.placement.single
        if single is not None:
            return post_until_closed(self._directory.client(single), request, deadline_s, caller)
        return self._post_over_groups(request, deadline_s, caller)

    async def _post_over_groups(self, request: bytes, deadline_s: float, caller: Metadata) -> bytes:
        batch = read_batch(request)
        refuse_commands(batch.words)
        found = faults_in(batch.words, batch.faults)
        answered = await self._post_valid(batch, found, deadline_s, caller)
        reach(Failpoint.ROUTER_BEFORE_REPLY)
        if is_armed():
            asyncio.get_running_loop().call_later(AFTER_REPLY_S, reach, Failpoint.ROUTER_AFTER_REPLY)
        return post_response(answered, is_packed=batch.is_packed)

    async def _post_valid(self, batch: Batch, found: list[Fault], deadline_s: float, caller: Metadata) -> Answered:
        """Post the items that have no fault yet; raises `CallFailed` where nothing at all came back."""
        count = len(batch.words)
        valid = np.ones(count, np.bool_)
        valid[[fault.item or 0 for fault in found]] = False
        items = np.flatnonzero(valid)
        posted = await self._post_rows(
            batch.words if not found else batch.words[items], batch.attempt, deadline_s, caller
        )
        failed = [at_item(fault, int(items[row])) for row, fault in posted.faults.items()]
        if len(failed) == count and len({fault._replace(item=None) for fault in failed}) == 1:
            raise CallFailed(failed[0]._replace(item=None))
        results = no_results(count)
        results[items] = posted.results
        faults = sorted(found + failed, key=lambda fault: fault.item or 0)
        return Answered(results, faults, sorted(posted.log_indexes.items()))

    async def _post_rows(self, words: Words, attempt: int, deadline_s: float, caller: Metadata) -> BatchAnswers:
        """Post rows under today's placement; those that it was too old for, again under a newer one."""
        epochs = self._epochs()
        answers = await self._run(words, attempt, deadline_s, caller).run()
        while answers.stale:
            rows = np.array(answers.stale)
            await asyncio.gather(self._directory.refresh(), self._buckets.refresh())
            if self._epochs() == epochs:
                if time.monotonic() + STALE_PAUSE_S >= deadline_s:
                    answers.give_up(rows, unavailable(Reason.PLACEMENT_STALE, _STALE))
                    break
                await asyncio.sleep(STALE_PAUSE_S)
            epochs = self._epochs()
            answers.take_over(rows, await self._run(words[rows], attempt, deadline_s, caller).run())
        return answers

    def _epochs(self) -> tuple[int, int]:
        return self._directory.placement.epoch, self._buckets.map.epoch

    def _run(self, words: Words, attempt: int, deadline_s: float, caller: Metadata) -> BatchRun:
        placement = self._directory.placement

        async def local(group: int, rows: Words, until_s: float, split_epoch: int) -> LocalAnswers:
            client = self._directory.client(group)
            return await post_local(client, rows, attempt, Epochs(placement.epoch, split_epoch), until_s, caller)

        lane_of, splits = self._lanes.lane, self._buckets.splits()
        network = Network(lane_of, local, placement.group_of_slot, placement.hash_seed, self._behind, splits)
        return BatchRun(words, network, SentAs(caller, placement.epoch, attempt), deadline_s)


_STALE: Final = (
    "the router's placement is older than the groups', and no node has told it the new one; try again shortly"
)
