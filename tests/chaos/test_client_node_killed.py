"""A node that is killed under the client's posts costs time, and nothing else."""

import asyncio
import os
import signal

import pytest

from postingengine import Account, AsyncClient, Outcome, Result, new_id
from postingengine.testing import Engine

POSTS = 4000
KILL_AFTER = 1000
CALLERS = 64
TIMEOUT_S = 120


async def post_all(client: AsyncClient, engine: Engine, debit: bytes, credit: bytes) -> list[Result]:
    """Post one unit each; kill the node once some are acknowledged."""
    results: list[Result] = []
    waiting = iter(range(POSTS))

    async def caller() -> None:
        for number in waiting:
            if number == KILL_AFTER:
                os.kill(engine.node_process_ids[0], signal.SIGKILL)
            results.append(await client.post(debit, credit, 1, ledger=1))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return results


async def test_every_post_gets_its_one_outcome_though_the_node_is_killed() -> None:
    debit, credit = new_id().bytes, new_id().bytes
    with Engine() as engine:
        async with engine.async_client(timeout_s=TIMEOUT_S) as client:
            await client.create_accounts([Account(debit, 1), Account(credit, 1)])
            results = await post_all(client, engine, debit, credit)
            balance = await client.balance(credit)
            stored = await client.transfers([result.id for result in results])
        with pytest.raises(ProcessLookupError):
            os.kill(engine.node_process_ids[0], 0)
    assert {result.outcome for result in results} == {Outcome.POSTED}
    assert len({result.position for result in results}) == POSTS
    assert balance.posted == POSTS
    assert {one and one.position for one in stored} == {result.position for result in results}
