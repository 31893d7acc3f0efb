"""What a group answers to steps: its word for each chain, as arrays and as bytes (DESIGN §7).

Encoded, little-endian, format version 1::

    header   16 bytes   version u16, zero u16, answers u32, amounts u32, holds u32
    answers  48 bytes each, `ANSWER`, in the order of the steps
    amounts  40 bytes each, `STEP_AMOUNT` (`row`: the leg), answer by answer: where what is secured or decided is not
             what the leg asks for, or something of a hold is given back
    holds    40 bytes each, `STEP_HOLD`, answer by answer: the holds of a word that is HELD; none right after DECIDE or
             HOLD, when every hold of this group's still has its whole amount
    chains   encoded chains (`engine.core.chains.plan`), answer by answer: where another one than the step's is on
    record

A batch of plain chains is read as arrays; `word_of` makes one `Word` where the driver needs it.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Chain, decode_chain, encode_chain
from engine.core.chains.step_record import STEP_AMOUNT, dense_amounts, join_tables
from engine.core.chains.word import REFUSALS, Hold, State, Word, fresh_holds
from engine.core.records import RECORD_BYTES, Words

ANSWERS_VERSION: Final = 1

ANSWER: Final = np.dtype(
    [
        ("state", "u1"),
        ("flags", "u1"),
        ("reason", "<u2"),
        ("leg", "<u2"),
        ("holds", "<u2"),
        ("position", "<u8"),
        ("timestamp", "<u8"),
        ("digest", "V16"),
        ("amounts", "<u4"),
        ("chain_bytes", "<u4"),
    ]
)
"""One answer, 48 bytes. `state`: `engine.core.chains.word.State`, NONE if the group has no word. `flags`: `AnswerFlag`.
`reason`, `leg`: of refusals, and of what is SHORT. `position`, `timestamp`: of the word's first row. `digest`: of the
chain on record. `holds`, `amounts`, `chain_bytes`: how many of the entries, or bytes, behind are this answer's."""

STEP_HOLD: Final = np.dtype(
    [
        ("leg", "<u2"),
        ("state", "u1"),
        ("zero", "u1"),
        ("zero_2", "<u4"),
        ("rest_low", "<u8"),
        ("rest_high", "<u8"),
        ("expired_low", "<u8"),
        ("expired_high", "<u8"),
    ]
)
"""One hold of a HELD word, 40 bytes: `engine.core.chains.word.Hold` of one of the chain's RESERVE legs."""

ON_RECORD: Final = 1
"""The step changed nothing: this is what was on record before it."""
OTHER_CHAIN: Final = 2
"""Another chain than the step's is on record (another body or plan under its id, another chain that has one of its ids,
or the chain of what it follows, laid out otherwise): it follows, encoded."""
SHORT: Final = 4
"""Nothing was logged, and the state is NONE: this group's bucket of a split account does not suffice for `leg`, others
may; `reason` is what to refuse it with once that is proven (decision 12)."""

_HEADER: Final = struct.Struct("<HHIII")
_LOW: Final = (1 << 64) - 1


class AnswersDamaged(ValueError):
    """The bytes are not encoded answers of a known version."""


class StepAnswers(NamedTuple):
    """Answers as arrays."""

    answers: npt.NDArray[np.void]
    """Shape (s,), dtype `ANSWER`."""
    amounts: npt.NDArray[np.void]
    """Shape (a,), dtype `STEP_AMOUNT`, answer by answer."""
    holds: npt.NDArray[np.void]
    """Shape (h,), dtype `STEP_HOLD`, answer by answer."""
    chains: bytes
    """Answer by answer."""


def encode_answers(answers: StepAnswers) -> bytes:
    """Return the bytes of answers."""
    one, amounts, holds, chains = answers
    header = _HEADER.pack(ANSWERS_VERSION, 0, len(one), len(amounts), len(holds))
    return b"".join((header, one.tobytes(), amounts.tobytes(), holds.tobytes(), chains))


def decode_answers(data: bytes | memoryview) -> StepAnswers:
    """Inverse of `encode_answers`, as read-only views; raise `AnswersDamaged` with one sentence if they do not fit."""
    if len(data) < _HEADER.size:
        raise AnswersDamaged(f"answers of {len(data)} bytes are shorter than their header of {_HEADER.size}")
    version, _, count, amounts, holds = _HEADER.unpack_from(data)
    if version != ANSWERS_VERSION:
        raise AnswersDamaged(f"answers of format {version} are unknown to this engine, which reads {ANSWERS_VERSION}")
    amounts_at = _HEADER.size + count * ANSWER.itemsize
    holds_at = amounts_at + amounts * STEP_AMOUNT.itemsize
    chains_at = holds_at + holds * STEP_HOLD.itemsize
    if chains_at > len(data):
        raise AnswersDamaged(f"{count} answers need {chains_at} bytes, and there are {len(data)}")
    found = StepAnswers(
        np.frombuffer(data, ANSWER, count, _HEADER.size),
        np.frombuffer(data, STEP_AMOUNT, amounts, amounts_at),
        np.frombuffer(data, STEP_HOLD, holds, holds_at),
        bytes(data[chains_at:]),
    )
    sums = tuple(int(found.answers[field].sum(dtype=np.int64)) for field in ("amounts", "holds", "chain_bytes"))
    if sums != (amounts, holds, len(found.chains)):
        raise AnswersDamaged("the answers do not add up to what follows them")
    return found


def blank_answers(count: int) -> StepAnswers:
    """Return so many answers that say nothing is on record."""
    answers = np.zeros(count, ANSWER)
    return StepAnswers(answers, np.empty(0, STEP_AMOUNT), np.empty(0, STEP_HOLD), b"")


def split_answers(answers: StepAnswers, counts: Sequence[int]) -> list[StepAnswers]:
    """Cut answers into runs of so many, one for each caller whose steps shared a log record."""
    edges = np.concatenate(([0], np.cumsum(np.array(counts, np.int64))))
    ends = {field: _ends(answers, field)[edges] for field in ("amounts", "holds", "chain_bytes")}
    return [
        StepAnswers(
            answers.answers[edges[at] : edges[at + 1]],
            answers.amounts[ends["amounts"][at] : ends["amounts"][at + 1]],
            answers.holds[ends["holds"][at] : ends["holds"][at + 1]],
            answers.chains[ends["chain_bytes"][at] : ends["chain_bytes"][at + 1]],
        )
        for at in range(len(counts))
    ]


def join_answers(parts: Sequence[StepAnswers]) -> StepAnswers:
    """Put answers behind one another."""
    if not parts:
        return blank_answers(0)
    return StepAnswers(
        join_tables([part.answers for part in parts]),
        join_tables([part.amounts for part in parts]),
        join_tables([part.holds for part in parts]),
        b"".join(part.chains for part in parts),
    )


def _ends(answers: StepAnswers, field: str) -> npt.NDArray[np.int64]:
    """Return where the entries of each answer begin, and behind the last where all end, shape (s + 1,)."""
    return np.concatenate(([0], np.cumsum(answers.answers[field].astype(np.int64))))


def plain_amounts(answers: StepAnswers, asked: Words) -> tuple[Words, Words]:
    """Return (amount, given back) of chains of one leg, shape (s, 2) both; asked: shape (s, 2), of their rows."""
    which = np.repeat(np.arange(len(answers.answers)), answers.answers["amounts"])
    by_row = answers.amounts.copy()
    by_row["row"] = which
    return dense_amounts(asked, by_row)


class AnsweredWord(NamedTuple):
    """A word to be answered."""

    word: Word | None
    flags: int = ON_RECORD
    """`OTHER_CHAIN` is added where the digest is not the asked one."""
    digest: bytes = b""
    """Of the chain that was asked for; b"" if its own."""
    reason: int = 0
    """Of what is SHORT, which has no word; `leg` too."""
    leg: int = 0


def answers_of(words: Iterable[AnsweredWord]) -> StepAnswers:
    """Make answers of words, one by one."""
    return join_answers([_answer_of(one) for one in words])


def _answer_of(one: AnsweredWord) -> StepAnswers:
    blank, word = blank_answers(1), one.word
    answer = blank.answers
    answer["flags"], answer["reason"], answer["leg"] = one.flags, one.reason, one.leg
    if word is None:
        return blank
    other = one.digest not in (b"", word.chain.digest)
    chain = encode_chain(word.chain) if other else b""
    amounts, holds = _amount_entries(word), _hold_entries(word)
    answer["state"], answer["reason"], answer["leg"] = word.state, word.reason, word.leg
    answer["flags"] |= OTHER_CHAIN if other else 0
    answer["position"], answer["timestamp"] = word.position, word.timestamp_ns
    answer["digest"] = np.void(word.chain.digest)
    answer["holds"], answer["amounts"], answer["chain_bytes"] = len(holds), len(amounts), len(chain)
    return StepAnswers(answer, amounts, holds, chain)


def _amount_entries(word: Word) -> npt.NDArray[np.void]:
    if word.state is State.RELEASED:
        return np.empty(0, STEP_AMOUNT)  # nothing moved
    back = word.given_back or (0,) * len(word.amounts)
    found = [
        (leg, 0, amount & _LOW, amount >> 64, given & _LOW, given >> 64)
        for leg, (amount, given) in enumerate(zip(word.amounts, back, strict=True))
        if given or amount != asked_amount(word.chain, leg)
    ]
    return np.array(found, STEP_AMOUNT)


def _hold_entries(word: Word) -> npt.NDArray[np.void]:
    found = (
        [
            (leg, hold.state, 0, 0, hold.rest & _LOW, hold.rest >> 64, hold.expired & _LOW, hold.expired >> 64)
            for leg, hold in zip(word.chain.holds, word.holds, strict=True)
        ]
        if word.holds
        else []
    )
    return np.array(found, STEP_HOLD)


def asked_amount(chain: Chain, leg: int) -> int:
    """Return the amount that a leg asks for."""
    at = leg * RECORD_BYTES + 48
    return int.from_bytes(chain.rows[at : at + 16], "little")


def words_of(answers: StepAnswers, chains: Sequence[Chain], group: int) -> list[Word | None]:
    """Return the words that `group` answered to steps of `chains`; None where it has none."""
    ends = [_ends(answers, field).tolist() for field in ("amounts", "holds", "chain_bytes")]
    return [
        _word_of(answers, number, chain, group, *(slice(end[number], end[number + 1]) for end in ends))
        for number, chain in enumerate(chains)
    ]


def word_of(answers: StepAnswers, number: int, chain: Chain, group: int) -> Word | None:
    """Return one of the words; for many, `words_of` is quicker."""
    ends = [_ends(answers, field) for field in ("amounts", "holds", "chain_bytes")]
    return _word_of(answers, number, chain, group, *(slice(end[number], end[number + 1]) for end in ends))


def _word_of(
    answers: StepAnswers, number: int, asked: Chain, group: int, amounts: slice, holds: slice, chain_bytes: slice
) -> Word | None:
    one = answers.answers[number]
    state = State(one["state"])
    if state is State.NONE:
        return None
    chain = decode_chain(answers.chains[chain_bytes]) if one["flags"] & OTHER_CHAIN else asked
    moved, back = _amounts_of(chain, answers.amounts[amounts]) if state not in REFUSALS else ((), ())
    word = Word(chain, state, moved, back, int(one["reason"]), int(one["leg"]))
    word = word._replace(position=int(one["position"]), timestamp_ns=int(one["timestamp"]))
    return word._replace(holds=_holds_of(word, group, answers.holds[holds])) if state is State.HELD else word


def _amounts_of(chain: Chain, entries: npt.NDArray[np.void]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    moved, back = [asked_amount(chain, leg) for leg in range(chain.legs)], [0] * chain.legs
    for leg, _, low, high, back_low, back_high in entries.tolist():
        moved[leg], back[leg] = low | high << 64, back_low | back_high << 64
    return tuple(moved), tuple(back) if any(back) else ()


def _holds_of(word: Word, group: int, entries: npt.NDArray[np.void]) -> tuple[Hold, ...]:
    if not len(entries):
        return fresh_holds(word.chain, word.amounts, None if group == word.chain.decider else group)
    return tuple(
        Hold(State(state), low | high << 64, expired_low | expired_high << 64)
        for _, state, _, _, low, high, expired_low, expired_high in entries.tolist()
    )
