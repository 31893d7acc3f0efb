"""Known ids: nothing known is ever missed, nothing unknown is ever found, through runs, merges and restarts."""

from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt
import pytest

from engine.core.known import Ended
from engine.core.records import Kind, Words
from engine.storage.environment import open_environment, writing
from engine.storage.ids.entries import WIDTH, Family
from engine.storage.ids.filter import IdFilter
from engine.storage.ids.known_ids import IdLimits, KnownIds
from engine.storage.ids.mapped import COPIED_BYTES_MAX, mapped
from engine.storage.ids.newest import NewestEntries
from engine.storage.ids.run_store import RunStore
from engine.storage.ids.runs import Run, directory_of, find_entries

TINY = IdLimits(newest_entries=64, part_bytes=256, filter_keys=128)
"""Runs of 64 entries in parts of 16: a few hundred rows make runs, merges of merges and filter segments."""
OPENED = 3


class Ids:
    """`KnownIds` over an environment of its own, with what it should answer."""

    def __init__(self, folder: Path, limits: IdLimits = TINY) -> None:
        self.folder, self.limits = folder, limits
        self.environment: lmdb.Environment = open_environment(folder, map_bytes_max=1 << 28)
        self.blocks: list[tuple[int, Words]] = []
        self.end = 0
        self.open()

    def open(self) -> None:
        self.store = RunStore(self.environment, self.environment.open_db(b"state"), self.folder)
        with writing(self.environment, self.folder) as transaction:
            self.store.sweep(transaction, self.store.manifest())
        self.known = KnownIds(self.store, self.limits)
        for first, rows in self.blocks:
            if first + len(rows) > self.known.covered_position:
                self.known.add(rows, first)

    def restart(self) -> None:
        self.known.close()
        self.open()

    def close(self) -> None:
        self.known.close()
        self.environment.close()

    def add(self, rows: Words) -> None:
        self.known.add(rows, self.end)
        self.blocks.append((self.end, rows))
        self.end += len(rows)

    def save(self) -> None:
        with writing(self.environment, self.folder) as transaction:
            changed = self.known.stored.write(transaction)
        if changed:
            self.known.stored.written()

    def settle(self) -> None:
        while not self.known.stored.idle:
            self.save()

    def positions(self, ids: Words) -> list[set[int]]:
        found = self.known.find_ids(ids)
        answers: list[set[int]] = [set() for _ in ids]
        for number, entry in zip(found.numbers.tolist(), found.entries.tolist(), strict=True):
            answers[number].add(entry[1])
        return answers


@pytest.fixture
def ids(tmp_path: Path) -> Iterator[Ids]:
    sample = Ids(tmp_path)
    yield sample
    sample.close()


def rows_of(
    names: npt.NDArray[np.uint64],
    kind: int = Kind.POST,
    followed: npt.NDArray[np.uint64] | None = None,
    outcome: int = 1,
) -> Words:
    rows = np.zeros((len(names), 16), np.uint64)
    rows[:, 0] = names
    rows[:, 1] = names * np.uint64(7)
    if followed is not None:
        rows[:, 8] = followed
        rows[:, 9] = followed * np.uint64(7)
    rows[:, 6] = names
    rows[:, 15] = np.uint64(kind << 16 | outcome << 32)
    return rows


def test_every_added_id_is_found_at_its_position_through_merges_and_restarts(ids: Ids) -> None:
    rng = np.random.default_rng(3)
    for step in range(60):
        ids.add(rows_of(np.arange(ids.end, ids.end + int(rng.integers(1, 100)), dtype=np.uint64) + np.uint64(1)))
        if rng.random() < 0.8:
            ids.save()
        if rng.random() < 0.1:
            ids.restart()
        if step % 10 == 9:
            names = np.arange(ids.end, dtype=np.uint64)
            assert ids.positions(rows_of(names + np.uint64(1))[:, :2].copy()) == [{int(at)} for at in names]
    ids.settle()
    assert max(run.level for run in ids.known.stored.runs[Family.IDS]) >= 2
    assert ids.known.covered_position > ids.end - 2 * TINY.newest_entries


def test_ids_never_added_are_not_found(ids: Ids) -> None:
    ids.add(rows_of(np.arange(1, 3000, dtype=np.uint64)))
    ids.settle()
    assert not any(ids.positions(rows_of(np.arange(5000, 9000, dtype=np.uint64))[:, :2].copy()))


def test_runs_that_were_written_but_never_counted_are_swept(ids: Ids) -> None:
    ids.add(rows_of(np.arange(1, 200, dtype=np.uint64)))
    ids.add(rows_of(np.arange(200, 300, dtype=np.uint64)))
    ids.save()
    stored = ids.environment.open_db(b"runs")
    with ids.environment.begin() as transaction:
        assert transaction.stat(stored)["entries"] > 0
    assert not ids.known.stored.runs[Family.IDS]
    ids.restart()
    with ids.environment.begin() as transaction:
        assert transaction.stat(stored)["entries"] == 0
    assert ids.positions(rows_of(np.arange(1, 300, dtype=np.uint64))[:, :2].copy()) == [{at} for at in range(299)]


@pytest.mark.parametrize("kind", [Kind.CREATE_ACCOUNT, Kind.EXPIRE, Kind.SETTINGS])
def test_accounts_expiries_and_settings_are_not_transfers(ids: Ids, kind: Kind) -> None:
    ids.add(rows_of(np.arange(1, 9, dtype=np.uint64), kind))
    assert not any(ids.positions(rows_of(np.arange(1, 9, dtype=np.uint64))[:, :2].copy()))


def test_what_became_of_followed_transfers_adds_up_over_all_tiers(ids: Ids) -> None:
    rng = np.random.default_rng(8)
    originals = np.arange(1, 40, dtype=np.uint64) * np.uint64(1000)
    sums = dict.fromkeys(originals.tolist(), 0)
    name = 1_000_000
    for _ in range(80):
        chosen = rng.choice(originals, int(rng.integers(1, 40)))
        names = np.arange(name, name + len(chosen), dtype=np.uint64)
        name += len(chosen)
        refused = rng.random() < 0.2
        ids.add(rows_of(names, Kind.REVERSE, chosen, outcome=109 if refused else 1))
        for original, amount in zip(chosen.tolist(), names.tolist(), strict=True):
            sums[original] += 0 if refused else amount
        if rng.random() < 0.7:
            ids.save()
    ids.settle()
    ids.restart()
    followed = ids.known.followed(rows_of(originals)[:, :2].copy())
    assert [int(low) + (int(high) << 64) for low, high in followed.reversed] == list(sums.values())
    assert not followed.ended.any()
    assert max(run.level for run in ids.known.stored.runs[Family.FOLLOWED]) >= 1


def test_sums_of_reversals_carry_into_the_high_word(ids: Ids) -> None:
    for name in range(1, 4):
        rows = rows_of(np.array([name], np.uint64), Kind.REVERSE, np.array([77], np.uint64))
        rows[0, 6] = (1 << 64) - 1
        ids.add(rows)
        ids.add(rows_of(np.arange(name * 1000, name * 1000 + 70, dtype=np.uint64)))
        ids.settle()
    total = ids.known.followed(rows_of(np.array([77], np.uint64))[:, :2].copy()).reversed[0]
    assert int(total[0]) + (int(total[1]) << 64) == 3 * ((1 << 64) - 1)


def test_the_last_follower_says_how_a_reservation_ended(ids: Ids) -> None:
    one = np.array([5], np.uint64)
    expected = []
    for original, kinds in enumerate(
        [(Kind.COMMIT,), (Kind.COMMIT, Kind.RELEASE), (Kind.COMMIT, Kind.COMMIT), (Kind.COMMIT, Kind.EXPIRE)], start=10
    ):
        for kind in kinds:
            followed = np.array([original], np.uint64)
            rows = rows_of(one * np.uint64(original), kind, followed)
            if kind == Kind.EXPIRE:
                rows[:, 0:2] = rows[:, 8:10]
            ids.add(rows)
            ids.add(rows_of(np.arange(ids.end + 100_000, ids.end + 100_070, dtype=np.uint64)))
            ids.settle()
        expected.append(
            {Kind.COMMIT: Ended.COMMITTED, Kind.RELEASE: Ended.RELEASED, Kind.EXPIRE: Ended.EXPIRED}[kinds[-1]]
        )
    names = rows_of(np.arange(10, 15, dtype=np.uint64))[:, :2].copy()
    assert ids.known.followed(names).ended.tolist() == [*expected, Ended.OPEN]


def test_a_run_is_searched_right_for_every_key_and_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    for spread in (200, 1 << 20, 1 << 63):
        for size in (1, 2, 9, 300, 5000):
            keys = np.sort(rng.integers(1, spread, size, dtype=np.uint64))
            entries = np.stack((keys, np.arange(size, dtype=np.uint64)), axis=1)
            cuts = rng.integers(1, size, 3) if size > 9 else np.empty(0, np.int64)
            parts = tuple(mapped(part.copy(), 2) for part in np.split(entries, np.unique(cuts)))
            asked = np.unique(np.concatenate((keys, keys + np.uint64(1), keys - np.uint64(1))))
            numbers, found = np.empty(10 * size, np.int64), np.empty((10 * size, 2), np.uint64)
            end = find_entries(directory_of([Run(1, 0, parts)]), asked, numbers, found, 0)
            answers = sorted(zip(asked[numbers[:end]].tolist(), found[:end, 1].tolist(), strict=True))
            assert answers == sorted(entries[np.isin(keys, asked)].tolist()) or answers == [
                (int(key), int(at)) for key, at in entries
            ]


def test_a_search_without_room_says_how_much_it_needs() -> None:
    entries = np.array([[5, at] for at in range(9)], np.uint64)
    numbers, found = np.empty(2, np.int64), np.empty((2, 2), np.uint64)
    directory = directory_of([Run(1, 0, (mapped(entries, 2),))])
    assert find_entries(directory, np.array([5], np.uint64), numbers, found, 0) == 9


def test_large_values_stay_where_they_are_while_others_come_and_go(tmp_path: Path) -> None:
    """What `mapped` relies on: LMDB never moves an overflow value."""
    with open_environment(tmp_path, map_bytes_max=1 << 26) as environment:
        value = np.random.default_rng(1).integers(0, 1 << 63, COPIED_BYTES_MAX // 8 + 2, dtype=np.uint64)
        with environment.begin(write=True) as transaction:
            transaction.put(b"m", value.tobytes())
        with environment.begin(buffers=True) as transaction:
            address = mapped(memoryview(transaction.get(b"m", b"")), 2).address
        for step in range(200):
            with environment.begin(write=True) as transaction:
                transaction.put(b"%d" % (step * 7919 % 1000), bytes(step * 997 % 90_000))
                transaction.delete(b"%d" % ((step - 9) * 7919 % 1000))
        with environment.begin(buffers=True) as transaction:
            assert mapped(memoryview(transaction.get(b"m", b"")), 2).address == address


def test_the_filter_never_misses_and_seldom_errs() -> None:
    rng = np.random.default_rng(4)
    keys = rng.integers(1, 1 << 64, 60_000, dtype=np.uint64)
    ids = IdFilter(0, 1 << 12)
    for part in np.split(keys, 60):
        ids.insert(part)
    assert len(ids.maybe(keys)) == len(keys)
    assert ids.segments == 4
    strangers = rng.integers(1, 1 << 64, 200_000, dtype=np.uint64)
    assert len(ids.maybe(strangers)) < 0.005 * len(strangers)


def test_meeting_keys_in_the_filter_is_asking_and_inserting_and_what_is_there_takes_no_room() -> None:
    rng = np.random.default_rng(6)
    keys = rng.integers(1, 1 << 63, 3000, dtype=np.uint64)
    met, asked = IdFilter(0, 1 << 10), IdFilter(0, 1 << 10)
    for start in range(0, 3000, 300):
        batch = np.concatenate((keys[start : start + 300], np.zeros(3, np.uint64)))
        expected = asked.maybe(batch)
        found = met.meet(batch)
        assert set(expected) <= set(found)  # more: what looks like another one of the batch
        assert len(found) < 20
        assert (found < 300).all()
        asked.insert(np.delete(batch[:300], expected[expected < 300]))
    segments = met.segments
    for _ in range(20):
        assert len(met.meet(keys)) == len(keys)
    assert (met.segments, len(met.maybe(keys))) == (segments, len(keys))


@pytest.mark.parametrize("first_kind", [Kind.POST, Kind.EXPIRE])
def test_ids_met_are_found_at_the_rows_that_they_became(ids: Ids, first_kind: Kind) -> None:
    batch = rows_of(np.arange(1, 9, dtype=np.uint64))
    met = ids.known.meet(batch)
    assert not len(met.own.numbers)
    rows = batch.copy()
    if first_kind is Kind.EXPIRE:  # one record expired something, and did not store its last row
        rows[1:] = batch[:-1]
        rows[:1] = rows_of(np.array([77], np.uint64), Kind.EXPIRE)
    ids.known.add(rows, 0, met=met)
    found = ids.known.find(batch).own
    shift = 1 if first_kind is Kind.EXPIRE else 0
    assert found.numbers.tolist() == list(range(8 - shift))
    assert found.entries[:, 1].tolist() == list(range(shift, 8))


def test_steps_met_are_found_at_both_their_rows_though_the_later_ones_were_spared(ids: Ids) -> None:
    names = np.arange(1, 9, dtype=np.uint64)
    ids.known.add(rows_of(names), 0, met=ids.known.meet(rows_of(names)))
    met = ids.known.meet(rows_of(names), np.ones(8, np.bool_))
    assert not len(met.own.numbers)
    ids.known.add(rows_of(names), 8, met=met)
    assert ids.positions(np.ascontiguousarray(rows_of(names)[:, :2])) == [{at, at + 8} for at in range(8)]


def test_the_key_of_kinds_without_ids_is_never_in_the_filter() -> None:
    assert not len(IdFilter(0, 64).maybe(np.zeros(5, np.uint64)))


def test_a_block_larger_than_the_table_makes_it_grow_and_the_next_run_shrinks_it() -> None:
    newest = NewestEntries(Family.IDS, 64)
    entries = np.random.default_rng(2).integers(1, 1 << 64, (5000, WIDTH[Family.IDS]), dtype=np.uint64)
    newest.insert(entries, len(entries))
    assert newest.take().tolist() == sorted(entries.tolist())
    newest.insert(entries, 3)
    assert newest.take().tolist() == sorted(entries[:3].tolist())
