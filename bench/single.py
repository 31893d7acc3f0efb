"""Single posts through the client library: many in flight from one asyncio client, or one after the other."""

import asyncio
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from postingengine import AsyncClient


class SingleRun(NamedTuple):
    """What one run of single posts did."""

    posted: int
    seconds: float
    latencies_ms: tuple[float, ...]
    """One per post, sorted."""
    moved: npt.NDArray[np.int64]
    """Shape (n,): what the posts added to each account, minor units."""


async def post_singles(
    address: str, ids: npt.NDArray[np.uint64], count: int, ledger: int, *, in_flight: int
) -> SingleRun:
    """Post `count` transfers of 1 by single `post()` calls, `in_flight` at a time, between accounts in turn.

    Raises RuntimeError unless every transfer is POSTED.
    """
    accounts = [row.tobytes() for row in ids]
    numbers = iter(range(count))
    latencies: list[float] = []

    async def caller(client: AsyncClient) -> None:
        for number in numbers:
            debit, credit = accounts[number % len(accounts)], accounts[(number * 7 + 1) % len(accounts)]
            if debit == credit:
                continue
            sent = time.perf_counter()
            result = await client.post(debit, credit, 1, ledger=ledger)
            latencies.append((time.perf_counter() - sent) * 1e3)
            if not result.posted:
                raise RuntimeError(f"a single post ended as {result.outcome.name}")

    async with AsyncClient(address) as client:
        started = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(in_flight)))
        seconds = time.perf_counter() - started
    return SingleRun(len(latencies), seconds, tuple(sorted(latencies)), _moved(len(ids), count))


async def post_one_by_one(address: str, ids: npt.NDArray[np.uint64], count: int, ledger: int) -> SingleRun:
    """Post `count` transfers, each after the answer to the one before: the latency of an idle cluster."""
    return await post_singles(address, ids, count, ledger, in_flight=1)


def _moved(accounts: int, count: int) -> npt.NDArray[np.int64]:
    numbers = np.arange(count)
    debit, credit = numbers % accounts, (numbers * 7 + 1) % accounts
    moved = np.zeros(accounts, np.int64)
    np.subtract.at(moved, debit, 1)
    np.add.at(moved, credit, 1)
    return moved
