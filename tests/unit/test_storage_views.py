"""Statements and as-of balances equal what adding up the whole journal gives, through runs, restarts and pages."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engine.core.records import RECORD, Kind, as_records
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.state_machine import StateMachine
from engine.storage.views.run import Section, build_run, entries_of
from engine.storage.views.statements import TIME_MAX, Basis, Page, Posted, Resume
from engine.storage.views.tail import Movements
from engine.storage.views.views import Views
from tests.storage_histories import ROOMY, History, apply_all, opened, record_of

RUN_ROWS = 100
"""Journal rows of a run here: some hundred rows make several runs and a tail."""
RECORDS = 90


class Line(NamedTuple):
    time_ns: int
    position: int
    debited: bool
    amount: int


@contextmanager
def views_of(machine: StateMachine, folder: Path, run_rows: int = RUN_ROWS) -> Iterator[Views]:
    views = Views(folder, machine.store, machine.book, map_bytes_max=1 << 26, run_rows=run_rows)
    views.start()
    try:
        yield views
    finally:
        views.stop()


def covering(views: Views, machine: StateMachine) -> Views:
    machine.save()
    views.wake()
    assert views.wait(machine.synced_log_index, time.monotonic() + 20)
    return views


def lines_of(machine: StateMachine, account: bytes, basis: Basis) -> list[Line]:
    """All lines of one account, from every row of the journal."""
    lines = []
    rows = as_records(machine.store.journal.rows_at(np.arange(machine.head.next_position, dtype=np.uint64)))
    for position, row in enumerate(rows):
        if row["kind"] not in (Kind.POST, Kind.COMMIT, Kind.REVERSE) or row["outcome"] != 1:
            continue
        sides = (row["debit"].tobytes(), row["credit"].tobytes())
        if account in sides:
            dated = basis is Basis.VALUE and row["effective_at"] != 0
            time_ns = int(row["effective_at"] if dated else row["timestamp"])
            debited = (account == sides[0]) != (row["kind"] == Kind.REVERSE)
            lines.append(Line(time_ns, position, debited, int(row["amount_low"]) + (int(row["amount_high"]) << 64)))
    return sorted(lines, key=lambda line: (line.time_ns, line.position))


def posted(lines: list[Line]) -> Posted:
    return Posted(
        sum(line.amount for line in lines if line.debited), sum(line.amount for line in lines if not line.debited)
    )


def sums_of(page: Page) -> list[Posted]:
    return [Posted(int(a) + (int(b) << 64), int(c) + (int(d) << 64)) for a, b, c, d in page.posted]


class Sample(NamedTuple):
    machine: StateMachine
    views: Views
    history: History
    folder: Path


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    folder, history = tmp_path_factory.mktemp("views"), History(11, accounts=6)
    with opened(folder, ROOMY) as machine, views_of(machine, folder / "views") as views:
        for record in [*history.first_records(), *(history.record() for _ in range(RECORDS))]:
            apply_all(machine, [record])
            machine.save()
            views.wake()
        yield Sample(machine, covering(views, machine), history, folder)


def times_to_ask(lines: list[Line]) -> list[int]:
    chosen = [line.time_ns for line in lines[:: max(1, len(lines) // 12)]]
    return [0, 1, *chosen, *(time_ns + 1 for time_ns in chosen), *(time_ns - 1 for time_ns in chosen), TIME_MAX - 1]


def test_the_sample_has_runs_a_tail_and_dates_that_run_back(sample: Sample) -> None:
    assert len(sample.views._manifest.runs) >= 5
    assert len(sample.views._tail.seen().offsets) > 0
    lines = lines_of(sample.machine, sample.history.accounts[1], Basis.VALUE)
    assert [line.position for line in lines] != sorted(line.position for line in lines)


@pytest.mark.parametrize("basis", Basis)
def test_a_balance_at_any_time_is_the_sum_of_all_lines_up_to_it(sample: Sample, basis: Basis) -> None:
    for account in sample.history.accounts:
        lines = lines_of(sample.machine, account, basis)
        for time_ns in times_to_ask(lines):
            answer = sample.views.balance_at(account, basis, time_ns)
            assert answer is not None
            assert answer[0] == posted([line for line in lines if line.time_ns <= time_ns])
            assert answer[1].log_index == sample.machine.applied_index


@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("limit", [1, 7, 50, 8190])
def test_pages_of_any_size_join_to_the_whole_statement_with_running_sums(
    sample: Sample, basis: Basis, limit: int
) -> None:
    for account in sample.history.accounts[:3]:
        lines = lines_of(sample.machine, account, basis)
        from_ns, to_ns = lines[len(lines) // 7].time_ns, lines[-len(lines) // 9].time_ns
        for start, end in ((0, TIME_MAX), (from_ns, to_ns)):
            within = [number for number, line in enumerate(lines) if start <= line.time_ns < end]
            expected = [(lines[number], posted(lines[: number + 1])) for number in within]
            assert read_all(sample.views, account, basis, start, end, limit) == expected


def read_all(
    views: Views, account: bytes, basis: Basis, from_ns: int, to_ns: int, limit: int
) -> list[tuple[Line, Posted]]:
    read, resume = [], None
    while True:
        page = views.list_entries(account, basis, from_ns, to_ns, limit, resume)
        assert page is not None
        read += lines_on(page, basis)
        assert len(page.positions) == limit or page.resume is None
        if page.resume is None:
            return read
        resume = Resume.unpack(page.resume.pack())


def lines_on(page: Page, basis: Basis) -> list[tuple[Line, Posted]]:
    lines = []
    for row, position, debited, total in zip(
        as_records(page.rows), page.positions.tolist(), page.debited.tolist(), sums_of(page), strict=True
    ):
        dated = basis is Basis.VALUE and row["effective_at"] != 0
        amount = int(row["amount_low"]) + (int(row["amount_high"]) << 64)
        time_ns = int(row["effective_at"] if dated else row["timestamp"])
        lines.append((Line(time_ns, position, debited, amount), total))
    return lines


def test_many_lines_of_one_date_page_without_gaps(tmp_path: Path) -> None:
    history = History(2, accounts=6)
    with opened(tmp_path, ROOMY) as machine, views_of(machine, tmp_path / "views") as views:
        apply_all(machine, history.first_records())
        rows = np.zeros(250, RECORD)
        for number, row in enumerate(rows):
            history._fill_move(row, in_chain=True)
            row["kind"], row["timeout_s"], row["amount_low"] = Kind.POST, 0, number + 1
            row["debit"], row["credit"], row["ledger"] = history.accounts[1], history.accounts[3], 1
            row["effective_at"] = 5 if number % 3 else 6
        apply_all(machine, [record_of(part, history._tick()) for part in np.split(rows, 10)])
        covering(views, machine)
        lines = lines_of(machine, history.accounts[1], Basis.VALUE)
        assert len(lines) == 250
        for limit in (1, 9, 100):
            found = read_all(views, history.accounts[1], Basis.VALUE, 0, TIME_MAX, limit)
            assert [line for line, _ in found] == lines


@pytest.mark.parametrize("basis", Basis)
def test_what_is_booked_between_two_pages_changes_neither(tmp_path: Path, basis: Basis) -> None:
    history = History(4, accounts=6)
    with opened(tmp_path, ROOMY) as machine, views_of(machine, tmp_path / "views") as views:
        apply_all(machine, [*history.first_records(), *(history.record() for _ in range(30))])
        covering(views, machine)
        account = history.accounts[1]
        before = lines_of(machine, account, basis)
        read, resume = list[tuple[Line, Posted]](), None
        while True:
            page = views.list_entries(account, basis, 0, TIME_MAX, 5, resume)
            assert page is not None
            read += lines_on(page, basis)
            apply_all(machine, [history.record() for _ in range(3)])
            covering(views, machine)
            resume = page.resume
            if resume is None or len(read) > len(before) + 50:
                break
        assert [line for line, _ in read[: len(before)]] == before
        assert [total for _, total in read[: len(before)]] == [
            posted(before[: number + 1]) for number in range(len(before))
        ]
        if basis is Basis.VALUE:
            assert len(read) == len(before)


def test_views_go_on_after_a_restart_and_can_be_deleted(sample: Sample, tmp_path: Path) -> None:
    account = sample.history.accounts[2]
    expected = read_all(sample.views, account, Basis.BOOKED, 0, TIME_MAX, 100)
    for _ in range(2):
        with views_of(sample.machine, tmp_path / "views") as views:
            covering(views, sample.machine)
            assert read_all(views, account, Basis.BOOKED, 0, TIME_MAX, 100) == expected
    shutil.rmtree(tmp_path / "views")
    with views_of(sample.machine, tmp_path / "views", run_rows=1 << 16) as views:
        covering(views, sample.machine)
        assert read_all(views, account, Basis.BOOKED, 0, TIME_MAX, 100) == expected


def test_views_of_another_journal_are_dropped(sample: Sample, tmp_path: Path) -> None:
    history = History(99, accounts=6)
    with opened(tmp_path, ROOMY) as machine:
        apply_all(machine, [*history.first_records(), *(history.record() for _ in range(RECORDS))])
        with views_of(machine, tmp_path / "views") as views:
            covering(views, machine)
            assert views._manifest.runs
    with views_of(sample.machine, tmp_path / "views") as views:
        covering(views, sample.machine)
        account = sample.history.accounts[1]
        assert [line for line, _ in read_all(views, account, Basis.BOOKED, 0, TIME_MAX, 100)] == lines_of(
            sample.machine, account, Basis.BOOKED
        )


def test_an_unknown_account_has_no_statement(sample: Sample) -> None:
    assert sample.views.balance_at(bytes(15) + b"?", Basis.BOOKED, 1) is None
    assert sample.views.list_entries(bytes(15) + b"?", Basis.BOOKED, 0, 1, 1) is None


def test_waiting_for_what_never_comes_ends_at_the_deadline(sample: Sample) -> None:
    assert not sample.views.wait(1 << 40, time.monotonic() + 0.05)


def test_a_reader_that_waits_is_told_when_the_views_have_caught_up(tmp_path: Path) -> None:
    history = History(4, accounts=6)
    with opened(tmp_path, ROOMY) as machine, views_of(machine, tmp_path / "views") as views:
        told: list[bool] = []
        reader = threading.Thread(target=lambda: told.append(views.wait(3, time.monotonic() + 20)))
        reader.start()
        apply_all(machine, [*history.first_records(), history.record()])
        machine.save()
        views.wake()
        reader.join()
        assert told == [True]


def test_views_that_fail_say_so_and_let_nobody_wait(sample: Sample, tmp_path: Path) -> None:
    views = Views(tmp_path / "views", sample.machine.store, sample.machine.book, map_bytes_max=1 << 16, run_rows=10)
    views.start()
    try:
        with pytest.raises(EngineStopped) as stopped:
            views.wait(1 << 40, time.monotonic() + 20)
        assert stopped.value.code == ExitCode.MAP_FULL
        with pytest.raises(EngineStopped):
            views.balance_at(sample.history.accounts[0], Basis.BOOKED, 1)
    finally:
        views.stop()


@pytest.mark.parametrize("data", [b"", b"short", bytes(200)])
def test_a_place_to_resume_at_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Resume.unpack(data)


@pytest.mark.parametrize("accounts", [1, 2000, 5_000_000])
def test_entries_of_a_run_lie_by_account_in_the_order_of_the_journal_with_their_sums(accounts: int) -> None:
    rng = np.random.default_rng(accounts)
    debited, credited = rng.integers(0, accounts, (2, 3000)).astype(np.uint32)
    amounts = rng.integers(0, 1 << 63, (3000, 2), dtype=np.uint64)
    amounts[:, 1] &= np.uint64(0xFFFF)
    movements = Movements(
        np.arange(3000, dtype=np.uint32) * np.uint32(2), debited, credited, amounts, amounts[:, 0], debited < 0
    )
    sections = build_run(movements)
    told = [(account, entry) for entry, pair in enumerate(zip(credited, debited, strict=True)) for account in pair]
    expected = [(account, entry * 4 + side % 2) for side, (account, entry) in enumerate(told)]
    expected.sort()
    assert sections[Section.ENTRIES].tolist() == [entry for _, entry in expected]
    assert sections[Section.ACCOUNTS].tolist() == sorted({account for account, _ in expected})
    for account in sections[Section.SUM_ACCOUNTS].tolist():
        listed = entries_of(sections, account, 0)
        total = [0, 0]
        for entry in listed.entries.tolist():
            low, high = amounts[entry // 4].tolist()
            total[0 if entry & 1 else 1] += low | high << 64
        low, high, credits_low, credits_high = listed.sums[-1].tolist()
        assert [low | high << 64, credits_low | credits_high << 64] == total
