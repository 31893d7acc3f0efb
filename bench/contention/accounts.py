"""Who takes part in the contention workloads, and in which group each of them lives."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from bench.bulk import ACCOUNTS_A_CALL, create_accounts, open_stub
from bench.cluster import BenchCluster
from bench.contention.sending import AGAIN, PAUSE_S
from bench.cross import groups_of
from postingengine.v1 import admin_service_pb2_grpc, posting_service_pb2_grpc
from postingengine.v1.account_pb2 import AccountFlag
from postingengine.v1.admin_service_pb2 import SplitAccountRequest

LEDGER: Final = 1
FEES: Final = 0
PAYER: Final = 1
EMPLOYER: Final = 2
PURSE: Final = 3
BANK: Final = 4
NAMED: Final = 5
"""The first accounts: the one that all fees go to; the one that pays everybody; the employer; the one that is drained;
and the one that their money comes from."""
LIMITED: Final = (PAYER, EMPLOYER, PURSE)
MERCHANTS: Final = 100
CREATED_S_MAX: Final = 90.0


class Cast(NamedTuple):
    """All accounts of a run, by number."""

    ids: npt.NDArray[np.uint64]
    """Shape (n, 2), as words."""
    groups: npt.NDArray[np.uint16]
    """Shape (n,): where each lives."""
    ordinary: range
    """Unlimited accounts, for the mixes."""
    merchants: range
    employees: range
    """Limited: they cannot spend more than they have."""

    def numbers_of(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the numbers of accounts of this cast by their ids, shape (m, 2)."""
        order = np.argsort(self.ids[:, 0])  # the first halves are random: no two are equal
        found: npt.NDArray[np.int64] = order[np.searchsorted(self.ids[order, 0], ids[:, 0])]
        return found


def cast_of(cluster: BenchCluster, *, ordinary: int, employees: int, seed: int) -> Cast:
    """Choose accounts at random; equal seeds choose equal ids. Nothing is created yet."""
    merchants = NAMED + ordinary
    count = merchants + MERCHANTS + employees
    ids = np.random.default_rng([seed, 1]).integers(1, 1 << 63, (count, 2), dtype=np.uint64)
    people = merchants + MERCHANTS
    return Cast(ids, groups_of(cluster, ids), range(NAMED, merchants), range(merchants, people), range(people, count))


async def create(stub: "posting_service_pb2_grpc.PostingServiceAsyncStub", cast: Cast) -> None:
    """Create all of them; raises RuntimeError if one is not created."""
    limited = np.zeros(len(cast.ids), bool)
    limited[list(LIMITED)] = True
    limited[cast.employees.start : cast.employees.stop] = True
    await _create(stub, cast.ids[~limited])
    await _create(stub, cast.ids[limited], AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS)


async def split(address: str, accounts: Sequence[bytes], groups: int) -> None:
    """Split accounts through a router; raises `grpc.aio.AioRpcError`."""
    channel, _ = open_stub(address)
    async with channel:
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        for account in accounts:
            await admin.SplitAccount(SplitAccountRequest(account=account, buckets=groups), timeout=CREATED_S_MAX)


async def _create(
    stub: "posting_service_pb2_grpc.PostingServiceAsyncStub", ids: npt.NDArray[np.uint64], *flags: AccountFlag
) -> None:
    """Create accounts part by part; a part that met a fault is asked for again."""
    until_s = time.monotonic() + CREATED_S_MAX
    parts = [ids[start : start + ACCOUNTS_A_CALL] for start in range(0, len(ids), ACCOUNTS_A_CALL)]
    while parts:
        try:
            await create_accounts(stub, parts[-1], ledger=LEDGER, flags=flags)
            parts.pop()
        except grpc.aio.AioRpcError as error:
            if error.code() not in AGAIN or time.monotonic() > until_s:
                raise
            await asyncio.sleep(PAUSE_S)
