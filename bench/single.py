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


def pairs_in_turn(accounts: int, count: int) -> npt.NDArray[np.int64]:
    """Return pairs (debit, credit) of different accounts' numbers in turn, about `count` of them, shape (n, 2)."""
    numbers = np.arange(count)
    pairs: npt.NDArray[np.int64] = np.stack((numbers % accounts, (numbers * 7 + 1) % accounts), axis=1)
    different: npt.NDArray[np.int64] = pairs[pairs[:, 0] != pairs[:, 1]]
    return different


async def post_singles(
    address: str, ids: npt.NDArray[np.uint64], pairs: npt.NDArray[np.int64], ledger: int, *, in_flight: int
) -> SingleRun:
    """Post transfers of 1 by single `post()` calls, `in_flight` at a time, between pairs (debit, credit) of `ids`.

    Raises RuntimeError unless every transfer is POSTED.
    """
    accounts = [row.tobytes() for row in ids]
    waiting = iter(pairs.tolist())
    latencies: list[float] = []

    async def caller(client: AsyncClient) -> None:
        for debit_number, credit_number in waiting:
            debit, credit = accounts[debit_number], accounts[credit_number]
            sent = time.perf_counter()
            result = await client.post(debit, credit, 1, ledger=ledger)
            latencies.append((time.perf_counter() - sent) * 1e3)
            if not result.posted:
                raise RuntimeError(f"a single post ended as {result.outcome.name}")

    async with AsyncClient(address) as client:
        started = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(in_flight)))
        seconds = time.perf_counter() - started
    return SingleRun(len(latencies), seconds, tuple(sorted(latencies)), _moved(len(ids), pairs))


async def post_one_by_one(
    address: str, ids: npt.NDArray[np.uint64], pairs: npt.NDArray[np.int64], ledger: int
) -> SingleRun:
    """Post transfers, each after the answer to the one before: the latency of an idle cluster."""
    return await post_singles(address, ids, pairs, ledger, in_flight=1)


def _moved(accounts: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    moved = np.zeros(accounts, np.int64)
    np.subtract.at(moved, pairs[:, 0], 1)
    np.add.at(moved, pairs[:, 1], 1)
    return moved
