"""The journal in LMDB: blocks in log order, the truth from which all else in the store derives (DESIGN §6).

A block's key is its first position and its log index, u64 big-endian each. Both only grow, so keys append, blocks
without rows (ticks, batches that were known) have keys of their own, and one ordering serves searches by either.
"""

import struct
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import lmdb
import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_WORDS, Words
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import (
    HEADER_BYTES,
    Block,
    BlockDamaged,
    BlockHeader,
    Place,
    decode_block,
    decode_header,
    place_of,
    rows_of,
)

DATABASE: Final = b"journal"
KEY: Final = struct.Struct(">QQ")
_LEG_SHIFT: Final = np.uint64(48)


class StoredRows(NamedTuple):
    """Rows read back by position, m of them, in the order asked."""

    rows: Words
    """Shape (m, 16)."""
    requested: Words
    """Shape (m, 2): the amounts asked for."""
    chain_last: npt.NDArray[np.bool_]
    """Shape (m,): the last leg of its chain, or alone: the next row of its block has leg 0, or there is none."""


RawBlocks: TypeAlias = Generator[tuple[tuple[int, int], memoryview], None, None]
"""((first position, log index), bytes) of one block after another."""


class PackedBlock(NamedTuple):
    """An encoded block on its way into the journal."""

    first_position: int
    log_index: int
    data: bytes


def empty_rows(count: int) -> StoredRows:
    """Return room for `count` rows."""
    return StoredRows(
        np.empty((count, RECORD_WORDS), np.uint64), np.empty((count, 2), np.uint64), np.empty(count, np.bool_)
    )


class Journal:
    """Blocks by position and by log index. Reads open transactions of their own, so any thread may read."""

    def __init__(self, environment: lmdb.Environment, folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._database = environment.open_db(DATABASE, create=not environment.flags()["readonly"])

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
        """Like `blocks_from`, from the first block behind `log_index`, at which the head was at `position`."""
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

        One search per block touched, not per row. Raises DATA_DAMAGED for a position that no block holds.
        """
        order = np.argsort(positions, kind="stable")
        ascending, places = positions[order], where[order]
        with self._environment.begin(db=self._database, buffers=True) as transaction:
            cursor = transaction.cursor()
            start = 0
            while start < len(ascending):
                start = self._read_block(cursor, ascending, places, start, into)

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

    def _read_block(
        self,
        cursor: lmdb.Cursor,
        positions: npt.NDArray[np.uint64],
        places: npt.NDArray[np.int64],
        start: int,
        into: StoredRows,
    ) -> int:
        """Read what `positions` names from `start` on of one block; return the number of the first behind it."""
        place, data = self._holding(cursor, int(positions[start]))
        end = start + 1
        if end < len(positions) and positions[end] < place.end_position:
            end = int(np.searchsorted(positions, np.uint64(place.end_position)))
        rows = np.frombuffer(data, np.uint64, place.rows * RECORD_WORDS, HEADER_BYTES + place.preamble_bytes)
        rows = rows.reshape(-1, RECORD_WORDS)
        if end == start + 1:
            _copy_one(place, rows, int(positions[start]) - place.first_position, places[start], into)
        else:
            numbers = (positions[start:end] - np.uint64(place.first_position)).astype(np.int64)
            _copy_some(place, rows, numbers, places[start:end], into)
        if place.requested:
            numbers = (positions[start:end] - np.uint64(place.first_position)).astype(np.int64)
            _overlay(decode_block(data), numbers, places[start:end], into.requested)
        return end

    def _holding(self, cursor: lmdb.Cursor, position: int) -> tuple[Place, memoryview]:
        if _seek(cursor, position):
            data = memoryview(cursor.value())
            place = place_of(data)
            if place.first_position <= position < place.end_position:
                return place, data
        raise EngineStopped(
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


def _copy_one(place: Place, rows: Words, number: int, target: np.int64, into: StoredRows) -> None:
    row = rows[number]
    into.rows[target] = row
    into.requested[target] = row[6:8]
    following = number + 1
    into.chain_last[target] = following == place.rows or rows[following, 15] >> _LEG_SHIFT == 0


def _copy_some(
    place: Place, rows: Words, numbers: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], into: StoredRows
) -> None:
    taken = rows[numbers]
    into.rows[targets] = taken
    into.requested[targets] = taken[:, 6:8]
    following = np.minimum(numbers + 1, place.rows - 1)
    into.chain_last[targets] = (rows[following, 15] >> _LEG_SHIFT == 0) | (numbers == place.rows - 1)


def _overlay(block: Block, numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64], requested: Words) -> None:
    """Put the sparse requested amounts over those that moved, for the rows `numbers` of the block."""
    at = np.searchsorted(block.requested_index, numbers)
    at[at == len(block.requested_index)] = 0
    differs = block.requested_index[at] == numbers
    requested[places[differs]] = block.requested_amount[at[differs]]
