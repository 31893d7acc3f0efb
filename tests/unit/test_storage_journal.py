"""Blocks are found by position and by log index, rows by position, from LMDB and from memory alike."""

from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest

from engine.core.known import RESULT, Applied
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import GENESIS_HASH, encode_block
from engine.storage.environment import open_environment, writing
from engine.storage.journal import Journal, PackedBlock, StoredRows, empty_rows
from engine.storage.recent import RecentRows

BLOCK_ROWS = (3, 0, 0, 5, 1, 0, 40, 2, 0, 0)
"""Rows of each block; those without are ticks, or batches of which every id was known."""
LOG_INDICES = (1, 2, 5, 6, 7, 9, 10, 11, 14, 15)


def applied(first_position: int, rows: int, rng: np.random.Generator) -> Applied:
    words = rng.integers(0, 1 << 63, (rows, 16), dtype=np.uint64)
    words[:, 0] = np.arange(first_position, first_position + rows)
    words[:, 15] = np.where(rng.random(rows) < 0.5, 0, 1 << 48)
    index = np.flatnonzero(rng.random(rows) < 0.3).astype(np.uint32)
    return Applied(words, index, rng.integers(0, 9, (len(index), 2), dtype=np.uint64), np.empty(0, RESULT), 7)


class Sample:
    """A journal of `BLOCK_ROWS`, and what it should give."""

    def __init__(self, environment: lmdb.Environment, folder: Path, ring: int) -> None:
        rng = np.random.default_rng(5)
        self.environment, self.folder = environment, folder
        self.journal, self.recent = Journal(environment, folder), RecentRows(0, ring)
        self.expected: list[tuple[list[int], list[int], bool]] = []
        for log_index, count in zip(LOG_INDICES, BLOCK_ROWS, strict=True):
            self.append(applied(len(self.expected), count, rng), log_index)

    def append(self, block: Applied, log_index: int) -> None:
        first = len(self.expected)
        data, _ = encode_block(
            block, preamble=b"", extra=b"", log_index=log_index, term=1, first_position=first, previous=GENESIS_HASH
        )
        with writing(self.environment, self.folder) as transaction:
            self.journal.append(transaction, [PackedBlock(first, log_index, data)])
        self.recent.append(block)
        requested = dict(zip(block.requested_index.tolist(), block.requested_amount.tolist(), strict=True))
        legs = [*(block.rows[:, 15] >> np.uint64(48)).tolist()[1:], 0]
        for number, (row, leg) in enumerate(zip(block.rows.tolist(), legs, strict=False)):
            self.expected.append((row, requested.get(number, row[6:8]), leg == 0))

    def check(self, positions: list[int], found: StoredRows) -> None:
        assert found.rows.tolist() == [self.expected[at][0] for at in positions]
        assert found.requested.tolist() == [self.expected[at][1] for at in positions]
        assert found.chain_last.tolist() == [self.expected[at][2] for at in positions]


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        yield Sample(environment, tmp_path, ring=64)


def positions_of(count: int, below: int, seed: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).integers(0, below, count)]


def test_rows_come_back_in_the_order_asked_with_amounts_and_chain_ends(sample: Sample) -> None:
    for seed in range(20):
        positions = positions_of(30, len(sample.expected), seed)
        sample.check(positions, sample.journal.stored_at(np.array(positions, np.uint64)))


def test_no_positions_give_no_rows(sample: Sample) -> None:
    assert sample.journal.rows_at(np.empty(0, np.uint64)).shape == (0, 16)


def test_a_position_without_a_block_is_damage(sample: Sample) -> None:
    with pytest.raises(EngineStopped, match="position 51") as stopped:
        sample.journal.rows_at(np.array([3, len(sample.expected)], np.uint64))
    assert stopped.value.code == ExitCode.DATA_DAMAGED


def test_recent_rows_equal_those_in_the_journal(sample: Sample) -> None:
    assert (sample.recent.start, sample.recent.end) == (0, len(sample.expected))
    positions = positions_of(200, len(sample.expected), 1)
    into = empty_rows(len(positions))
    sample.recent.read(np.array(positions, np.uint64), into, np.arange(len(positions)))
    sample.check(positions, into)


@pytest.mark.parametrize("ring", [8, 16, 32])
def test_a_ring_smaller_than_the_journal_keeps_the_newest_rows(tmp_path: Path, ring: int) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        sample = Sample(environment, tmp_path, ring)
        positions = list(range(sample.recent.start, sample.recent.end))
        assert len(positions) == ring
        into = empty_rows(ring)
        sample.recent.read(np.array(positions, np.uint64), into, np.arange(ring))
        sample.check(positions, into)


def test_every_log_index_leads_to_its_block_and_no_other_does(sample: Sample) -> None:
    for log_index in range(17):
        block = sample.journal.block_of(log_index)
        assert (block.header.log_index if block else None) == (log_index if log_index in LOG_INDICES else None)


def test_every_position_leads_to_its_block(sample: Sample) -> None:
    for position in range(len(sample.expected)):
        block = sample.journal.block_at(position)
        assert block is not None
        assert block.header.first_position <= position < block.header.end_position
    assert sample.journal.block_at(len(sample.expected)) is None


def test_blocks_after_a_point_are_those_behind_it_with_the_empty_ones(sample: Sample) -> None:
    position = 0
    for number, (log_index, rows) in enumerate(zip(LOG_INDICES, BLOCK_ROWS, strict=True)):
        position += rows
        found = [block.header.log_index for block in sample.journal.blocks_after(position, log_index)]
        assert found == list(LOG_INDICES[number + 1 :])


def test_blocks_from_a_position_begin_with_the_block_that_holds_it(sample: Sample) -> None:
    for position in range(len(sample.expected)):
        headers = [block.header for block in sample.journal.blocks_from(position)]
        assert headers[0].first_position <= position < headers[0].end_position
        assert headers[-1].log_index == LOG_INDICES[-1]


def test_an_empty_journal_has_nothing(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 20) as environment:
        journal = Journal(environment, tmp_path)
        assert journal.last_header() is None
        assert journal.block_of(1) is None
        assert journal.block_at(0) is None
        assert list(journal.blocks_from(0)) == []
