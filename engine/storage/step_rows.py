"""What the payload of a STEPS block says of its rows: the chain that each is of, and how that is laid out.

Local rows are read alike: as rows of no chain, both sides in the own group, which decides.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.outline import sides_of_payload
from engine.core.chains.step_record import (
    Sides,
    StepRecord,
    StepsDamaged,
    decode_steps,
    dense_amounts,
    step_words,
)
from engine.core.chains.word import Step
from engine.core.events import plain
from engine.core.log_record import RecordKind, kind_of
from engine.core.records import Kind, Words
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.block import Block
from engine.storage.compiled import entry
from engine.storage.stored_rows import Holding, decode_held

STEP_SHIFT: Final = np.uint64(61)
"""Of the last word of a row: the `Step` that stored it, above the number of the leg."""
LEG_SHIFT: Final = np.uint64(48)
LEG_MASK: Final = np.uint64(0x1FFF)
LATER_STEPS: Final = frozenset({int(step) for step in (Step.COMMIT, Step.RELEASE, Step.HOLD)})
"""Steps of chains that are on record already, and known by the chain's id."""
IS_LATER: Final = np.isin(np.arange(256), list(LATER_STEPS))
"""Shape (256,), by step: whether it is one of those."""
_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)
_FIRST_ROW: Final = np.uint64(0xFFFFFFFF)
_SIXTEEN_BITS: Final = np.uint64(0xFFFF)
_SHIFT_32: Final = np.uint64(32)
_SHIFT_48: Final = np.uint64(48)
_ROWS_AT: Final = 8
"""Of the number of rows in the payload, bytes."""


class StepRows(NamedTuple):
    """What is known of m rows beside the rows themselves."""

    step: npt.NDArray[np.uint8]
    """Shape (m,): the `Step` that stored the row; NONE for local ones."""
    first: npt.NDArray[np.int64]
    """Shape (m,): position of the first row of that step; for local rows, of the first leg."""
    chain_id: Words
    """Shape (m, 2); zeros for local rows."""
    digest: Words
    """Shape (m, 2): of the chain; zeros for local rows."""
    sides: npt.NDArray[np.uint16]
    """Shape (m, 2)."""
    decider: npt.NDArray[np.uint16]
    """Shape (m,)."""
    legs: npt.NDArray[np.uint16]
    """Shape (m,): of the whole chain; 0 for local rows."""
    holds: npt.NDArray[np.bool_]
    """Shape (m,): whether a RESERVE is among the rows of the step."""
    given_back: Words
    """Shape (m, 2)."""


def steps_of_rows(rows: Words) -> npt.NDArray[np.uint8]:
    """Return the steps that stored rows, shape (m, 16)."""
    return (rows[:, 15] >> STEP_SHIFT).astype(np.uint8)


def steps_of_block(block: Block) -> StepRecord | None:
    """Return the steps that changed something in a block, with their rows as views; None if there are none.

    Their rows are the last ones of the block. Raises DATA_DAMAGED.
    """
    if not block.extra or kind_of(block.preamble) != RecordKind.STEPS:
        return None
    try:
        return decode_steps(_rows_of_steps(block), block.extra)
    except StepsDamaged as error:
        raise _damaged(block, error) from error


def sides_of_block(block: Block) -> Sides | None:
    """Return the sides of the last rows of a block, those of its steps, shape (n, 2); None if it has none. Raises
    DATA_DAMAGED."""
    if not block.extra or kind_of(block.preamble) != RecordKind.STEPS:
        return None
    try:
        return sides_of_payload(_rows_of_steps(block), block.extra)
    except StepsDamaged as error:
        raise _damaged(block, error) from error


def _rows_of_steps(block: Block) -> Words:
    rows = int.from_bytes(block.extra[_ROWS_AT : _ROWS_AT + 4], "little")
    return block.rows[max(0, len(block.rows) - rows) :]


def _damaged(block: Block, error: StepsDamaged) -> EngineStopped:
    where = f"the block at position {block.header.first_position}"
    return EngineStopped(ExitCode.DATA_DAMAGED, f"{where}: {error}; restore or replace this replica")


def local_rows(rows: Words, positions: npt.NDArray[np.uint64], group: int) -> StepRows:
    """Return what is to be said of m rows that are all local, or will be filled in."""
    count = len(rows)
    leg = (rows[:, 15] >> LEG_SHIFT) & LEG_MASK
    return StepRows(
        np.zeros(count, np.uint8),
        (positions - leg).astype(np.int64),
        np.zeros((count, 2), np.uint64),
        np.zeros((count, 2), np.uint64),
        np.full((count, 2), group, np.uint16),
        np.full(count, group, np.uint16),
        np.zeros(count, np.uint16),
        np.zeros(count, np.bool_),
        np.zeros((count, 2), np.uint64),
    )


def fill_steps(
    holding: Holding, positions: npt.NDArray[np.uint64], places: npt.NDArray[np.int64], into: StepRows
) -> None:
    """Fill the `places`, shape (k,), for the rows of steps at `positions`, shape (k,), ascending."""
    start = 0
    while start < len(positions):
        block = decode_held(holding, int(positions[start]))
        end = max(start + 1, int(np.searchsorted(positions, np.uint64(block.header.end_position))))
        _fill(block, positions[start:end].astype(np.int64), places[start:end], into)
        start = end


def _fill(block: Block, positions: npt.NDArray[np.int64], places: npt.NDArray[np.int64], into: StepRows) -> None:
    record = steps_of_block(block)
    if record is None:
        raise EngineStopped(
            ExitCode.DATA_DAMAGED,
            f"the row at position {positions[0]} is of a step, its block is not: restore or replace this replica",
        )
    first_position = block.header.end_position - len(record.rows)
    numbers = positions - first_position
    _place(
        plain(step_words(record.steps), np.uint64),
        steps_with_holds(record),
        np.array(record.sides),
        numbers,
        first_position,
        places,
        *into[:-1],
    )
    if len(record.amounts):
        into.given_back[places] = dense_amounts(record.rows[:, 6:8], record.amounts)[1][numbers]


@entry(
    "void(u8[:, ::1], b1[::1], u2[:, ::1], i8[::1], i8, i8[::1], u1[::1], i8[::1], u8[:, ::1], u8[:, ::1], "
    "u2[:, ::1], u2[::1], u2[::1], b1[::1])"
)
def _place(
    steps: Words,
    with_holds: npt.NDArray[np.bool_],
    row_sides: Sides,
    numbers: npt.NDArray[np.int64],
    first_position: int,
    places: npt.NDArray[np.int64],
    step: npt.NDArray[np.uint8],
    first: npt.NDArray[np.int64],
    chain_id: Words,
    digest: Words,
    sides: Sides,
    decider: npt.NDArray[np.uint16],
    legs: npt.NDArray[np.uint16],
    holds: npt.NDArray[np.bool_],
) -> None:
    """Fill the `places` of `StepRows` for the rows `numbers`, ascending, of a block's `steps`, shape (s, 8)."""
    at = 0
    for k in range(len(numbers)):
        number, place = numbers[k], places[k]
        if len(steps) == len(row_sides):
            at = number  # one row each
        while at + 1 < len(steps) and np.int64(steps[at + 1, 5] & _FIRST_ROW) <= number:
            at += 1
        row_first, meta = np.int64(steps[at, 5] & _FIRST_ROW), steps[at, 6]
        step[place] = np.uint8((meta >> _SHIFT_48) & _BYTE)
        first[place] = first_position + row_first
        for word in range(2):
            chain_id[place, word], digest[place, word] = steps[at, word], steps[at, 2 + word]
            sides[place, word] = row_sides[number, word]
        decider[place] = np.uint16(steps[at, 5] >> _SHIFT_48)
        legs[place] = np.uint16((meta >> _SHIFT_32) & _SIXTEEN_BITS)
        holds[place] = with_holds[at]


def steps_with_holds(record: StepRecord) -> npt.NDArray[np.bool_]:
    """Return which steps, shape (s,), carry a RESERVE."""
    reserves = (record.rows[:, 15] >> _KIND_SHIFT) & _BYTE == Kind.RESERVE
    if not reserves.any():
        return np.zeros(len(record.steps), np.bool_)
    found: npt.NDArray[np.bool_] = np.logical_or.reduceat(reserves, record.steps["first_row"].astype(np.int64))
    return found


def words_of_ids(ids: npt.NDArray[np.void]) -> Words:
    """Return ids or digests, shape (s,), dtype V16, as words, shape (s, 2), a copy."""
    return np.array(ids, order="C").view(np.uint64).reshape(-1, 2)
