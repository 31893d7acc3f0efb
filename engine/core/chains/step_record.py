"""The payload of a STEPS record: what is to be done for many cross-group chains, as arrays (DESIGN §7).

The rows are the log record's own (or travel beside the payload between groups): legs as the caller sent them, without
timestamp and outcome. The payload says what to do with them; little-endian, format version 1::

    header   16 bytes   version u16, zero u16, steps u32, rows u32, amounts u32
    steps    64 bytes each, `STEP`, in the order in which they are applied; their rows follow one another without gaps
    sides    4 bytes a row: group of the debit account u16, group of the credit account u16
    padding  zeros up to a multiple of 8
    amounts  40 bytes each, `STEP_AMOUNT`, by row ascending: where an amount is not the one that the row asks for, or
             something of a hold is given back

Format version 2 is for *plain* steps alone: each has one row, of a chain of one leg that is named after it. What they
share is said once for a run of them::

    header   16 bytes   version u16, zero u16, runs u32, rows u32, amounts u32
    runs     24 bytes each: steps u32, step u8, zero u8, decider u16, group of the debit account u16, of the credit
             account u16, reason u16, zero u16, time u64; as of `STEP`, in the order of the rows
    digests  16 bytes a row
    amounts  as above

Leaders log version 2 wherever they can, and what a record leaves in the journal is of the record's own version, so that
all replicas write the same bytes. Between groups steps travel as version 1.

RESERVE, DECIDE, ABORT and ASK carry the whole chain. COMMIT, HOLD and RELEASE carry the legs of the group that they are
sent to, EXPIRE carries the leg whose hold it is; their rows bear the number of the leg, because not all legs are there.
The payload of a journal block is the same, but of the steps alone that changed something, with the amounts as they
became: what the group secured, decided, or was told.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Chain
from engine.core.chains.word import WHOLE, Order, Step
from engine.core.kernel.step_payload import RUN_WORDS, fill_runs, fill_steps
from engine.core.records import RECORD_BYTES, RECORD_WORDS, Words, as_words

STEPS_VERSION: Final = 1
COMPACT_VERSION: Final = 2

STEP: Final = np.dtype(
    [
        ("chain_id", "V16"),
        ("digest", "V16"),
        ("time", "<u8"),
        ("first_row", "<u4"),
        ("rows", "<u2"),
        ("decider", "<u2"),
        ("reason", "<u2"),
        ("leg", "<u2"),
        ("legs", "<u2"),
        ("step", "u1"),
        ("zero", "u1"),
        ("reserved", "<u8"),
    ]
)
"""One step, 64 bytes. `time`, ns. RESERVE: when this group's courier may abort (0: never). HOLD: the decider's
timestamp, from which its holds' timeouts count. `reason`: of an ABORT. `leg`: ABORT, the leg that failed; EXPIRE, the
leg whose hold it is. `legs`: of the whole chain. `step`: `engine.core.chains.word.Step`."""

STEP_AMOUNT: Final = np.dtype(
    [
        ("row", "<u4"),
        ("zero", "<u4"),
        ("amount_low", "<u8"),
        ("amount_high", "<u8"),
        ("given_back_low", "<u8"),
        ("given_back_high", "<u8"),
    ]
)
"""What one row moves and gives back, 40 bytes. In answers, `row` is the number of the leg."""

Sides = npt.NDArray[np.uint16]
"""Shape (n, 2): the groups of each row's debit and credit account."""

PAYLOAD_HEADER: Final = struct.Struct("<HHIII")
_LEG: Final = 126
_LOW: Final = (1 << 64) - 1


class StepsDamaged(ValueError):
    """The bytes are not a payload of a known version, or do not fit their rows."""


class StepRecord(NamedTuple):
    """Steps with their rows, as arrays; nothing here is copied unless it must be."""

    rows: Words
    """Shape (n, 16)."""
    steps: npt.NDArray[np.void]
    """Shape (s,), dtype `STEP`."""
    sides: Sides
    """Shape (n, 2)."""
    amounts: npt.NDArray[np.void]
    """Shape (a,), dtype `STEP_AMOUNT`, by row ascending."""
    compact: bool = False
    """The payload is of version 2 wherever all steps are plain."""


def encode_steps(record: StepRecord) -> bytes:
    """Return the payload: everything but the rows."""
    if record.compact and len(record.steps) == len(record.rows) > 0:
        payload = _encode_runs(record)
        if payload:
            return payload
    steps, rows, amounts = len(record.steps), len(record.sides), len(record.amounts)
    return b"".join(
        (
            PAYLOAD_HEADER.pack(STEPS_VERSION, 0, steps, rows, amounts),
            record.steps.tobytes(),
            record.sides.astype("<u2", copy=False).tobytes(),
            bytes(-4 * rows % 8),
            record.amounts.tobytes(),
        )
    )


def _encode_runs(record: StepRecord) -> bytes:
    """Return the payload of version 2; b"" if not all steps are plain."""
    count = len(record.steps)
    runs, digests = np.empty((count, RUN_WORDS), np.uint64), np.empty((count, 2), np.uint64)
    rows, sides = np.ascontiguousarray(record.rows), np.ascontiguousarray(record.sides)
    found = fill_runs(step_words(record.steps), rows, sides, runs, digests)
    if found < 0:
        return b""
    header = PAYLOAD_HEADER.pack(COMPACT_VERSION, 0, found, count, len(record.amounts))
    return b"".join((header, runs[:found].data, digests.data, record.amounts.tobytes()))


def step_words(steps: npt.NDArray[np.void]) -> Words:
    """View steps, shape (s,), dtype `STEP`, as words, shape (s, 8)."""
    words: Words = np.ascontiguousarray(steps).view(np.uint64).reshape(-1, STEP.itemsize // 8)
    return words


def decode_steps(rows: Words | bytes | memoryview, payload: bytes | memoryview) -> StepRecord:
    """Inverse of `encode_steps`, as views (read-only if the bytes are); raise `StepsDamaged` if they do not fit.

    Only the layout is checked here; who logs steps says what one has wrong by itself.
    """
    words = rows if isinstance(rows, np.ndarray) else as_words(_whole_rows(rows))
    if len(payload) < PAYLOAD_HEADER.size:
        raise StepsDamaged(f"a payload of {len(payload)} bytes is shorter than its header of {PAYLOAD_HEADER.size}")
    version, _, steps, count, amounts = PAYLOAD_HEADER.unpack_from(payload)
    if version == COMPACT_VERSION:
        return _decode_runs(words, payload, steps, amounts)
    if version != STEPS_VERSION:
        raise StepsDamaged(f"steps of format {version} are unknown to this engine: upgrade it")
    sides_at = PAYLOAD_HEADER.size + steps * STEP.itemsize
    amounts_at = sides_at + 4 * count + -4 * count % 8
    if count != len(words) or len(payload) != amounts_at + amounts * STEP_AMOUNT.itemsize:
        raise StepsDamaged(f"{steps} steps of {count} rows cannot have {len(payload)} bytes and {len(words)} rows")
    record = StepRecord(
        words,
        np.frombuffer(payload, STEP, steps, PAYLOAD_HEADER.size),
        np.frombuffer(payload, "<u2", 2 * count, sides_at).reshape(count, 2),
        np.frombuffer(payload, STEP_AMOUNT, amounts, amounts_at),
    )
    _check_places(record)
    return record


def _decode_runs(rows: Words, payload: bytes | memoryview, runs: int, amounts: int) -> StepRecord:
    """Read version 2; steps and sides are arrays of their own, and may be written to."""
    count, run_bytes = len(rows), 8 * RUN_WORDS * runs
    digests_at = PAYLOAD_HEADER.size + run_bytes
    amounts_at = digests_at + 16 * count
    if PAYLOAD_HEADER.unpack_from(payload)[3] != count or len(payload) != amounts_at + amounts * STEP_AMOUNT.itemsize:
        raise StepsDamaged(f"{runs} runs of plain steps cannot have {len(payload)} bytes and {count} rows")
    steps, sides = np.empty((count, STEP.itemsize // 8), np.uint64), np.empty((count, 2), np.uint16)
    if not fill_steps(
        _words_at(payload, RUN_WORDS, runs, PAYLOAD_HEADER.size),
        np.ascontiguousarray(rows),
        _words_at(payload, 2, count, digests_at),
        steps,
        sides,
    ):
        raise StepsDamaged(f"the runs of plain steps do not have one step for each of {count} rows")
    found = np.frombuffer(payload, STEP_AMOUNT, amounts, amounts_at)
    record = StepRecord(rows, steps.reshape(-1).view(STEP), sides, found, compact=True)
    _check_amounts(record)
    return record


def _words_at(payload: bytes | memoryview, width: int, count: int, offset: int) -> Words:
    words = np.frombuffer(payload, "<u8", width * count, offset).reshape(count, width)
    return words if words.flags.aligned else np.array(words)


def _whole_rows(rows: bytes | memoryview) -> bytes | memoryview:
    if len(rows) % RECORD_BYTES:
        raise StepsDamaged(f"{len(rows)} bytes are no whole number of rows of {RECORD_BYTES} bytes")
    return rows


def _check_places(record: StepRecord) -> None:
    counts = record.steps["rows"].astype(np.int64)
    ends = np.cumsum(counts)
    if (ends[-1] if len(ends) else 0) != len(record.rows) or (record.steps["first_row"] != ends - counts).any():
        raise StepsDamaged("the rows of the steps do not follow one another")
    if (counts == 0).any():
        raise StepsDamaged("a step has no row")
    _check_amounts(record)


def _check_amounts(record: StepRecord) -> None:
    places = record.amounts["row"].astype(np.int64)
    if len(places) and (places[-1] >= len(record.rows) or (np.diff(places) <= 0).any()):
        raise StepsDamaged("an amount is for a row that is not there, or out of order")


def plain_steps(
    rows: Words,
    sides: Sides,
    digests: npt.NDArray[np.uint8],
    step: int | npt.NDArray[np.uint8],
    *,
    time_ns: int | npt.NDArray[np.uint64] = 0,
    reasons: int | npt.NDArray[np.uint16] = 0,
    amounts: Words | None = None,
    given_back: Words | None = None,
) -> StepRecord:
    """Make one step for each record of a batch, as a chain of one leg that its credit account's group decides.

    rows: shape (n, 16), as callers sent them. sides: shape (n, 2). digests: shape (n, 16), of
    `engine.core.chains.plain.plain_digests`. step, time_ns, reasons: one for all, or shape (n,). amounts: shape (n, 2),
    what the other group secured or the decider decided; given_back likewise. No Python object is made for each.
    """
    steps = np.zeros(len(rows), STEP)
    steps["chain_id"] = np.ascontiguousarray(rows[:, :2]).view("V16").reshape(-1)
    steps["digest"] = np.ascontiguousarray(digests).view("V16").reshape(-1)
    steps["time"], steps["reason"], steps["step"] = time_ns, reasons, step
    steps["first_row"] = np.arange(len(rows))
    steps["rows"], steps["legs"] = 1, 1
    steps["decider"] = sides[:, 1]
    return StepRecord(rows, steps, sides, sparse_amounts(rows[:, 6:8], amounts, given_back))


def sparse_amounts(asked: Words, amounts: Words | None, given_back: Words | None = None) -> npt.NDArray[np.void]:
    """Return, dtype `STEP_AMOUNT`, the rows whose amount is not the one asked for, or that give something back."""
    if amounts is None and given_back is None:
        return np.empty(0, STEP_AMOUNT)
    moved = asked if amounts is None else amounts
    back = np.zeros_like(moved) if given_back is None else given_back
    which = np.flatnonzero((moved != asked).any(axis=1) | back.any(axis=1))
    found = np.zeros(len(which), STEP_AMOUNT)
    found["row"] = which
    found["amount_low"], found["amount_high"] = moved[which, 0], moved[which, 1]
    found["given_back_low"], found["given_back_high"] = back[which, 0], back[which, 1]
    return found


def dense_amounts(asked: Words, amounts: npt.NDArray[np.void]) -> tuple[Words, Words]:
    """Inverse of `sparse_amounts`: (amount, given back) of each row, shape (n, 2) both."""
    moved, back = np.array(asked, np.uint64, order="C"), np.zeros((len(asked), 2), np.uint64)
    if len(amounts):
        which = amounts["row"]
        moved[which, 0], moved[which, 1] = amounts["amount_low"], amounts["amount_high"]
        back[which, 0], back[which, 1] = amounts["given_back_low"], amounts["given_back_high"]
    return moved, back


def steps_of(orders: Sequence[Order], times_ns: Sequence[int] = ()) -> StepRecord:
    """Make the steps of any orders, one by one. times_ns: for each order what `STEP` says of `time`; none: all 0."""
    parts = [_step_of(order, time_ns) for order, time_ns in zip(orders, times_ns or [0] * len(orders), strict=True)]
    return join_steps(parts)


def _step_of(order: Order, time_ns: int) -> StepRecord:
    chain, legs = order.chain, legs_carried(order)
    step = np.zeros(1, STEP)
    step["chain_id"], step["digest"] = np.void(chain.chain_id), np.void(chain.digest)
    step["time"], step["rows"], step["legs"] = time_ns, len(legs), chain.legs
    step["decider"], step["step"] = chain.decider, order.step
    step["reason"], step["leg"] = order.reason, order.leg
    sides = np.array([chain.plan.sides[leg] for leg in legs], np.uint16)
    rows = as_words(b"".join(_leg_row(chain, leg, order.step not in WHOLE) for leg in legs))
    return StepRecord(rows, step, sides, _amounts_of(order, legs, rows))


def legs_carried(order: Order) -> list[int]:
    """Return the legs whose rows a step carries."""
    if order.step in WHOLE:
        return list(range(order.chain.legs))
    if order.step is Step.EXPIRE:
        return [order.leg]
    return [leg for leg, side in enumerate(order.chain.plan.sides) if order.group in side]


def _leg_row(chain: Chain, leg: int, numbered: bool) -> bytes:
    row = chain.rows[leg * RECORD_BYTES : (leg + 1) * RECORD_BYTES]
    return row[:_LEG] + leg.to_bytes(2, "little") if numbered else row


def _amounts_of(order: Order, legs: list[int], rows: Words) -> npt.NDArray[np.void]:
    """An EXPIRE has one amount given back, for its leg; other orders have them for every leg of the chain, or none."""
    back = order.given_back
    if order.step is Step.EXPIRE:
        return sparse_amounts(rows[:, 6:8], None, pairs(back))
    amounts = pairs([order.amounts[leg] for leg in legs]) if order.amounts else None
    return sparse_amounts(rows[:, 6:8], amounts, pairs([back[leg] for leg in legs]) if back else None)


def pairs(numbers: Sequence[int]) -> Words:
    """Return 128-bit numbers as words, shape (n, 2): low, high."""
    return np.array([(number & _LOW, number >> 64) for number in numbers], np.uint64).reshape(-1, 2)


def join_steps(records: Sequence[StepRecord]) -> StepRecord:
    """Put several payloads behind one another: the steps of many callers make one log record."""
    if not records:
        empty = np.empty((0, RECORD_WORDS), np.uint64)
        return StepRecord(empty, np.empty(0, STEP), np.empty((0, 2), np.uint16), np.empty(0, STEP_AMOUNT))
    steps, amounts, first = [], [], 0
    for record in records:
        steps.append(_shifted(record.steps, "first_row", first))
        amounts.append(_shifted(record.amounts, "row", first))
        first += len(record.rows)
    return StepRecord(
        np.concatenate([record.rows for record in records]),
        join_tables(steps),
        np.concatenate([record.sides for record in records]),
        join_tables(amounts),
    )


def join_tables(parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Put tables of one structured type behind one another. NumPy's own way compares the types field by field, for each
    part anew: as much as a hundred times slower, where the parts are one entry long."""
    return np.frombuffer(bytearray().join(part.tobytes() for part in parts), parts[0].dtype)


def take_steps(record: StepRecord, wanted: npt.NDArray[np.bool_]) -> StepRecord:
    """Return the steps for which `wanted`, shape (s,), is set, with their rows; the very same record if all are."""
    if wanted.all():
        return record
    kept = np.repeat(wanted, record.steps["rows"])
    new_row = np.cumsum(kept) - 1
    steps = record.steps[wanted]
    steps["first_row"] = new_row[steps["first_row"]]
    amounts = record.amounts[kept[record.amounts["row"]]]
    amounts["row"] = new_row[amounts["row"]]
    return StepRecord(record.rows[kept], steps, record.sides[kept], amounts, record.compact)


def _shifted(table: npt.NDArray[np.void], field: str, by: int) -> npt.NDArray[np.void]:
    if not by:
        return table
    shifted = table.copy()
    shifted[field] += np.uint32(by)
    return shifted
