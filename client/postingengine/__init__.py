"""The client of the posting engine: outcomes are values, only faults are raised, nothing is ever posted twice.

    async with AsyncClient("127.0.0.1:7400") as client:
        result = await client.post(alice, shop, Decimal("12.50"), ledger=1)
        if not result.posted:
            print(result.outcome.name)

`Client` is the same for programs without asyncio. `postingengine.testing` starts an engine for your tests.
"""

from postingengine.accounts import Account, AccountFlag, AccountState, AccountUpdate, Balance, Ledger, ReadPoint
from postingengine.aio import AsyncClient
from postingengine.amounts import AMOUNT_ALL, Amount, minor_units, whole_units
from postingengine.faults import (
    DeadlineExceeded,
    Fault,
    InvalidItem,
    InvalidRequest,
    NotAdmitted,
    NotAllowed,
    NotFound,
    Unavailable,
)
from postingengine.ids import Id, as_id, new_id
from postingengine.reading import Consistency
from postingengine.results import BatchResults, Result
from postingengine.statements import (
    Basis,
    ChainState,
    Entry,
    PostedBalance,
    ReservationState,
    Side,
    StoredTransfer,
)
from postingengine.sync import Client
from postingengine.transfers import Flag, Kind, Time, Transfer
from postingengine.v1.outcomes import Outcome

__all__ = [
    "AMOUNT_ALL",
    "Account",
    "AccountFlag",
    "AccountState",
    "AccountUpdate",
    "Amount",
    "AsyncClient",
    "Balance",
    "Basis",
    "BatchResults",
    "ChainState",
    "Client",
    "Consistency",
    "DeadlineExceeded",
    "Entry",
    "Fault",
    "Flag",
    "Id",
    "InvalidItem",
    "InvalidRequest",
    "Kind",
    "Ledger",
    "NotAdmitted",
    "NotAllowed",
    "NotFound",
    "Outcome",
    "PostedBalance",
    "ReadPoint",
    "ReservationState",
    "Result",
    "Side",
    "StoredTransfer",
    "Time",
    "Transfer",
    "Unavailable",
    "as_id",
    "minor_units",
    "new_id",
    "whole_units",
]
