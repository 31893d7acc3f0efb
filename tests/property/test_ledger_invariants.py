"""The invariants of the ledger (ARCHITECTURE.md), checked by an auditor who sees journal rows and nothing else.

The auditor shares no code with the model or the kernel: it adds up entries. Every history is played by both of them.
"""

import os
from collections import defaultdict
from random import Random

import pytest

from engine.core.model.state import Event, unpack
from engine.core.outcomes import Outcome, ResultFlag, took_effect
from engine.core.records import AccountFlag, Flag, Kind
from tests.core_histories import History
from tests.core_histories import settings as group_settings
from tests.core_twins import Twins, account_rows

RECORDS = 14
RETRIES = 20
SEEDS = range(1_000, 1_000 + (60 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 20))


class Holding:
    """What one account holds by its entries."""

    def __init__(self, row: Event) -> None:
        self.ledger = row.ledger
        self.flags = row.flags
        self.overdraft = row.amount
        self.debits = self.credits = 0
        self.held = [0, 0]
        """Reserved debits and credits."""
        self.forced = False
        """FORCE may take what is available below zero (I5 leaves it out)."""

    def available(self) -> int | None:
        """What its limit leaves; None without one."""
        if self.flags & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
            return self.credits - self.debits - self.held[0] + self.overdraft
        if self.flags & AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS:
            return self.debits - self.credits - self.held[1] + self.overdraft
        return None


class Auditor:
    """Adds up the journal's rows; asserts what must hold after each log record."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, Holding] = {}
        self.reservations: dict[bytes, tuple[Event, int]] = {}
        self.split: set[bytes] = set()
        """Whose funds other groups have a part of: no log of one group alone can refuse for lack of them."""
        self.rows = 0

    def add(self, rows: list[Event], asked: dict[int, int]) -> None:
        for number, row in enumerate(rows):
            following = rows[number + 1] if number + 1 < len(rows) else None
            alone = row.leg == 0 and (following is None or following.leg == 0)
            if alone and row.outcome == Outcome.INSUFFICIENT_FUNDS:
                self.assert_insufficient(row, asked.get(number, row.amount))
            if took_effect(row.outcome):
                self.enter(row)
        self.rows += len(rows)
        self.assert_balanced()
        self.assert_limits_hold()

    def enter(self, row: Event) -> None:
        if row.kind == Kind.CREATE_ACCOUNT:
            self.accounts[row.id] = Holding(row)
        elif row.kind == Kind.UPDATE_ACCOUNT:
            self.accounts[row.debit].overdraft = row.amount
        elif row.kind == Kind.BUCKET:
            self.accounts.setdefault(row.debit, Holding(row._replace(amount=0)))
            self.split.add(row.debit)
        elif row.kind == Kind.POST:
            self.post(row, row.debit, row.credit)
        elif row.kind == Kind.REVERSE:
            self.post(row, row.credit, row.debit)
        elif row.kind == Kind.RESERVE:
            self.hold(row, row.amount)
            self.reservations[row.id] = (row, row.amount)
        else:
            self.follow(row)

    def follow(self, row: Event) -> None:
        original, left = self.reservations[row.followed]
        if row.kind == Kind.COMMIT:
            self.post(row, row.debit, row.credit)
            self.hold(original, -row.amount)
            left -= row.amount
            if row.flags & Flag.KEEP_REST and left:
                self.reservations[row.followed] = (original, left)
                return
        self.hold(original, -left)
        del self.reservations[row.followed]

    def post(self, row: Event, debit: bytes, credit: bytes) -> None:
        self.accounts[debit].debits += row.amount
        self.accounts[credit].credits += row.amount
        self.force(row)

    def hold(self, row: Event, amount: int) -> None:
        self.accounts[row.debit].held[0] += amount
        self.accounts[row.credit].held[1] += amount
        self.force(row)

    def force(self, row: Event) -> None:
        if row.flags & Flag.FORCE and row.kind in (Kind.POST, Kind.RESERVE, Kind.COMMIT, Kind.REVERSE):
            self.accounts[row.debit].forced = self.accounts[row.credit].forced = True

    def assert_balanced(self) -> None:
        sums: dict[int, int] = defaultdict(int)
        for one in self.accounts.values():
            sums[one.ledger] += one.debits - one.credits
            sums[-one.ledger] += one.held[0] - one.held[1]
        assert not any(sums.values())

    def assert_limits_hold(self) -> None:
        for account, one in self.accounts.items():
            available = one.available()
            assert available is None or available >= 0 or one.forced, account.hex()

    def assert_insufficient(self, row: Event, asked: int) -> None:
        account = row.credit if row.kind == Kind.REVERSE else row.debit
        assert account not in self.split
        debited = self.accounts[account]
        available = debited.available()
        assert available is not None
        assert available < asked

    def held_by_reservations(self) -> dict[bytes, int]:
        held: dict[bytes, int] = defaultdict(int)
        for row, left in self.reservations.values():
            held[row.debit] += left
            held[row.credit] += left
        return held


def played(random: Random) -> tuple[Twins, Auditor, list[Event]]:
    """Play a history on model and kernel; return them, the auditor of its journal, and all journal rows."""
    twins, auditor, journal = Twins(), Auditor(), list[Event]()
    history = History(random, twins.model)
    twins.settings(group_settings(), history.next_time())
    auditor.rows = twins.book.next_position
    for record in [history.opening(), *(None for _ in range(RECORDS))]:
        answer = twins.apply(history.batch() if record is None else record, history.next_time())
        rows = [next(unpack(row)) for row in answer.rows]
        auditor.add(rows, answer.asked)
        journal += rows
        assert twins.book.next_position == auditor.rows  # I14: gapless, and never shorter
    return twins, auditor, journal


@pytest.mark.parametrize("seed", SEEDS)
def test_books_balance_limits_hold_and_balances_are_sums_of_entries(seed: int) -> None:
    twins, auditor, _ = played(Random(seed))  # I1, I5, I6 and I14 are asserted after every record
    held = auditor.held_by_reservations()
    for account, one in auditor.accounts.items():
        state = twins.model.accounts[account]
        assert (state.debits.posted, state.credits.posted) == (one.debits, one.credits)
        assert [state.debits.reserved, state.credits.reserved] == one.held
        assert sum(one.held) == held[account]
    assert twins.book.account_rows().tobytes() == account_rows(twins.model)


def can_be_retried(row: Event) -> bool:
    """Whether its row is all that there is to its request: no chain, nothing that moved another amount."""
    alone = row.leg == 0 and not row.flags & Flag.LINKED and row.outcome != Outcome.CHAIN_FAILED
    balancing = row.flags & (Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)
    return row.kind in (Kind.POST, Kind.REVERSE) and alone and not balancing


@pytest.mark.parametrize("seed", SEEDS)
def test_every_retry_gets_the_stored_outcome_and_moves_nothing(seed: int) -> None:
    twins, auditor, journal = played(Random(seed))
    position = twins.book.next_position
    for row in [row for row in journal if can_be_retried(row)][:RETRIES]:
        again = row._replace(timestamp=0, outcome=0)
        (result,) = twins.apply([again], twins.model.last_timestamp).results
        assert (result.outcome, result.flags) == (row.outcome, ResultFlag.REPLAYED)
        (result,) = twins.apply([again._replace(code=row.code ^ 1)], twins.model.last_timestamp).results
        assert result.outcome == Outcome.ID_REUSED_WITH_DIFFERENT_CODE
    stored_since = twins.book.next_position - position
    assert stored_since == len(auditor.reservations) - len(twins.book.open_reservations())  # none but expiries
