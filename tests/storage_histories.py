"""Random histories for the storage tests: log records dense in followers, retries, chains, expiries and small numbers.

They need not be likely, only valid (`engine.core.validation`), and every random choice comes from the seed.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np

from engine.core.log_record import Caller, RecordKind, encode_log_record
from engine.core.records import AMOUNT_ALL, RECORD, AccountFlag, Flag, Kind
from engine.core.settings import Ledger, Settings, SlotRange, encode_settings
from engine.storage.folder import Identity, open_folder
from engine.storage.ids.known_ids import IdLimits
from engine.storage.recovery import StoreLimits, open_state_machine
from engine.storage.state_machine import StateMachine

T = TypeVar("T")
Rows: TypeAlias = Any
"""Structured records: NumPy types their fields too loosely to be of help."""

IDENTITY: Final = Identity("0" * 32, 0, "g0r0")
SETTINGS: Final = Settings(
    cluster_id="0" * 32,
    hash_seed=0x1234_5678_9ABC_DEF0,
    ledgers=(Ledger(1, "EUR", 2), Ledger(2, "USD", 2)),
    slots=(SlotRange(0, 0, 4095),),
)
TINY: Final = StoreLimits(
    map_bytes_max=1 << 28,
    checkpoint_journal_bytes=8 << 10,
    recent_rows=256,
    ids=IdLimits(newest_entries=32, part_bytes=1024, filter_keys=64, unmerged_runs_max=3),
)
"""Everything happens every few records: runs, merges, checkpoints, rows that are no longer in memory."""
ROOMY: Final = StoreLimits(map_bytes_max=1 << 28)
GENESIS_NS: Final = 1_700_000_000_000_000_000


class Reserved(NamedTuple):
    """What a follower must repeat."""

    id: bytes
    debit: bytes
    credit: bytes
    ledger: int
    amount: int


def number_id(number: int) -> bytes:
    """An id that orders by its number."""
    return number.to_bytes(16, "big")


def record_of(rows: Rows, timestamp_ns: int) -> bytes:
    """Encode an EVENTS record of two callers."""
    half = len(rows) // 2
    callers = [Caller(0, half, "cards", timestamp_ns), Caller(half, len(rows) - half, "payroll", timestamp_ns, 2)]
    return encode_log_record(RecordKind.EVENTS, rows.tobytes(), timestamp_ns=timestamp_ns, callers=callers)


def settings_record(settings: Settings = SETTINGS, timestamp_ns: int = GENESIS_NS) -> bytes:
    """Encode a SETTINGS record."""
    extra = encode_settings(settings)
    return encode_log_record(RecordKind.SETTINGS, b"", timestamp_ns=timestamp_ns, callers=[], extra=extra)


class History:
    """Makes one log record after another."""

    def __init__(self, seed: int, accounts: int = 12) -> None:
        self.rng = np.random.default_rng(seed)
        self.accounts = [number_id(1_000_000 + number) for number in range(accounts)]
        self.ledger_of = {account: 1 if number % 4 else 2 for number, account in enumerate(self.accounts)}
        self.next_id = 1
        self.sent: list[Rows] = []
        self.chains: list[Rows] = []
        self.moves: list[Reserved] = []
        self.holds: list[Reserved] = []
        self.time_ns = GENESIS_NS

    def first_records(self) -> list[bytes]:
        """Genesis, and all accounts; every third is limited."""
        rows = np.zeros(len(self.accounts), RECORD)
        for number, (row, account) in enumerate(zip(rows, self.accounts, strict=True)):
            row["id"], row["ledger"], row["kind"], row["code"] = (
                account,
                self.ledger_of[account],
                Kind.CREATE_ACCOUNT,
                7,
            )
            if number % 3 == 2:
                row["flags"] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
                row["amount_low"] = 50
        return [settings_record(), record_of(rows, self._tick())]

    def record(self, rows_max: int = 20) -> bytes:
        """One more record; now and then without rows, or from a clock that ran back."""
        rows = np.zeros(int(self.rng.integers(0, rows_max + 1)), RECORD)
        if self.chains and self.rng.random() < 0.3:
            return self._chain_again()
        chain_left = 0
        for number, row in enumerate(rows):
            if chain_left == 0 and self.rng.random() < 0.1:
                chain_left = int(self.rng.integers(2, 5))
            linked = chain_left > 1 and number + 1 < len(rows)
            self._fill(row, in_chain=chain_left > 0)
            if linked:
                row["flags"] |= Flag.LINKED
            chain_left = max(0, chain_left - 1)
        self._unique_in_chains(rows)
        self.sent += [row.copy() for row in rows]
        self.chains += [chain.copy() for chain in np.split(rows, self._unit_starts(rows)) if len(chain) > 1]
        return record_of(rows, self._tick())

    def _chain_again(self) -> bytes:
        """A chain sent before: whole, cut short at either end, with one leg more, or meeting a known id."""
        chain = self._one_of(self.chains).copy()
        draw = self.rng.random()
        if draw < 0.2:
            chain = chain[1:]
        elif draw < 0.4:
            chain = chain[:-1]
            chain[-1]["flags"] &= ~np.uint8(Flag.LINKED)
        elif draw < 0.4 + 0.2 * bool(self.sent):
            chain = self._chain_that_meets(chain)
        elif draw < 0.8:
            chain = np.concatenate((chain, np.zeros(1, RECORD)))
            chain[-2]["flags"] |= np.uint8(Flag.LINKED)
            self._fill_move(chain[-1], in_chain=True)
        return record_of(chain, self._tick())

    def _chain_that_meets(self, chain: Rows) -> Rows:
        """New legs around one that was sent before: stored without it, and tried again like any chain."""
        for row in chain:
            row["id"] = self._new_id()
        number, again = int(self.rng.integers(0, len(chain))), self._one_of(self.sent)
        if again["kind"] < Kind.CREATE_ACCOUNT:
            flags = chain[number]["flags"] & Flag.LINKED
            chain[number] = again
            chain[number]["flags"] = (again["flags"] & ~np.uint8(Flag.LINKED)) | flags
        self.chains.append(chain.copy())
        return chain

    @staticmethod
    def _unit_starts(rows: Rows) -> Rows:
        return np.flatnonzero((rows["flags"][:-1] & Flag.LINKED == 0) | (rows["kind"][:-1] >= Kind.CREATE_ACCOUNT)) + 1

    def _tick(self) -> int:
        self.time_ns += int(self.rng.integers(-200_000_000, 1_500_000_000))
        return self.time_ns

    def _fill(self, row: Rows, *, in_chain: bool) -> None:
        draw = self.rng.random()
        if draw < 0.12 and self.sent and not in_chain:
            again = self._again()
            for field in RECORD.names or ():
                row[field] = again[field]
        elif draw < 0.16 and not in_chain:
            self._fill_update(row)
        elif draw < 0.35 and self.holds:
            self._fill_follower(row, self._one_of(self.holds), Kind(int(self.rng.choice([Kind.COMMIT, Kind.RELEASE]))))
        elif draw < 0.45 and self.moves:
            self._fill_follower(row, self._one_of(self.moves), Kind.REVERSE)
        else:
            self._fill_move(row, in_chain=in_chain)

    def _again(self) -> Rows:
        """A retry, mostly of something recent, sometimes with another body."""
        late = self.rng.random() < 0.5
        row = self.sent[int(self.rng.integers(max(0, len(self.sent) - 40) if late else 0, len(self.sent)))].copy()
        row["flags"] &= ~np.uint8(Flag.LINKED)
        if self.rng.random() < 0.3 and row["kind"] != Kind.UPDATE_ACCOUNT:
            row["code"] += 1
        return row

    def _fill_move(self, row: Rows, *, in_chain: bool) -> None:
        debit = self._one_of(self.accounts)
        peers = [one for one in self.accounts if one != debit and self.ledger_of[one] == self.ledger_of[debit]]
        credit = self._one_of(peers)
        amount = int(self.rng.integers(1, 60))
        if self.rng.random() < 0.05:
            amount = (1 << 70) + amount
        row["id"], row["debit"], row["credit"] = self._new_id(), debit, credit
        row["ledger"], row["code"] = self.ledger_of[debit], int(self.rng.integers(0, 5))
        row["amount_low"], row["amount_high"] = amount & (1 << 64) - 1, amount >> 64
        if self.rng.random() < 0.3:
            row["effective_at"] = GENESIS_NS + int(self.rng.integers(0, 40)) * 1_000_000_000
        moved = Reserved(row["id"].tobytes(), debit, credit, self.ledger_of[debit], amount)
        if self.rng.random() < 0.4:
            row["kind"] = Kind.RESERVE
            row["timeout_s"] = int(self.rng.choice([0, 0, 2, 5, 20]))
            self.holds.append(moved)
        else:
            row["kind"] = Kind.POST
            if self.rng.random() < 0.1 and not in_chain:
                row["flags"] = int(self.rng.choice([Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT, Flag.FORCE]))
            self.moves.append(moved)

    def _fill_follower(self, row: Rows, followed: Reserved, kind: Kind) -> None:
        row["id"], row["kind"], row["followed"] = self._new_id(), kind, followed.id
        row["debit"], row["credit"], row["ledger"] = followed.debit, followed.credit, followed.ledger
        if kind == Kind.RELEASE:
            return
        amount = int(self.rng.integers(1, min(followed.amount, 1 << 62) + 1))
        if kind == Kind.COMMIT and self.rng.random() < 0.3:
            amount = AMOUNT_ALL
        if kind == Kind.COMMIT and self.rng.random() < 0.5:
            row["flags"] = Flag.KEEP_REST
        row["amount_low"], row["amount_high"] = amount & (1 << 64) - 1, amount >> 64
        if kind == Kind.COMMIT:
            self.moves.append(followed._replace(id=row["id"].tobytes(), amount=min(amount, followed.amount)))

    def _fill_update(self, row: Rows) -> None:
        account = self._one_of(self.accounts)
        row["id"], row["kind"], row["debit"] = self._new_id(), Kind.UPDATE_ACCOUNT, account
        row["ledger"], row["timeout_s"] = self.ledger_of[account], int(self.rng.integers(1, 4))
        row["flags"] = AccountFlag.FROZEN if self.rng.random() < 0.1 else 0
        row["amount_low"] = int(self.rng.integers(0, 200))

    def _unique_in_chains(self, rows: Rows) -> None:
        """A chain that names an id twice is a fault, which is never logged: give the second one another."""
        seen: set[bytes] = set()
        for number, row in enumerate(rows):
            if not (number and rows[number - 1]["flags"] & Flag.LINKED):
                seen = set()
            if row["id"].tobytes() in seen:
                row["id"] = self._new_id()
            seen.add(row["id"].tobytes())

    def _new_id(self) -> bytes:
        self.next_id += 1
        return number_id(self.next_id - 1)

    def _one_of(self, things: list[T]) -> T:
        """Mostly a recent one."""
        if self.rng.random() < 0.5:
            things = things[-8:]
        return things[int(self.rng.integers(0, len(things)))]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one example, in memory where there is such a place: nothing here outlives a power cut anyway."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def opened(path: Path, limits: StoreLimits = TINY) -> Iterator[StateMachine]:
    """A data folder's state machine; at the end it is dropped as by SIGKILL, unless the test closed it."""
    with open_folder(path, IDENTITY) as folder:
        machine, _ = open_state_machine(folder, IDENTITY.group, limits)
        try:
            yield machine
        finally:
            kill(machine)


def kill(machine: StateMachine) -> None:
    """Close without saving, as a killed process does. Again is harmless."""
    machine._failed = True
    machine.close()


def apply_all(machine: StateMachine, records: list[bytes]) -> list[list[tuple[int, ...]]]:
    """Apply records of EVENTS and SETTINGS at the next log indices; return their results."""
    results = (machine.apply(machine.applied_index + 1, 1, record) for record in records)
    return [one.tolist() for one in results if isinstance(one, np.ndarray)]


def make_records(seed: int, records: int, rows_max: int = 20, accounts: int = 12) -> list[bytes]:
    """Genesis, accounts, and so many records."""
    history = History(seed, accounts)
    return [*history.first_records(), *(history.record(rows_max) for _ in range(records))]
