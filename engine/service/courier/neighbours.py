"""The groups as a courier reaches them: the others by their leaders' rpc, its own without leaving the process."""

import asyncio
import time
from typing import Final

from engine.config import group_config
from engine.core.chains.step_answers import StepAnswers, decode_answers
from engine.core.chains.step_record import StepRecord, encode_steps
from engine.exit_codes import EngineStopped
from engine.rpc.faults import CallFailed, Reason, unavailable
from engine.rpc.group_client import GroupClient, client_of
from engine.rpc.steps import ON_RECORD, Sender, send_steps
from engine.service.callers import IDENTITY_KEY
from engine.service.courier.outbox import Send
from engine.service.replica import Replica
from engine.service.stepping import step
from engine.service.submission import Caller

CALL_S_MAX: Final = 2.0
"""A group that has not answered a courier by then is left alone until the next scan."""
AGAIN: Final = 2
"""Some router tried before: what it got done is mostly on record."""


class Neighbours:
    """Ways to send steps, one for each group; connections are opened when they are first needed."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._caller = Caller(f"courier of group {replica.place.group}", AGAIN)
        self._sender = Sender(replica.place.config.cluster_id, ON_RECORD)
        self._clients: dict[int, GroupClient] = {}

    def way_to(self, group: int) -> Send:
        """Return how steps get to a group."""
        if group == self._replica.place.group:
            return self._log_here

        async def send(record: StepRecord) -> StepAnswers:
            return await self._send(group, record)

        return send

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    async def _log_here(self, record: StepRecord) -> StepAnswers:
        deadline_s = asyncio.get_running_loop().time() + CALL_S_MAX
        return (await step(self._replica, record, self._caller, deadline_s, looks_first=True)).answers

    async def _send(self, group: int, record: StepRecord) -> StepAnswers:
        stepped = await send_steps(
            self._client(group),
            self._sender,
            record.rows.tobytes(),
            encode_steps(record),
            time.monotonic() + CALL_S_MAX,
            attempt=AGAIN,
            metadata=((IDENTITY_KEY, self._caller.identity),),
        )
        return decode_answers(stepped.answers)

    def _client(self, group: int) -> GroupClient:
        if group not in self._clients:
            try:
                section = group_config(self._replica.place.config, group)
            except EngineStopped as unknown:
                raise CallFailed(unavailable(Reason.GROUP_UNKNOWN, str(unknown))) from unknown
            self._clients[group] = client_of(self._replica.place.config, section)
        return self._clients[group]
