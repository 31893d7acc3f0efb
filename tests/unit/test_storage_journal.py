"""Blocks are found by position and by log index, rows by position, from LMDB and from memory alike."""

from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt
import pytest

from engine.core.known import RESULT, Applied
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import GENESIS_HASH, encode_block
from engine.storage.environment import forget_pages, open_environment, writing
from engine.storage.journal import Journal
from engine.storage.recent import ROWS_PER_BLOCK, PackedBlock, RecentBlocks
from engine.storage.stored_rows import StoredRows

BLOCK_ROWS = (3, 0, 0, 5, 1, 0, 40, 2, 0, 0)
"""Rows of each block; those without are ticks, or batches of which every id was known."""
LOG_INDICES = (1, 2, 5, 6, 7, 9, 10, 11, 14, 15)


def applied(first_position: int, rows: int, rng: np.random.Generator) -> Applied:
    words = rng.integers(0, 1 << 63, (rows, 16), dtype=np.uint64)
    words[:, 0] = np.arange(first_position, first_position + rows)
    words[:, 15] = legs_of(rows, rng) << np.uint64(48)
    index = np.flatnonzero(rng.random(rows) < 0.3).astype(np.uint32)
    return Applied(words, index, rng.integers(0, 9, (len(index), 2), dtype=np.uint64), np.empty(0, RESULT), 7)


def legs_of(rows: int, rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Chains of some legs, local ones and those of steps: the three top bits say which step."""
    legs: list[int] = []
    while len(legs) < rows:
        step, count = int(rng.choice([0, 0, 1, 2])), int(rng.integers(1, 4))
        legs += [step << 13 | leg for leg in range(count)]
    return np.array(legs[:rows], np.uint64)


class Sample:
    """A journal of `BLOCK_ROWS`, and what it should give."""

    def __init__(self, environment: lmdb.Environment, folder: Path, recent_rows: int | None = None) -> None:
        rng = np.random.default_rng(5)
        self.environment, self.folder = environment, folder
        self.journal = Journal(environment, folder)
        if recent_rows is not None:
            self.journal.recent = RecentBlocks(0, 0, recent_rows)
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
        if self.journal.recent.end == first:
            self.journal.recent.append(PackedBlock(first, log_index, data), len(block.rows))
            self.journal.recent.saved(log_index)
        requested = dict(zip(block.requested_index.tolist(), block.requested_amount.tolist(), strict=True))
        legs = [*(block.rows[:, 15] >> np.uint64(48)).tolist(), 0]
        for number, row in enumerate(block.rows.tolist()):
            is_last = legs[number + 1] != legs[number] + 1
            self.expected.append((row, requested.get(number, row[6:8]), is_last))

    def check(self, positions: list[int], found: StoredRows) -> None:
        assert found.rows.tolist() == [self.expected[at][0] for at in positions]
        assert found.requested.tolist() == [self.expected[at][1] for at in positions]
        assert found.chain_last.tolist() == [self.expected[at][2] for at in positions]


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Sample]:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        yield Sample(environment, tmp_path)


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


@pytest.mark.parametrize("rows", [0, 8, 16, 32, 200])
def test_rows_are_the_same_from_memory_and_from_the_journal(tmp_path: Path, rows: int) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        sample = Sample(environment, tmp_path, rows)
        positions = positions_of(200, len(sample.expected), 1)
        sample.check(positions, sample.journal.stored_at(np.array(positions, np.uint64)))


def test_memory_keeps_the_newest_blocks_and_no_more_than_its_capacity_needs(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        sample = Sample(environment, tmp_path, 3 * ROWS_PER_BLOCK + 2)
        kept = sample.journal.recent.kept
        assert [block.log_index for block in kept.blocks] == [11, 14, 15]
        assert (kept.start, kept.behind_index) == (49, 10)


def test_what_is_not_saved_is_kept_whatever_its_size_and_not_told_as_saved(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        whole = Sample(environment, tmp_path, 1000).journal.recent.kept.blocks
        recent = RecentBlocks(0, 0, 1)
        for block, rows in zip(whole, BLOCK_ROWS, strict=True):
            recent.append(block, rows)
        assert recent.unsaved() == whole
        assert recent.saved_after(0) == []
        recent.saved(6)
        assert recent.unsaved() == whole[4:]
        assert recent.saved_after(6) == []
        recent.saved(15)
        assert recent.saved_after(9) is None
        assert recent.saved_after(15) == recent.unsaved() == []


@pytest.mark.parametrize("rows", [8, 200])
def test_blocks_behind_a_point_are_the_same_from_memory(tmp_path: Path, rows: int) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 24) as environment:
        sample = Sample(environment, tmp_path, rows)
        position = 0
        for number, (log_index, count) in enumerate(zip(LOG_INDICES, BLOCK_ROWS, strict=True)):
            position += count
            found = [block.header.log_index for block in sample.journal.blocks_after(position, log_index)]
            assert found == list(LOG_INDICES[number + 1 :])


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


def test_pages_that_are_forgotten_leave_this_process_and_can_be_read_again(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 26) as environment:
        with writing(environment, tmp_path) as transaction:
            for number in range(64):
                transaction.put(number.to_bytes(8, "big"), bytes([number]) * (1 << 18))
        assert read_all(environment) == 64 * (1 << 18)
        before = resident_bytes(tmp_path)
        forget_pages(tmp_path)
        assert before > 8 << 20
        assert resident_bytes(tmp_path) < before // 4
        assert read_all(environment) == 64 * (1 << 18)


def read_all(environment: lmdb.Environment) -> int:
    """Touch every page, and check what is there."""
    with environment.begin(buffers=True) as transaction:
        return sum(len(value) for key, value in transaction.cursor() if bytes(value) == bytes([key[7]]) * len(value))


def resident_bytes(folder: Path) -> int:
    """What of the data file is in this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(folder / "data.mdb")))
    return int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1]) << 10


def test_an_empty_journal_has_nothing(tmp_path: Path) -> None:
    with open_environment(tmp_path, map_bytes_max=1 << 20) as environment:
        journal = Journal(environment, tmp_path)
        assert journal.last_header() is None
        assert journal.block_of(1) is None
        assert journal.block_at(0) is None
        assert list(journal.blocks_from(0)) == []
