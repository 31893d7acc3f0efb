"""What the payload of a record says of plain steps without a look at each of them (`engine.core.chains.step_record`).

A record of thousands of plain steps has a few runs, mostly one. What is asked of all of them (which steps there are,
which groups run them, whether the journal may keep the payload as it is) is answered from the runs.
"""

from typing import Final, NamedTuple

import numpy as np

from engine.core.chains.step_record import (
    COMPACT_VERSION,
    PAYLOAD_HEADER,
    Sides,
    StepRecord,
    StepsDamaged,
    decode_steps,
)
from engine.core.kernel.step_payload import RUN_WORDS
from engine.core.records import Words

_STEPS_MASK: Final = np.uint64(0xFFFF_FFFF)
_BYTE: Final = np.uint64(0xFF)
_ZERO_OF_FIRST: Final = np.uint64(0xFF << 40)
_ZERO_OF_SECOND: Final = np.uint64(0xFFFF << 48)
_SHIFT_32: Final = np.uint64(32)


class Outline(NamedTuple):
    """What is told of all steps of a record at once."""

    kinds: frozenset[int]
    """The steps that occur."""
    payload: bytes
    """The record's own payload, if that has plain steps alone, which move what their rows ask for, and is just what
    `encode_steps` would make of them; else b""."""


def outline_of(record: StepRecord, payload: bytes) -> Outline:
    """Return the outline of a record that was decoded from `payload`."""
    runs = _runs_of(payload)
    if runs is None:
        return Outline(frozenset(np.unique(record.steps["step"]).tolist()), b"")
    kinds = frozenset(((runs[:, 0] >> _SHIFT_32) & _BYTE).tolist())
    return Outline(kinds, payload if not len(record.amounts) and _is_as_encoded(payload, runs) else b"")


def sides_of_payload(rows: Words, payload: bytes) -> Sides:
    """Return the sides of the rows, shape (n, 16), of a payload, shape (n, 2); raise `StepsDamaged` if they do not
    fit."""
    runs = _runs_of(payload)
    if runs is None:
        return np.array(decode_steps(rows, payload).sides)
    lengths = (runs[:, 0] & _STEPS_MASK).astype(np.int64)
    if int(lengths.sum()) != len(rows):
        raise StepsDamaged(f"the runs of plain steps do not have one step for each of {len(rows)} rows")
    return np.repeat(runs.view(np.uint16).reshape(-1, 4 * RUN_WORDS)[:, 4:6], lengths, axis=0)


def _runs_of(payload: bytes) -> Words | None:
    """Return the runs, shape (r, 3); None of a payload of another version."""
    if len(payload) < PAYLOAD_HEADER.size:
        return None
    version, _, runs, _, _ = PAYLOAD_HEADER.unpack_from(payload)
    if version != COMPACT_VERSION or len(payload) < PAYLOAD_HEADER.size + 8 * RUN_WORDS * runs:
        return None
    return np.frombuffer(payload, "<u8", RUN_WORDS * runs, PAYLOAD_HEADER.size).reshape(runs, RUN_WORDS)


def _is_as_encoded(payload: bytes, runs: Words) -> bool:
    """Whether what must be zero is, and no run could be one with the run before."""
    zeros = int((runs[:, 0] & _ZERO_OF_FIRST).max()) | int((runs[:, 1] & _ZERO_OF_SECOND).max())
    if zeros or PAYLOAD_HEADER.unpack_from(payload)[1]:
        return False
    differs = (runs[1:, 0] ^ runs[:-1, 0]) >> _SHIFT_32 | runs[1:, 1] ^ runs[:-1, 1] | runs[1:, 2] ^ runs[:-1, 2]
    return bool(differs.all())
