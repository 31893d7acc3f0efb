"""STEPS records applied to a book, and their journal blocks replayed: the fast implementation (DESIGN §7).

As `engine.core.events` does for EVENTS, and under the same rules: a step cannot be refused, only ignored.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.outline import Outline
from engine.core.chains.step_answers import ANSWER, STEP_HOLD, StepAnswers
from engine.core.chains.step_record import (
    STEP_AMOUNT,
    StepRecord,
    StepsDamaged,
    decode_steps,
    dense_amounts,
    encode_steps,
    sparse_amounts,
    step_words,
)
from engine.core.chains.word import Step
from engine.core.events import (
    KNOWN_LACKS,
    advance,
    asked_otherwise,
    begin,
    expire,
    plain,
    record_time,
    replay_rows,
    work_on,
)
from engine.core.kernel.arrays import ASKED_OTHERWISE, FIRST_POSITION, INCONSISTENT, UNKNOWN, Steps, Work
from engine.core.kernel.step_effects import NET_WORDS
from engine.core.kernel.step_replay import replay_step_rows
from engine.core.kernel.steps import apply_step_batch, scan_steps
from engine.core.known import AppliedSteps, Known, nothing_known
from engine.core.records import Kind, Words
from engine.exit_codes import ExitCode, require

_ANSWER_WORDS: Final = ANSWER.itemsize // 8
_LEG_SHIFT: Final = np.uint64(48)
_LEG_MASK: Final = np.uint64(0x1FFF)
_STEP_SHIFT: Final = np.uint64(61)
_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)


def apply_steps(
    book: Book, steps: StepRecord, known: Known, timestamp_ns: int, outline: Outline | None = None
) -> AppliedSteps:
    """Apply one STEPS record: expire what is due at its time, then take its steps in order.

    `steps.rows`, shape (n, 16), C-contiguous and writable, turns into the journal rows in place. `known` says what the
    store has of the ids of all n rows, and of what they follow; `known.ended`, `known.reversed` and `known.word` are
    written to. `outline`: of the payload that `steps` were decoded from, if that is at hand: then what need not be
    written anew is not. The steps are valid: the leader has seen to it. Raises `EngineStopped(APPLY_FAILED)` if `known`
    lacks what the book refers to.
    """
    time_ns = record_time(book, timestamp_ns)
    expired = expire(book, time_ns)
    payload = b"" if outline is None else outline.payload
    work, arrays = _arrays(book, steps, known, time_ns, len(expired), are_plain=bool(payload))
    transits, holds, chains = scan_steps(book.tables, work, arrays)
    book.ensure_room(transits, holds, chains)
    stored = apply_step_batch(book.tables, work, arrays)
    require(work.counts[INCONSISTENT] == 0, ExitCode.APPLY_FAILED, KNOWN_LACKS)
    rows = steps.rows[:stored] if not len(expired) else np.concatenate((expired, steps.rows[:stored]))
    advance(book, rows)
    index, amount = asked_otherwise(work, stored, len(expired))
    amounts = np.empty(0, STEP_AMOUNT)
    if work.counts[ASKED_OTHERWISE]:
        amounts = sparse_amounts(work.asked[:stored], work.batch[:stored, 6:8], arrays.given_back[:stored])
    same = payload and not len(amounts) and bool(arrays.changed.all())
    extra = payload if same else _extra(steps, work, arrays, stored, amounts)
    answers = _answers(work, arrays, amounts)
    return AppliedSteps(rows, index, amount, extra, answers, arrays.changed, time_ns)


def replay_steps(book: Book, rows: Words, extra: bytes, timestamp_ns: int) -> None:
    """Roll the book forward over the rows of a STEPS block, as `replay_rows` does over those of other blocks.

    `extra` is the block's (`AppliedSteps.extra`). Raises `EngineStopped(DATA_DAMAGED)` at a step that cannot follow.
    """
    kinds = (rows[:, 15] >> _KIND_SHIFT) & _BYTE
    expiries = int(((kinds == Kind.EXPIRE) & (rows[:, 15] >> _STEP_SHIFT == 0)).sum())
    replay_rows(book, rows[:expiries], timestamp_ns)
    if not extra:
        require(expiries == len(rows), ExitCode.DATA_DAMAGED, _DOES_NOT_FOLLOW.format(book.next_position))
        return
    try:
        steps = decode_steps(np.array(rows[expiries:], np.uint64, order="C"), extra)
    except StepsDamaged as damage:
        require(False, ExitCode.DATA_DAMAGED, f"{damage}: restore or replace this replica")
        return
    work, arrays = _arrays(book, steps, nothing_known(len(steps.rows)), timestamp_ns, expiries)
    reserves = int((kinds == Kind.RESERVE).sum())
    book.ensure_room(2 * len(steps.rows), reserves, len(steps.steps))
    position = book.next_position
    work.counts[FIRST_POSITION] = position  # behind the expiries, which are replayed
    fitting = replay_step_rows(book.tables, work, arrays) if int(steps.rows[0, 13]) >= timestamp_ns else 0
    require(fitting == len(steps.steps), ExitCode.DATA_DAMAGED, _DOES_NOT_FOLLOW.format(position))


_DOES_NOT_FOLLOW: Final = "the steps from journal row {0} on do not follow: restore or replace this replica"


def _arrays(
    book: Book, record: StepRecord, known: Known, time_ns: int, expired: int, *, are_plain: bool = False
) -> tuple[Work, Steps]:
    """Return what the compiled loops work on. are_plain: all steps are known to be."""
    rows, count = record.rows, len(record.steps)
    longest = 1 if are_plain else int(record.steps["rows"].max()) if count else 0
    asked, given_back = np.array(rows[:, 6:8], np.uint64, order="C"), np.zeros((len(rows), 2), np.uint64)
    if len(record.amounts):
        moved, given_back = dense_amounts(asked, record.amounts)
        rows[:, 6:8] = moved
    work = work_on(rows, known, longest)._replace(
        debit_rows=np.full(len(rows), UNKNOWN, np.int64),
        credit_rows=np.full(len(rows), UNKNOWN, np.int64),
        asked=asked,
        row_word=np.zeros(len(rows), np.uint8),
        row_step=np.zeros(len(rows), np.int64),
        sides=np.array(record.sides, np.uint16, order="C"),
    )
    begin(book, work, time_ns, expired)
    # Not `longest`: of a long chain this group may run one leg.
    many = not are_plain and bool((record.steps["legs"] > 1).any())
    arrays = Steps(
        plain(step_words(record.steps), np.uint64),
        given_back,
        np.empty((count, _ANSWER_WORDS), np.uint64),
        np.zeros(count, np.bool_),
        np.empty((4 * longest if many else 0, NET_WORDS), np.uint64),
        np.zeros(1 << (4 * longest).bit_length() if many else 1, np.uint32),
    )
    return work, arrays


def _extra(record: StepRecord, work: Work, arrays: Steps, stored: int, amounts: npt.NDArray[np.void]) -> bytes:
    """Return the payload of the steps that changed something."""
    steps = record.steps
    if not arrays.changed.all():
        steps = steps[arrays.changed]
        ends = np.cumsum(steps["rows"], dtype=np.uint32)
        steps["first_row"] = ends - steps["rows"]
    if not len(steps):
        return b""
    return encode_steps(StepRecord(record.rows[:stored], steps, work.sides[:stored], amounts, record.compact))


def _answers(work: Work, arrays: Steps, amounts: npt.NDArray[np.void]) -> StepAnswers:
    """Return the answers; amounts: those of the journal rows, by row."""
    answers = arrays.answers.reshape(-1).view(ANSWER)
    if len(amounts):
        # What an EXPIRE leaves of a word is for storage to tell.
        amounts = amounts[work.batch[amounts["row"], 15] >> _STEP_SHIFT != Step.EXPIRE]
        rows = amounts["row"].copy()
        amounts["row"] = (work.batch[rows, 15] >> _LEG_SHIFT) & _LEG_MASK
        answers["amounts"] += np.bincount(work.row_step[rows], minlength=len(answers)).astype(np.uint32)
    return StepAnswers(answers, amounts, np.empty(0, STEP_HOLD), b"")
