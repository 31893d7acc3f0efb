"""The state of one group, in arrays: accounts, open reservations, and the replicated settings.

`apply_events`, `apply_settings` and `replay_rows` (`engine.core.events`) change it; storage saves and restores it. It
is changed by one thread at a time, and read under the same rule.

Open reservations are rows of sixteen words: 0,1 id; 2,3 debit account; 4,5 credit account; 6,7 what is left; 8,9 what
was reserved; 10 deadline (ns, 0: never); 11 timestamp (ns) and 12 journal position of the RESERVE; 13 row of the debit
account | row of the credit account << 32; 14 ledger; 15 one if the row is open, zero if it is free. The hold of a
cross-group chain has in word 14 also decider + 1 << 32 and its other group + 1 << 48, and, where its decider runs no
side of it, no account rows (all ones in word 13). Where another group decides, 10 is for the courier alone, 12 is the
position of the HOLD, and 15 may be one more than an `Ended`: it is done, but a COMMIT decided earlier is still to come.

Open chains, secured here and waiting for their decider's word, are rows of sixteen words: 0,1 id; 2,3 digest; 4,5 the
amount secured, of a chain of one leg; 6 position of the first RESERVE row; 7 legs | decider << 16; 8 when the courier
may abort (ns, 0: never); 9 timestamp (ns) of the first RESERVE row; 10 rows of the debit and the credit account as in
13 above, of a chain of one leg; 11 a hash of the body and the sides of a chain that is one POST of a given amount, by
which its COMMIT is known without a look at the journal, else zero; 15 one if the row is open. Transit accounts are
accounts like others (`transit_id`).

Nothing else is state: `BookScalars`, the account rows, the rows of open reservations and chains, and the settings are
all there is to save, and `restore` builds the hash tables and the heap of deadlines anew. `last_timestamp_ns` is that
of the last journal row, so a log record that stores no row changes nothing at all.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.kernel.arrays import (
    ACCOUNT_COUNT,
    CHAIN_COUNT,
    CHAIN_FREE_COUNT,
    CHAIN_HIGH,
    COUNTERS,
    DEADLINE_COUNT,
    FREE_COUNT,
    GROUP,
    HASH_SEED,
    LAST_TIMESTAMP,
    NEXT_POSITION,
    RESERVATION_COUNT,
    RESERVATION_HIGH,
    Tables,
    U64Array,
)
from engine.core.kernel.deadlines import fill_deadlines, sweep_deadlines
from engine.core.kernel.tables import find_accounts_here, find_rows, index_accounts, index_reservations
from engine.core.limits import (
    ACCOUNTS_MAX,
    EXPIRIES_PER_RECORD_MAX,
    OPEN_CHAINS_MAX,
    OPEN_RESERVATIONS_MAX,
    SLOTS,
)
from engine.core.records import ACCOUNT, RECORD_WORDS, Words
from engine.core.settings import Settings, group_of_slots
from engine.exit_codes import ExitCode, require

CHUNK_ROWS: Final = 4096
"""Rows of one chunk: 512 KiB, the unit in which changed rows are noted and saved."""
_CACHE_LINE_BYTES: Final = 64
_STALE_DEADLINES_MIN: Final = 1024
_NO_ROWS: Final[Words] = np.empty((0, RECORD_WORDS), np.uint64)


class BookScalars(NamedTuple):
    """What there is to save beside the rows and the settings."""

    account_count: int
    last_timestamp_ns: int
    next_position: int


class Book:
    """One group's accounts and open reservations. See the module's docstring."""

    def __init__(
        self,
        group: int,
        *,
        accounts: int = CHUNK_ROWS,
        reservations: int = CHUNK_ROWS,
        chains: int = CHUNK_ROWS,
        expiries_per_record_max: int = EXPIRIES_PER_RECORD_MAX,
    ) -> None:
        """Make an empty book of `group`, with room for so many rows; it knows no ledger until settings are applied."""
        self.group = group
        self.settings: Settings | None = None
        self.expiries_per_record_max = expiries_per_record_max
        counters = np.zeros(COUNTERS, np.uint64)
        counters[GROUP] = group
        self.tables = Tables(
            accounts=_aligned_rows(accounts),
            account_slots=_empty_slots(accounts),
            reservations=_aligned_rows(reservations),
            reservation_slots=_empty_slots(reservations),
            free_reservations=np.zeros(reservations, np.uint64),
            deadlines=np.zeros((2 * reservations + _STALE_DEADLINES_MIN, 3), np.uint64),
            slot_is_ours=np.zeros(SLOTS, np.bool_),
            ledgers=np.zeros(0, np.uint64),
            dirty_accounts=np.zeros(_chunks(accounts), np.uint8),
            dirty_reservations=np.zeros(_chunks(reservations), np.uint8),
            counters=counters,
            chains=_aligned_rows(chains),
            chain_slots=_empty_slots(chains),
            free_chains=np.zeros(chains, np.uint64),
        )

    @classmethod
    def restore(
        cls,
        group: int,
        settings: Settings | None,
        scalars: BookScalars,
        account_chunks: Iterable[Words],
        reservation_rows: Words,
        chain_rows: Words = _NO_ROWS,
    ) -> "Book":
        """Build a book from what was saved: account rows in chunks of any length, in row order; rows of reservations
        and of chains, of which free ones are skipped. Nothing is dirty afterwards. Raises `EngineStopped(DATA_DAMAGED)`
        if rows lack."""
        opened, chains = reservation_rows[reservation_rows[:, 15] != 0], chain_rows[chain_rows[:, 15] != 0]
        rooms = _room(scalars.account_count), _room(len(opened)), _room(len(chains))
        book = cls(group, accounts=rooms[0], reservations=rooms[1], chains=rooms[2])
        filled = 0
        for chunk in account_chunks:
            require(filled + len(chunk) <= scalars.account_count, ExitCode.DATA_DAMAGED, _ROWS_DIFFER)
            book.tables.accounts[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        require(filled == scalars.account_count, ExitCode.DATA_DAMAGED, _ROWS_DIFFER)
        book.tables.reservations[: len(opened)] = opened
        book.tables.chains[: len(chains)] = chains
        counters = book.tables.counters
        counters[ACCOUNT_COUNT], counters[RESERVATION_COUNT], counters[RESERVATION_HIGH] = filled, *(2 * [len(opened)])
        counters[CHAIN_COUNT], counters[CHAIN_HIGH] = len(chains), len(chains)
        counters[LAST_TIMESTAMP], counters[NEXT_POSITION] = scalars.last_timestamp_ns, scalars.next_position
        if settings is not None:
            book.adopt_settings(settings)
        book._index()
        fill_deadlines(book.tables, len(opened))
        return book

    @property
    def account_count(self) -> int:
        """Accounts, which are the rows 0..account_count-1; none is ever removed."""
        return int(self.tables.counters[ACCOUNT_COUNT])

    @property
    def open_reservation_count(self) -> int:
        """Open reservations."""
        return int(self.tables.counters[RESERVATION_COUNT])

    @property
    def last_timestamp_ns(self) -> int:
        """The timestamp of the last journal row; 0 before the first."""
        return int(self.tables.counters[LAST_TIMESTAMP])

    @property
    def next_position(self) -> int:
        """The journal position that the next row will get."""
        return int(self.tables.counters[NEXT_POSITION])

    @property
    def hash_seed(self) -> int:
        """The seed of every hash of ids, from the settings."""
        return int(self.tables.counters[HASH_SEED])

    def scalars(self) -> BookScalars:
        """Return what to save in the transaction of every applied record, and beside every checkpoint."""
        return BookScalars(self.account_count, self.last_timestamp_ns, self.next_position)

    def account_rows(self) -> Words:
        """Return a view, shape (account_count, 16), of all accounts; valid until the next record is applied."""
        return self.tables.accounts[: self.account_count]

    def account_chunk(self, chunk: int) -> Words:
        """Return a view of the account rows of one chunk, at most `CHUNK_ROWS`."""
        return self.account_rows()[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS]

    def dirty_account_chunks(self) -> list[int]:
        """Return the chunks whose account rows changed since `clear_dirty`, ascending."""
        return [int(chunk) for chunk in np.flatnonzero(self.tables.dirty_accounts)]

    def clear_dirty(self) -> None:
        """Note that everything is saved."""
        self.tables.dirty_accounts[:] = 0
        self.tables.dirty_reservations[:] = 0

    def find_accounts(self, ids: Words) -> npt.NDArray[np.int64]:
        """Return the row of each account, shape (n,), for ids of shape (n, 2); -1 where there is none."""
        return self._find(self.tables.account_slots, self.tables.accounts, ids)

    def place_accounts(self, ids: Words) -> npt.NDArray[np.int64]:
        """As `find_accounts`, by the slot map: -2 where the account's slot belongs to another group."""
        found = np.empty(len(ids), np.int64)
        find_accounts_here(self.tables, np.array(ids, np.uint64, order="C"), found)
        return found

    def account(self, account_id: bytes) -> npt.NDArray[np.void] | None:
        """Return a copy of one account as the structured dtype `ACCOUNT`, shape (1,); None if there is none."""
        row = int(self.find_accounts(np.frombuffer(account_id, "<u8").reshape(1, 2))[0])
        return None if row < 0 else self.tables.accounts[row].copy().view(ACCOUNT)

    def open_reservations(self) -> Words:
        """Return a copy, shape (n, 16), of the open reservations' rows, in table order (see the module's docstring)."""
        rows = self.tables.reservations[: int(self.tables.counters[RESERVATION_HIGH])]
        opened: Words = rows[rows[:, 15] != 0]
        return opened

    def oldest_reservation_ns(self) -> int:
        """Return the timestamp of the oldest open reservation; 0 if none is open. Looks at every row of the table."""
        rows = self.tables.reservations[: int(self.tables.counters[RESERVATION_HIGH])]
        if not self.open_reservation_count:
            return 0
        return int(np.min(rows[:, 11], where=rows[:, 15] != 0, initial=np.uint64(2**64 - 1)))

    def find_reservations(self, ids: Words) -> npt.NDArray[np.int64]:
        """Return the row of each open reservation in `tables.reservations`, for ids of shape (n, 2); -1 if none."""
        return self._find(self.tables.reservation_slots, self.tables.reservations, ids)

    @property
    def open_chain_count(self) -> int:
        """Open chains: secured here, waiting for their decider's word."""
        return int(self.tables.counters[CHAIN_COUNT])

    def open_chains(self) -> Words:
        """Return a copy, shape (n, 16), of the open chains' rows, in table order (see the module's docstring)."""
        rows = self.tables.chains[: int(self.tables.counters[CHAIN_HIGH])]
        opened: Words = rows[rows[:, 15] != 0]
        return opened

    def find_chains(self, ids: Words) -> npt.NDArray[np.int64]:
        """Return the row of each open chain in `tables.chains`, for chain ids of shape (n, 2); -1 if none."""
        return self._find(self.tables.chain_slots, self.tables.chains, ids)

    def _find(self, slots: U64Array, rows: Words, ids: Words) -> npt.NDArray[np.int64]:
        found = np.empty(len(ids), np.int64)
        find_rows(slots, rows, np.array(ids, np.uint64, order="C"), self._seed(), found)
        return found

    def next_deadline_ns(self) -> int | None:
        """Return a lower bound of the next expiry, None if nothing expires: a leader without traffic waits until then,
        and proposes an empty record once this is past."""
        if not self.tables.counters[DEADLINE_COUNT]:
            return None
        return int(self.tables.deadlines[0, 0])

    def adopt_settings(self, settings: Settings) -> None:
        """Take over checked settings: ledgers, slot map, seed. (`apply_settings` is the logged way.)"""
        owners = np.array(group_of_slots(settings), np.int64)
        ledgers = np.array(sorted(ledger.ledger for ledger in settings.ledgers), np.uint64)
        reseeded = settings.hash_seed != self.hash_seed
        self.settings = settings
        self.tables = self.tables._replace(slot_is_ours=owners == self.group, ledgers=ledgers)
        self.tables.counters[HASH_SEED] = settings.hash_seed
        if reseeded:
            self._index()

    def ensure_room(self, accounts: int, reservations: int, chains: int = 0) -> None:
        """Make room for so many more accounts, reservations and open chains; tables grow between batches, never within
        one."""
        if accounts:
            self._ensure_account_room(accounts)
        if reservations:
            self._ensure_reservation_room(reservations)
        if chains:
            self._ensure_chain_room(chains)

    def _ensure_account_room(self, accounts: int) -> None:
        rows = self.account_count + accounts
        require(rows <= ACCOUNTS_MAX, ExitCode.APPLY_FAILED, _TOO_MANY.format("accounts", ACCOUNTS_MAX))
        if rows > len(self.tables.accounts):
            self._grow_accounts(_room(rows))

    def _ensure_chain_room(self, chains: int) -> None:
        counters = self.tables.counters
        rows = int(counters[CHAIN_HIGH]) + max(0, chains - int(counters[CHAIN_FREE_COUNT]))
        require(rows <= OPEN_CHAINS_MAX, ExitCode.APPLY_FAILED, _TOO_MANY.format("open chains", OPEN_CHAINS_MAX))
        if rows > len(self.tables.chains):
            self._grow_chains(_room(rows))

    def _ensure_reservation_room(self, reservations: int) -> None:
        counters, most = self.tables.counters, OPEN_RESERVATIONS_MAX
        rows = int(counters[RESERVATION_HIGH]) + max(0, reservations - int(counters[FREE_COUNT]))
        require(rows <= most, ExitCode.APPLY_FAILED, _TOO_MANY.format("open reservations", most))
        if rows > len(self.tables.reservations):
            self._grow_reservations(_room(rows))
        if int(counters[DEADLINE_COUNT]) + reservations > len(self.tables.deadlines):
            sweep_deadlines(self.tables)

    def _grow_accounts(self, capacity: int) -> None:
        tables = self.tables
        self.tables = tables._replace(
            accounts=_grown_rows(tables.accounts, capacity),
            account_slots=_empty_slots(capacity),
            dirty_accounts=_grown_flags(tables.dirty_accounts, _chunks(capacity)),
        )
        index_accounts(self.tables.account_slots, self.tables.accounts, self.account_count, self._seed())

    def _grow_reservations(self, capacity: int) -> None:
        tables = self.tables
        free, deadlines = np.zeros(capacity, np.uint64), np.zeros((2 * capacity + _STALE_DEADLINES_MIN, 3), np.uint64)
        free[: len(tables.free_reservations)] = tables.free_reservations
        deadlines[: len(tables.deadlines)] = tables.deadlines
        self.tables = tables._replace(
            reservations=_grown_rows(tables.reservations, capacity),
            reservation_slots=_empty_slots(capacity),
            free_reservations=free,
            deadlines=deadlines,
            dirty_reservations=_grown_flags(tables.dirty_reservations, _chunks(capacity)),
        )
        used = int(tables.counters[RESERVATION_HIGH])
        index_reservations(self.tables.reservation_slots, self.tables.reservations, used, self._seed())

    def _grow_chains(self, capacity: int) -> None:
        tables = self.tables
        free = np.zeros(capacity, np.uint64)
        free[: len(tables.free_chains)] = tables.free_chains
        chains = _grown_rows(tables.chains, capacity)
        self.tables = tables._replace(chains=chains, chain_slots=_empty_slots(capacity), free_chains=free)
        used = int(tables.counters[CHAIN_HIGH])
        index_reservations(self.tables.chain_slots, self.tables.chains, used, self._seed())

    def _index(self) -> None:
        """Build all hash tables anew."""
        tables = self.tables
        tables.account_slots[:] = 0
        tables.chain_slots[:] = 0
        tables.reservation_slots[:] = 0
        index_accounts(tables.account_slots, tables.accounts, self.account_count, self._seed())
        used = int(tables.counters[RESERVATION_HIGH])
        index_reservations(tables.reservation_slots, tables.reservations, used, self._seed())
        index_reservations(tables.chain_slots, tables.chains, int(tables.counters[CHAIN_HIGH]), self._seed())

    def _seed(self) -> np.uint64:
        return np.uint64(self.tables.counters[HASH_SEED])


_ROWS_DIFFER: Final = "the saved accounts are not as many as the checkpoint says: restore or replace this replica"
_TOO_MANY: Final = "a group holds no more than {1} {0}: spread them over more groups"


def _room(rows: int) -> int:
    """Return the capacity for so many rows: the next power of two, with some to spare."""
    return max(CHUNK_ROWS, 1 << rows.bit_length())


def _chunks(rows: int) -> int:
    return -(-rows // CHUNK_ROWS)


def _empty_slots(rows: int) -> U64Array:
    """Return an empty hash table that stays at most half full."""
    return np.zeros(1 << (2 * rows - 1).bit_length(), np.uint64)


def _aligned_rows(rows: int) -> Words:
    """Return zeroed rows that begin at a cache line, so that each takes two lines, not three."""
    raw = np.zeros((rows * RECORD_WORDS + _CACHE_LINE_BYTES // 8,), np.uint64)
    first = (-raw.ctypes.data % _CACHE_LINE_BYTES) // 8
    return raw[first : first + rows * RECORD_WORDS].reshape(rows, RECORD_WORDS)


def _grown_rows(rows: Words, capacity: int) -> Words:
    grown = _aligned_rows(capacity)
    grown[: len(rows)] = rows
    return grown


def _grown_flags(flags: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    grown = np.zeros(count, np.uint8)
    grown[: len(flags)] = flags
    return grown


def iterate_accounts(book: Book) -> Iterator[npt.NDArray[np.void]]:
    """Yield the accounts chunk by chunk, as the structured dtype `ACCOUNT`: views, valid until the next record."""
    for first in range(0, book.account_count, CHUNK_ROWS):
        yield book.account_rows()[first : first + CHUNK_ROWS].reshape(-1).view(ACCOUNT)
