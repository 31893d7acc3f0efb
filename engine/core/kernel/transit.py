"""Transit accounts in the compiled kernel: what balances a group's book while money is on its way (DESIGN §7).

One for each other group and ledger; its id is `ff` x 8, then u16 kind = 1, u16 other group, u32 ledger. The first
RESERVE or DECIDE that names the pair makes it, however that ends.
"""

from typing import Final

import numpy as np

from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import FLAGS_WORD, LEDGER_WORD, M32, SHIFT_32, TRANSIT, ledger_known, touch_account
from engine.core.kernel.arrays import ACCOUNT_COUNT, HASH_SEED, Tables
from engine.core.kernel.tables import find_account_anywhere, insert
from engine.core.kernel.u128 import FULL, I64, ONE, U64, ZERO
from engine.core.placement import hash_id

_KIND: Final = np.uint64(1)
_SHIFT_16: Final = np.uint64(16)


@helper
def transit_high(other: U64, ledger: U64) -> U64:
    """Return the upper word of a transit account's id; the lower one is all ones."""
    return _KIND | (other << _SHIFT_16) | ((ledger & M32) << SHIFT_32)


@helper
def find_transit(tables: Tables, other: U64, ledger: U64) -> I64:
    """Return the row of the transit account with another group, or `UNKNOWN`."""
    return find_account_anywhere(tables, FULL, transit_high(other, ledger))


@outlined
def make_transit(tables: Tables, other: U64, ledger: U64, timestamp_ns: U64, position: U64) -> I64:
    """Return the row of the transit account, made now if there is none yet; `UNKNOWN` if the ledger is."""
    row = find_transit(tables, other, ledger)
    if row >= 0 or not ledger_known(tables, ledger & M32):
        return row
    row = np.int64(tables.counters[ACCOUNT_COUNT])
    tables.counters[ACCOUNT_COUNT] += ONE
    account = tables.accounts[row]
    account[:] = ZERO
    account[0], account[1] = FULL, transit_high(other, ledger)
    account[12], account[15] = timestamp_ns, position
    account[LEDGER_WORD] = (ledger & M32) | (ONE << SHIFT_32)
    account[FLAGS_WORD] = TRANSIT
    insert(tables.account_slots, hash_id(account[0], account[1], tables.counters[HASH_SEED]), row)
    touch_account(tables, row)
    return row
