"""Of cross-group chains, statements and sums have exactly what moved in this group; transit accounts carry the rest."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from engine.core.book import Book
from engine.core.chains.step_record import steps_of
from engine.core.chains.word import Order, State, Step
from engine.core.records import AccountFlag
from engine.storage.audit import reserved_totals, secured_totals, transit_balances, trial_balances
from engine.storage.state_machine import StateMachine
from engine.storage.views.answers import TIME_MAX, Basis
from engine.storage.views.views import Views
from tests.step_histories import GROUPS, World, world

RUN_ROWS = 40
FULL = np.uint64((1 << 64) - 1)


@pytest.fixture(scope="module", params=[False, True], ids=["", "with buckets"])
def lived(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """One of all tests that change nothing."""
    with a_world(tmp_path_factory.mktemp("world"), splits=request.param) as made:
        for machine in made.machines:
            machine.save()
        yield made


def a_world(folder: Path, splits: bool) -> AbstractContextManager[World]:
    return world(folder, seed=3, records=150, splits=splits)


@pytest.mark.parametrize("group", range(GROUPS))
def test_the_sum_of_an_accounts_entries_is_its_balance(lived: World, tmp_path: Path, group: int) -> None:
    machine = lived.machines[group]
    views = Views(tmp_path, machine.store, machine.book, map_bytes_max=1 << 26, run_rows=RUN_ROWS)
    views.start()
    try:
        assert views.wait(machine.synced_log_index, time.monotonic() + 20)
        assert len(views._manifest.runs) > 0
        for row in machine.book.account_rows():
            posted = [int(row[word]) | int(row[word + 1]) << 64 for word in (2, 4)]
            for basis in Basis:
                found = views.balance_at(row[0:2].tobytes(), basis, TIME_MAX - 1)
                assert found is not None
                assert list(found[0]) == posted
            page = views.list_entries(row[0:2].tobytes(), Basis.BOOKED, 0, TIME_MAX, 8190)
            assert page is not None
            assert [int(page.rows[page.debited == side, 6].sum()) for side in (True, False)] == posted
    finally:
        views.stop()


@pytest.mark.parametrize("group", range(GROUPS))
def test_reservations_and_open_chains_explain_what_is_held(lived: World, group: int) -> None:
    machine = lived.machines[group]
    words = [one.word for one in machine.open_chains(-1, machine.book.open_chain_count)]
    held, secured = reserved_totals(machine.book), secured_totals(group, words)
    assert sum(secured.values()) > 0
    for balance in trial_balances(machine.book):
        assert balance.is_even
        assert balance.debits_reserved == held.get(balance.ledger, 0) + secured.get(balance.ledger, 0)


@pytest.mark.parametrize("group", range(GROUPS))
def test_transit_accounts_are_no_customers(lived: World, group: int) -> None:
    book = lived.machines[group].book
    transits = transit_balances(book)
    flags = (book.account_rows()[:, 14] >> np.uint64(16)) & np.uint64(AccountFlag.TRANSIT)
    assert len(transits) == int((flags != 0).sum()) > 0
    assert {one.other_group for one in transits} <= set(range(GROUPS)) - {group}
    own = int((book.account_rows()[:, 0] == FULL).sum())
    assert sum(one.accounts for one in trial_balances(book)) == book.account_count - own
    assert own == len(transits) + len(lived.split), "and a share account for each bucket"


@pytest.mark.parametrize("splits", [False, True])
def test_transit_accounts_of_two_groups_differ_by_what_is_decided_and_not_yet_obeyed(
    tmp_path: Path, splits: bool
) -> None:
    with a_world(tmp_path, splits) as lived:
        finish(lived)
        for group, machine in enumerate(lived.machines):
            assert machine.book.open_chain_count == 0
            for one in transit_balances(machine.book):
                others = transit_balances(lived.machines[one.other_group].book)
                (other,) = (two for two in others if (two.other_group, two.ledger) == (group, one.ledger))
                assert (one.debits_posted, one.credits_posted) == (other.credits_posted, other.debits_posted)
            ask_and_compare(lived, group, machine)


def finish(lived: World) -> None:
    """Let couriers drive everything to its end, from what the groups themselves say."""
    for _ in range(60):
        for group, machine in enumerate(lived.machines):
            for one in machine.open_chains(-1, 1000):
                lived.courier(group, one.word)
        if not any(machine.book.open_chain_count for machine in lived.machines):
            return
    waiting = [[one.word.chain.chain_id.hex() for one in machine.open_chains(-1, 9)] for machine in lived.machines]
    raise AssertionError(f"chains stay open: {waiting}")


def test_what_was_answered_is_what_is_told_when_asked(lived: World) -> None:
    for group, machine in enumerate(lived.machines):
        ask_and_compare(lived, group, machine)


def ask_and_compare(lived: World, group: int, machine: StateMachine) -> None:
    chains = [chain for chain in lived.chains if group in lived.words.get(chain.chain_id, {})]
    answers = machine.asked(steps_of([Order(Step.ASK, group, chain) for chain in chains]))
    told = dict(zip([chain.digest for chain in chains], answers.answers["state"].tolist(), strict=True))
    for chain in chains:
        known = lived.words[chain.chain_id][group].state
        assert told[chain.digest] == known or known in (State.RESERVED, State.HELD)


def test_a_split_account_is_what_its_buckets_post_for_callers_whatever_moved_between_them(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with world(tmp_path_factory.mktemp("split"), seed=7, records=150, splits=True) as lived:
        finish(lived)
        for account, shares in zip(lived.split, lived.shares, strict=True):
            books = [machine.book for machine in lived.machines]
            moved = [share_of(book, share) for book, share in zip(books, shares, strict=True)]
            assert any(debits or credits for debits, credits in moved), "something moved"
            assert sum(debits for debits, _ in moved) == sum(credits for _, credits in moved)
            assert sum(int(book.account(account)["credits_posted_low"][0]) for book in books) > 0


def share_of(book: Book, share: bytes) -> tuple[int, int]:
    row = book.account(share)
    assert row is not None
    return int(row["debits_posted_low"][0]), int(row["credits_posted_low"][0])
