"""Who watches a state machine sees what it stores, and changes nothing."""

from pathlib import Path

from engine.core.records import Words
from engine.storage.state_machine import StateMachine
from tests.storage_histories import apply_all, make_records, opened


class Watcher:
    """Keeps a copy of all rows."""

    def __init__(self, machine: StateMachine) -> None:
        self.rows: list[Words] = []
        machine.watch = lambda rows: self.rows.append(rows.copy())

    def positions(self) -> int:
        return sum(map(len, self.rows))


def test_a_watcher_sees_every_journal_row_once_and_the_state_is_as_without_it(tmp_path: Path) -> None:
    records = make_records(3, 30)
    with opened(tmp_path / "watched") as machine, opened(tmp_path / "alone") as other:
        watcher = Watcher(machine)
        apply_all(machine, records)
        apply_all(other, records)
        assert machine.state_hash == other.state_hash
        assert watcher.positions() == machine.book.next_position


def test_a_watcher_goes_on_watching_what_a_snapshot_put_in_the_place_of_the_state(tmp_path: Path) -> None:
    records = make_records(4, 20)
    with opened(tmp_path / "behind") as machine, opened(tmp_path / "ahead") as other:
        watcher = Watcher(machine)
        apply_all(other, records[:15])
        machine.abandon()
        machine.become(other)
        before = machine.book.next_position
        for index, record in enumerate(records[15:], machine.applied_index + 1):
            machine.apply(index, 1, record)
        assert watcher.positions() == machine.book.next_position - before > 0
