"""Rows read back by position, out of blocks that lie anywhere: in LMDB's map, or in memory."""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_WORDS, Words
from engine.storage.block import HEADER_BYTES, Block, Place, decode_block

_LEG_SHIFT: Final = np.uint64(48)
_STEP_SHIFT: Final = np.uint64(13)
_NUMBER: Final = np.uint64(0x1FFF)

Holding: TypeAlias = Callable[[int], tuple[Place, memoryview]]
"""Give the block that holds a position: where its rows are, and its bytes."""


class StoredRows(NamedTuple):
    """Rows read back by position, m of them, in the order asked."""

    rows: Words
    """Shape (m, 16)."""
    requested: Words
    """Shape (m, 2): the amounts asked for."""
    chain_last: npt.NDArray[np.bool_]
    """Shape (m,): the last leg of its chain, or alone: the next row of its block is not a later leg of the same step,
    or there is none."""


def empty_rows(count: int) -> StoredRows:
    """Return room for `count` rows."""
    return StoredRows(
        np.empty((count, RECORD_WORDS), np.uint64), np.empty((count, 2), np.uint64), np.empty(count, np.bool_)
    )


def read_rows(
    holding: Holding, positions: npt.NDArray[np.uint64], places: npt.NDArray[np.int64], into: StoredRows
) -> None:
    """Copy the rows at `positions`, shape (m,), ascending, to `places`, shape (m,), of `into`.

    One look for each block touched, not for each row.
    """
    start = 0
    while start < len(positions):
        start = _read_block(*holding(int(positions[start])), positions, places, start, into)


def decode_held(holding: Holding, position: int) -> Block:
    """Decode the block that holds a position."""
    return decode_block(holding(position)[1])


def _read_block(
    place: Place,
    data: memoryview,
    positions: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int64],
    start: int,
    into: StoredRows,
) -> int:
    """Read what `positions` names from `start` on of one block; return the number of the first behind it."""
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


def _copy_one(place: Place, rows: Words, number: int, target: np.int64, into: StoredRows) -> None:
    row = rows[number]
    into.rows[target] = row
    into.requested[target] = row[6:8]
    following = number + 1
    into.chain_last[target] = following == place.rows or not goes_on(row[15:], rows[following, 15:])[0]


def _copy_some(
    place: Place, rows: Words, numbers: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], into: StoredRows
) -> None:
    taken = rows[numbers]
    into.rows[targets] = taken
    into.requested[targets] = taken[:, 6:8]
    following = np.minimum(numbers + 1, place.rows - 1)
    into.chain_last[targets] = ~goes_on(taken[:, 15], rows[following, 15])


def goes_on(meta: npt.NDArray[np.uint64], following: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Whether rows, by their last words, are followed by a later leg of the same chain; never by themselves."""
    here, there = meta >> _LEG_SHIFT, following >> _LEG_SHIFT
    found: npt.NDArray[np.bool_] = (here >> _STEP_SHIFT == there >> _STEP_SHIFT) & (there & _NUMBER > here & _NUMBER)
    return found


def _overlay(block: Block, numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64], requested: Words) -> None:
    """Put the sparse requested amounts over those that moved, for the rows `numbers` of the block."""
    at = np.searchsorted(block.requested_index, numbers)
    at[at == len(block.requested_index)] = 0
    differs = block.requested_index[at] == numbers
    requested[places[differs]] = block.requested_amount[at[differs]]
