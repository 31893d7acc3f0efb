"""The journal in LMDB: blocks in log order, the truth from which all else in the store derives (DESIGN §6).

A block's key is its first position and its log index, u64 big-endian each. Both only grow, so keys append, blocks
without rows (ticks, batches that were known) have keys of their own, and one ordering serves searches by either.
"""

import struct
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import lmdb
import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.exit_codes import EngineStopped, ExitCode, require
from engine.storage.block import (
    Block,
    BlockDamaged,
    BlockHeader,
    Place,
    decode_block,
    decode_header,
    place_of,
    rows_of,
)
from engine.storage.recent import PackedBlock, RecentBlocks
from engine.storage.step_rows import StepRows, fill_steps
from engine.storage.stored_rows import Holding, StoredRows, decode_held, empty_rows, read_rows

DATABASE: Final = b"journal"
KEY: Final = struct.Struct(">QQ")

RawBlocks: TypeAlias = Generator[tuple[tuple[int, int], memoryview], None, None]
"""((first position, log index), bytes) of one block after another."""


class Journal:
    """Blocks by position and by log index. Reads open transactions of their own, so any thread may read."""

    def __init__(self, environment: lmdb.Environment, folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._database = environment.open_db(DATABASE, create=not environment.flags()["readonly"])
        self.recent = RecentBlocks(1 << 63, 1 << 63)
        """The newest blocks; none, until an owner that appends puts some there."""

    def append(self, transaction: lmdb.Transaction, blocks: Sequence[PackedBlock]) -> None:
        """Append blocks in order within the caller's transaction."""
        for block in blocks:
            key = KEY.pack(block.first_position, block.log_index)
            transaction.put(key, block.data, db=self._database, append=True)

    def blocks_from(self, position: int) -> Generator[Block, None, None]:
        """Yield, from one moment's view, the block that holds `position` and all behind it.

        A block's arrays are valid until the next one is asked for. Close the iterator if it is not read to its end.
        """
        for _, data in self.raw_blocks(lambda cursor: _seek(cursor, position)):
            yield self._decode(data)

    def blocks_after(self, position: int, log_index: int) -> Generator[Block, None, None]:
        """Like `blocks_from`, from the first saved block behind `log_index`, at which the head was at `position`."""
        recent = self.recent.saved_after(log_index)
        if recent is not None:
            yield from (decode_block(block.data) for block in recent)
            return
        first = KEY.pack(position, log_index + 1)
        for _, data in self.raw_blocks(lambda cursor: bool(cursor.set_range(first))):
            yield self._decode(data)

    def raw_blocks(self, stand: Callable[[lmdb.Cursor], bool]) -> RawBlocks:
        """Yield ((first position, log index), bytes), unchecked, from where `stand` puts the cursor."""
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            found = stand(cursor)
            while found:
                yield KEY.unpack(cursor.key()), memoryview(cursor.value())
                found = cursor.next()

    def block_at(self, position: int) -> Block | None:
        """Return the block that holds the row at `position`, a copy; None past the end."""
        kept = self.recent.kept
        if kept.start <= position < self.recent.end:
            return decode_held(kept.holding, position)
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            if not _seek(cursor, position):
                return None
            block = decode_block(bytes(cursor.value()))
        return block if position < block.header.end_position else None

    def block_of(self, log_index: int) -> Block | None:
        """Return the block of the log record `log_index`, a copy; None if it left none here.

        Bisects the keys by position: log indices rise with them.
        """
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            if not cursor.last():
                return None
            low, high = 0, KEY.unpack(cursor.key())[0]
            while low < high:
                middle = (low + high) // 2
                cursor.set_range(KEY.pack(middle + 1, 0))
                if KEY.unpack(cursor.key())[1] <= log_index:
                    low = KEY.unpack(cursor.key())[0]
                else:
                    high = middle
            return _scan_for(cursor, low, log_index)

    def position_behind(self, time_ns: int) -> int:
        """Return the position behind the last row whose timestamp is at or before `time_ns`; timestamps rise with
        positions."""
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            if not cursor.last():
                return 0
            low, high = 0, KEY.unpack(cursor.key())[0]
            while low < high:
                middle = (low + high + 1) // 2
                _seek(cursor, middle)
                header = self._header(memoryview(cursor.value()))
                if header.timestamp_ns <= time_ns:
                    low = max(middle, header.first_position)
                else:
                    high = header.first_position - 1
            _seek(cursor, low)
            data = memoryview(cursor.value())
            header = self._header(data)
            return header.first_position + int((rows_of(data, header)[:, 13] <= np.uint64(time_ns)).sum())

    def last_header(self) -> BlockHeader | None:
        """Return the header of the last block, or None if there is none."""
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            return decode_header(cursor.value()) if cursor.last() else None

    def read(self, positions: npt.NDArray[np.uint64], into: StoredRows, where: npt.NDArray[np.int64]) -> None:
        """Copy the rows at `positions`, shape (m,), to places `where`, shape (m,), of `into`.

        Rows that are not saved yet are found as well. Raises DATA_DAMAGED for a position that no block holds.
        """
        ascending, places = positions, where
        if (positions[1:] < positions[:-1]).any():
            order = np.argsort(positions, kind="stable")
            ascending, places = positions[order], where[order]
        self._visit(ascending, lambda holding, part: read_rows(holding, ascending[part], places[part], into))

    def fill_steps(self, positions: npt.NDArray[np.uint64], places: npt.NDArray[np.int64], into: StepRows) -> None:
        """Fill `places`, shape (k,), with what is to be said of the rows of steps at `positions`, shape (k,),
        ascending."""
        self._visit(positions, lambda holding, part: fill_steps(holding, positions[part], places[part], into))

    def _visit(self, ascending: npt.NDArray[np.uint64], visit: Callable[[Holding, slice], None]) -> None:
        """Let the positions that are only in LMDB be visited, then those in memory."""
        kept = self.recent.kept
        older, count = int(np.searchsorted(ascending, np.uint64(kept.start))), len(ascending)
        if older:
            with self._environment.begin(db=self._database, buffers=True) as transaction:
                cursor = transaction.cursor()
                visit(lambda position: self._holding(cursor, position), slice(0, older))
        if older < count:
            self._require_held(int(ascending[-1]), self.recent.end)
            visit(kept.holding, slice(older, count))

    def rows_at(self, positions: npt.NDArray[np.uint64]) -> Words:
        """Return the rows at `positions`, shape (m,), as words of shape (m, 16), in the order asked."""
        return self.stored_at(positions).rows

    def requested_at(self, positions: npt.NDArray[np.uint64]) -> Words:
        """Return the amounts asked for at `positions`, shape (m,), as words of shape (m, 2)."""
        return self.stored_at(positions).requested

    def stored_at(self, positions: npt.NDArray[np.uint64]) -> StoredRows:
        """Return everything stored at `positions`, shape (m,), in the order asked."""
        into = empty_rows(len(positions))
        self.read(positions, into, np.arange(len(positions)))
        return into

    def _holding(self, cursor: lmdb.Cursor, position: int) -> tuple[Place, memoryview]:
        if not _seek(cursor, position):
            self._require_held(position, 0)
        data = memoryview(cursor.value())
        place = place_of(data)
        self._require_held(position, place.end_position)
        return place, data

    def _require_held(self, position: int, end: int) -> None:
        require(
            position < end,
            ExitCode.DATA_DAMAGED,
            f"{self._folder} has no journal block for position {position}: replace this replica or restore its folder",
        )

    def _header(self, data: memoryview) -> BlockHeader:
        try:
            return decode_header(data)
        except BlockDamaged as error:
            raise self._damaged(error) from error

    def _decode(self, data: memoryview) -> Block:
        try:
            return decode_block(data)
        except BlockDamaged as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BlockDamaged) -> EngineStopped:
        return EngineStopped(
            ExitCode.DATA_DAMAGED, f"{self._folder}: {error}; replace this replica or restore its folder"
        )


def _seek(cursor: lmdb.Cursor, position: int) -> bool:
    """Stand on the last block that begins at or before `position`; False in an empty journal."""
    if cursor.set_range(KEY.pack(position + 1, 0)):
        return bool(cursor.prev())
    return bool(cursor.last())


def _scan_for(cursor: lmdb.Cursor, first_position: int, log_index: int) -> Block | None:
    found = cursor.set_range(KEY.pack(first_position, log_index))
    if not found or KEY.unpack(cursor.key()) != (first_position, log_index):
        return None
    return decode_block(bytes(cursor.value()))
