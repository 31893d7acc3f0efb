"""The book: its tables grow, are saved and built anew, and roll forward over journal rows."""

from random import Random
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from engine.core.book import CHUNK_ROWS, Book, iterate_accounts
from engine.core.events import apply_events, apply_settings, replay_rows
from engine.core.known import Applied, nothing_known
from engine.core.model.state import Event, pack
from engine.core.outcomes import Outcome
from engine.core.records import FOLLOWERS, Kind, Words, as_words
from engine.core.settings import Ledger, check_change
from engine.exit_codes import EngineStopped, ExitCode
from tests.core_histories import SECOND, name, settings
from tests.core_known import KnownIds
from tests.core_twins import by_position

SETTINGS = settings(slots_of_group_1=100)


class Group:
    """A book with its store's stand-in."""

    def __init__(self) -> None:
        self.book = Book(0, accounts=1, reservations=1)
        self.known = KnownIds()
        self.known.add(apply_settings(self.book, SETTINGS, SECOND))

    def apply(self, events: list[Event], timestamp_ns: int = SECOND) -> Applied:
        batch = as_words(b"".join(map(pack, events))).copy()
        applied = apply_events(self.book, batch, self.known.known(batch), timestamp_ns)
        self.known.add(applied)
        return applied

    def accounts(self, count: int) -> list[bytes]:
        """Create accounts; return those that are this group's."""
        names = [name(number) for number in range(1, count + 1)]
        for first in range(0, count, 8000):
            part = names[first : first + 8000]
            self.apply([Event(id=account, kind=Kind.CREATE_ACCOUNT, ledger=1) for account in part])
        found = self.book.find_accounts(ids_of(names))
        return [account for account, row in zip(names, found, strict=True) if row >= 0]


def ids_of(names: list[bytes]) -> Words:
    return np.frombuffer(b"".join(names), np.uint64).reshape(-1, 2)


def hold(number: int, debit: bytes, credit: bytes, timeout_s: int = 0) -> Event:
    return Event(name(10**9 + number), Kind.RESERVE, debit, credit, 7, ledger=1, timeout_or_version=timeout_s)


def release(number: int, original: Event) -> Event:
    return original._replace(
        id=name(2 * 10**9 + number), kind=Kind.RELEASE, amount=0, followed=original.id, timeout_or_version=0
    )


def restored(book: Book) -> Book:
    chunks = [book.account_chunk(chunk).copy() for chunk in range(-(-book.account_count // CHUNK_ROWS))]
    return Book.restore(book.group, book.settings, book.scalars(), chunks, book.open_reservations())


def test_tables_grow_between_batches_and_every_account_is_found() -> None:
    group = Group()
    names = group.accounts(20_000)
    assert len(names) > 19_000
    rows = group.book.find_accounts(ids_of(names))
    assert sorted(rows.tolist()) == list(range(len(names)))
    assert sum(len(part) for part in iterate_accounts(group.book)) == len(names)
    assert group.book.account(names[-1]) is not None
    assert group.book.account(name(10**6)) is None
    assert set(group.book.place_accounts(ids_of([name(number) for number in range(1, 9000)])).tolist()) >= {-2, 0, 1}


def test_thousands_of_reservations_come_and_go_and_the_open_ones_are_found() -> None:
    group, random = Group(), Random(7)
    alice, bob = group.accounts(6)[:2]
    opened: dict[int, Event] = {}
    for turn in range(8):
        events = [hold(turn * 4000 + number, alice, bob, random.choice((0, 500))) for number in range(4000)]
        group.apply(events)
        opened |= dict(enumerate(events, turn * 4000))
        ending = random.sample(sorted(opened), len(opened) * 2 // 3)
        answers = group.apply([release(number, opened.pop(number)) for number in ending]).results
        assert set(answers["outcome"].tolist()) == {Outcome.POSTED}
        found = group.book.find_reservations(ids_of([event.id for event in opened.values()]))
        assert len(set(found.tolist())) == len(opened) == group.book.open_reservation_count
        assert found.min() >= 0
    debit = group.book.account(alice)
    assert debit is not None
    assert debit["debits_reserved_low"] == 7 * len(opened)
    assert group.book.find_reservations(ids_of([hold(0, alice, bob).id])) == (0 if 0 in opened else -1)


def test_reservations_expire_in_order_of_deadline_then_of_age() -> None:
    group = Group()
    alice, bob = group.accounts(6)[:2]
    timeouts = [5, 3, 9, 3, 1, 5, 3, 0]
    group.apply([hold(number, alice, bob, timeout) for number, timeout in enumerate(timeouts)])
    rows = group.apply([], 100 * SECOND).rows
    order = sorted((timeout, number) for number, timeout in enumerate(timeouts) if timeout)
    assert [row.tobytes()[:16] for row in rows] == [hold(number, alice, bob).id for _, number in order]
    assert group.book.open_reservation_count == 1
    assert group.book.next_deadline_ns() is None


def test_stale_deadlines_are_swept_before_they_fill_the_heap() -> None:
    group = Group()
    alice, bob = group.accounts(6)[:2]
    for turn in range(12):
        events = [hold(turn * 4000 + number, alice, bob, 1000 + number) for number in range(4000)]
        group.apply(events)
        group.apply([release(turn * 4000 + number, event) for number, event in enumerate(events[1:], 1)])
    assert len(group.book.tables.deadlines) < 20_000
    due = group.apply([], 10_000 * SECOND).rows
    assert len(due) == 12


def test_a_book_is_built_anew_from_what_was_saved() -> None:
    group = Group()
    names = group.accounts(5000)
    holds = [hold(number, names[number], names[number + 1], number % 3) for number in range(100)]
    group.apply(holds)
    group.apply([release(number, holds[number]) for number in range(0, 100, 7)])
    book = restored(group.book)
    assert book.scalars() == group.book.scalars()
    assert book.account_rows().tobytes() == group.book.account_rows().tobytes()
    assert by_position(book.open_reservations()) == by_position(group.book.open_reservations())
    assert book.next_deadline_ns() == group.book.next_deadline_ns()
    assert book.dirty_account_chunks() == []
    before, group.book = group.book, book
    after = group.apply([], 4 * SECOND)
    assert group.book.open_reservation_count < before.open_reservation_count
    assert len(after.rows) > 0


def test_accounts_that_lack_or_exceed_the_saved_count_stop_the_engine() -> None:
    group = Group()
    group.accounts(10)
    for wrong in (-1, 1):
        scalars = group.book.scalars()
        scalars = scalars._replace(account_count=scalars.account_count + wrong)
        with pytest.raises(EngineStopped) as stopped:
            Book.restore(0, SETTINGS, scalars, [group.book.account_rows()], group.book.open_reservations())
        assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_only_chunks_of_touched_accounts_are_dirty() -> None:
    group = Group()
    names = group.accounts(10_000)
    assert group.book.dirty_account_chunks() == [0, 1, 2]
    group.book.clear_dirty()
    event = Event(name(5), Kind.POST, names[0], names[1], 1, ledger=1)
    group.apply([event])
    assert group.book.dirty_account_chunks() == [0]
    group.apply([event._replace(id=name(6), credit=names[9_000])])
    assert group.book.dirty_account_chunks() == [0, 2]


def test_rows_out_of_order_or_of_nothing_known_stop_the_engine() -> None:
    group = Group()
    names = group.accounts(5)
    rows = group.apply([Event(name(5), Kind.POST, names[0], names[1], 1, ledger=1)]).rows
    fresh = Book(0)
    apply_settings(fresh, SETTINGS, SECOND)
    for book, damaged in ((group.book, rows), (fresh, rows)):
        with pytest.raises(EngineStopped) as stopped:
            replay_rows(book, damaged, int(damaged[0, 13]))
        assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_followers_of_nothing_open_stop_a_replay() -> None:
    group = Group()
    alice, bob = group.accounts(6)[:2]
    original = hold(1, alice, bob)
    group.apply([original])
    rows = group.apply([release(1, original)]).rows.copy()
    rows[:, 13] += np.uint64(10**9)
    with pytest.raises(EngineStopped) as stopped:
        replay_rows(group.book, rows, int(rows[0, 13]))
    assert stopped.value.code == ExitCode.DATA_DAMAGED


@pytest.mark.parametrize("kind", [0, 6, 63, 67, Kind.EXPIRE, Kind.SETTINGS, 255])
def test_a_record_of_unknown_kinds_stops_the_engine_before_anything_changes(kind: int) -> None:
    group = Group()
    names = group.accounts(5)
    before = group.book.account_rows().tobytes(), group.book.scalars()
    good = Event(name(5), Kind.POST, names[0], names[1], 1, ledger=1)
    with pytest.raises(EngineStopped) as stopped:
        group.apply([good, good._replace(kind=kind)])
    assert stopped.value.code == ExitCode.APPLY_FAILED
    assert (group.book.account_rows().tobytes(), group.book.scalars()) == before


@pytest.mark.parametrize("kind", sorted({*FOLLOWERS, Kind.CREATE_ACCOUNT} - {Kind.REVERSE}))
def test_a_store_that_lacks_what_the_book_refers_to_stops_the_engine(kind: Kind) -> None:
    group = Group()
    alice, bob = group.accounts(6)[:2]
    original = hold(1, alice, bob)
    group.apply([original])
    event = Event(alice, kind, ledger=1)
    if kind in FOLLOWERS:
        event = release(1, original)._replace(kind=kind, amount=0 if kind == Kind.RELEASE else 7)
    batch = as_words(pack(event)).copy()
    with pytest.raises(EngineStopped) as stopped:
        apply_events(group.book, batch, nothing_known(1), SECOND)
    assert stopped.value.code == ExitCode.APPLY_FAILED


def test_a_clock_beyond_all_reason_stops_the_engine() -> None:
    with pytest.raises(EngineStopped) as stopped:
        Group().apply([], 1 << 63)
    assert stopped.value.code == ExitCode.APPLY_FAILED


def test_read_only_knowledge_is_copied_not_refused() -> None:
    group = Group()
    names = group.accounts(6)
    event = Event(name(5), Kind.POST, names[0], names[1], 1, ledger=1)
    group.apply([event])
    batch = as_words(pack(event)).copy()
    known = group.known.known(batch)
    for array in (known.id_row, known.followed_row, known.rows, known.positions, known.requested, known.chain_last):
        array.flags.writeable = False
    assert apply_events(group.book, batch, known, SECOND).results["flags"].tolist() == [1]


WRONG_SETTINGS = {
    "seed": {"hash_seed": 1},
    "cluster": {"cluster_id": "d" * 32},
    "ledger missing": {"ledgers": SETTINGS.ledgers[:1]},
    "ledger twice": {"ledgers": SETTINGS.ledgers * 2},
    "scale changed": {"ledgers": (SETTINGS.ledgers[0], Ledger(ledger=2, code="L2", scale=3))},
    "ledger zero": {"ledgers": (*SETTINGS.ledgers, Ledger(ledger=0, code="L0", scale=2))},
    "scale too large": {"ledgers": (*SETTINGS.ledgers, Ledger(ledger=3, code="L3", scale=39))},
    "slots missing": {"slots": SETTINGS.slots[:1]},
}


@pytest.mark.parametrize("change", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_settings_that_cannot_follow_are_found_before_they_are_logged_and_stop_the_engine_after(
    change: dict[str, Any],
) -> None:
    after = structs.replace(SETTINGS, **change)
    assert check_change(SETTINGS, after) is not None
    group = Group()
    with pytest.raises(EngineStopped) as stopped:
        apply_settings(group.book, after, SECOND)
    assert stopped.value.code == ExitCode.APPLY_FAILED


def test_more_ledgers_and_other_slots_may_follow() -> None:
    assert check_change(None, SETTINGS) is None
    assert check_change(SETTINGS, settings(3, slots_of_group_1=700)) is None
