"""The formats of steps and their answers: pinned bytes, and there and back."""

import struct
from pathlib import Path

import numpy as np
import pytest

from engine.core.chains.plain import plain_digests
from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_answers import (
    ANSWER,
    ON_RECORD,
    OTHER_CHAIN,
    STEP_HOLD,
    AnsweredWord,
    AnswersDamaged,
    StepAnswers,
    answers_of,
    blank_answers,
    decode_answers,
    encode_answers,
    join_answers,
    plain_amounts,
    split_answers,
    word_of,
    words_of,
)
from engine.core.chains.step_record import (
    STEP,
    STEP_AMOUNT,
    StepRecord,
    StepsDamaged,
    decode_steps,
    encode_steps,
    join_steps,
    pairs,
    plain_steps,
    sparse_amounts,
    steps_of,
    take_steps,
)
from engine.core.chains.word import Hold, Order, State, Step, Word
from engine.core.outcomes import Outcome
from engine.core.records import AMOUNT_ALL, Kind, as_words
from tests.protocol_rows import laid_out, row

GOLDEN = Path(__file__).parent.parent / "golden"
A, B, C = 0, 1, 2
PLAIN = laid_out(row("plain"), sides=((A, B),))
HOLDS = laid_out(
    row("holds", kind=Kind.RESERVE, amount=9),
    row("post", amount=4),
    row("far", kind=Kind.RESERVE),
    sides=((A, C), (B, A), (B, C)),
)
COMMIT = laid_out(row("commit", kind=Kind.COMMIT, followed="holds", amount=AMOUNT_ALL), sides=((A, C),))
ORDERS = (
    Order(Step.RESERVE, A, PLAIN),
    Order(Step.DECIDE, B, PLAIN, (30,)),
    Order(Step.COMMIT, A, PLAIN, (20,)),
    Order(Step.HOLD, A, HOLDS, (9, 4, 30)),
    Order(Step.COMMIT, A, COMMIT, (6,), (3,)),
    Order(Step.ABORT, C, HOLDS, reason=Outcome.INSUFFICIENT_FUNDS, leg=1),
    Order(Step.EXPIRE, B, HOLDS, given_back=(1 << 70,), leg=2),
    Order(Step.RELEASE, B, HOLDS),
    Order(Step.ASK, C, HOLDS),
)
TIMES = (77, 0, 0, 1 << 62, 0, 0, 0, 0, 0)
WORDS = (
    AnsweredWord(Word(PLAIN, State.RESERVED, (20,), position=5, timestamp_ns=6), 0),
    AnsweredWord(None),
    AnsweredWord(Word(HOLDS, State.HELD, (9, 4, 30), holds=(Hold(State.EXPIRED, 2, 7), Hold(State.NONE, 0)))),
    AnsweredWord(Word(COMMIT, State.POSTED, (6,), (3,), position=1 << 40), 0),
    AnsweredWord(Word(HOLDS, State.REFUSED, reason=Outcome.DEBIT_ACCOUNT_FROZEN, leg=1), digest=PLAIN.digest),
)


def same(one: StepRecord | StepAnswers, other: StepRecord | StepAnswers) -> bool:
    parts = [part.tobytes() if isinstance(part, np.ndarray) else part for both in (one, other) for part in both]
    return parts[: len(one)] == parts[len(one) :]


def test_the_sizes_of_the_formats_are_for_ever() -> None:
    assert [dtype.itemsize for dtype in (STEP, STEP_AMOUNT, ANSWER, STEP_HOLD)] == [64, 40, 48, 40]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("steps_1.hex", encode_steps(steps_of(ORDERS, TIMES))),
        ("step_answers_1.hex", encode_answers(answers_of(WORDS))),
    ],
)
def test_the_bytes_of_version_1_are_pinned(name: str, data: bytes) -> None:
    assert data.hex(" ", 8).split() == (GOLDEN / name).read_text().split()


def runs_of_plain_steps() -> StepRecord:
    """Three runs: other sides, then another step with a time and amounts of its own."""
    chains = [laid_out(row(f"run{number}", amount=7), sides=((A, B if number < 2 else C),)) for number in range(5)]
    orders = [
        *(Order(Step.RESERVE, A, chain) for chain in chains[:4]),
        Order(Step.COMMIT, A, chains[4], (3,), (2,)),
    ]
    return steps_of(orders, [50, 50, 50, 50, 0])._replace(compact=True)


def test_the_bytes_of_version_2_are_pinned() -> None:
    record = runs_of_plain_steps()
    payload = encode_steps(record)
    assert payload.hex(" ", 8).split() == (GOLDEN / "steps_2.hex").read_text().split()
    assert len(payload) == 16 + 3 * 24 + 5 * 16 + 40


def test_plain_steps_are_read_alike_from_either_version() -> None:
    record = runs_of_plain_steps()
    payload = encode_steps(record)
    assert same(decode_steps(record.rows.tobytes(), payload), record)
    unaligned = memoryview(b"---" + payload)[3:]
    assert same(decode_steps(record.rows, unaligned), record)
    loose = decode_steps(record.rows, encode_steps(record._replace(compact=False)))
    assert same(loose, record._replace(compact=False))
    assert encode_steps(loose._replace(compact=True)) == payload


def test_steps_that_are_not_all_plain_stay_in_version_1() -> None:
    for record in (steps_of(ORDERS, TIMES), join_steps([])):
        assert encode_steps(record._replace(compact=True)) == encode_steps(record)
    renamed = runs_of_plain_steps()
    renamed.steps["chain_id"][4] = renamed.steps["chain_id"][0]
    assert encode_steps(renamed) == encode_steps(renamed._replace(compact=False))


def test_steps_come_back_as_they_were() -> None:
    record = steps_of(ORDERS, TIMES)
    assert same(decode_steps(record.rows.tobytes(), encode_steps(record)), record)
    assert same(decode_steps(record.rows, encode_steps(record)), record)
    assert same(decode_steps(b"", encode_steps(join_steps([]))), join_steps([]))


def test_steps_carry_the_rows_and_amounts_that_their_group_needs() -> None:
    record = steps_of(ORDERS, TIMES)
    assert record.steps["rows"].tolist() == [1, 1, 1, 2, 1, 3, 1, 2, 3]
    assert record.steps["legs"].tolist() == [1, 1, 1, 3, 1, 3, 3, 3, 3]
    legs = (record.rows[:, 15] >> np.uint64(48)).tolist()
    assert legs == [0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 1, 2, 0, 0, 0]
    assert record.sides[3:5].tolist() == [[A, C], [B, A]]
    assert record.amounts.tolist() == [(2, 0, 20, 0, 0, 0), (5, 0, 6, 0, 3, 0), (9, 0, 30, 0, 0, 1 << 6)]


def test_plain_steps_are_those_of_single_orders() -> None:
    chains = [laid_out(row(f"t{number}", amount=number + 1), sides=((A, B),)) for number in range(4)]
    rows, sides = as_words(b"".join(chain.rows for chain in chains)), np.array([(A, B)] * 4, np.uint16)
    orders = [Order(Step.COMMIT, A, chain, (2,), (number,)) for number, chain in enumerate(chains)]
    made = plain_steps(
        rows,
        sides,
        plain_digests(rows, sides),
        Step.COMMIT,
        amounts=pairs([2] * 4),
        given_back=pairs(range(4)),
    )
    assert same(made, steps_of(orders))


def test_steps_of_many_callers_are_joined_and_taken_apart() -> None:
    parts = [steps_of([order], [time_ns]) for order, time_ns in zip(ORDERS, TIMES, strict=True)]
    assert same(join_steps(parts), steps_of(ORDERS, TIMES))
    wanted = np.array([number % 2 == 0 for number in range(len(ORDERS))])
    assert same(take_steps(steps_of(ORDERS, TIMES), wanted), steps_of(ORDERS[::2], TIMES[::2]))
    assert len(take_steps(steps_of(ORDERS), np.zeros(len(ORDERS), np.bool_)).rows) == 0


def spoiled(field: str, value: int) -> StepRecord:
    record = steps_of(ORDERS)
    steps = record.steps.copy()
    steps[field][3] = value
    return record._replace(steps=steps)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (spoiled("first_row", 1), "do not follow one another"),
        (spoiled("rows", 1), "do not follow one another"),
        (spoiled("rows", 0), "do not follow one another"),
        (steps_of(ORDERS)._replace(amounts=np.array([(15, 0, 0, 0, 0, 0)], STEP_AMOUNT)), "not there"),
        (steps_of(ORDERS)._replace(amounts=np.array([(1, 0, 0, 0, 0, 0)] * 2, STEP_AMOUNT)), "out of order"),
    ],
)
def test_steps_that_do_not_fit_their_rows_are_found(record: StepRecord, why: str) -> None:
    with pytest.raises(StepsDamaged, match=why):
        decode_steps(record.rows, encode_steps(record))


def test_damaged_payloads_are_found() -> None:
    record = steps_of(ORDERS)
    payload = encode_steps(record)
    for rows, data in ((record.rows, payload[:-1]), (record.rows[1:], payload), (record.rows, b"\x03" + payload[1:])):
        with pytest.raises(StepsDamaged):
            decode_steps(rows, data)
    with pytest.raises(StepsDamaged, match="whole number"):
        decode_steps(record.rows.tobytes()[:-1], payload)
    with pytest.raises(StepsDamaged, match="shorter than its header"):
        decode_steps(record.rows, b"")


def test_damaged_payloads_of_version_2_are_found() -> None:
    record = runs_of_plain_steps()
    payload = encode_steps(record)
    longer = payload[:16] + (5).to_bytes(4, "little") + payload[20:]
    empty = payload[:16] + bytes(4) + payload[20:]
    shorter = payload[:16] + (1).to_bytes(4, "little") + payload[20:]
    for data in (payload[:-1], longer, empty, shorter):
        with pytest.raises(StepsDamaged, match="runs of plain steps"):
            decode_steps(record.rows, data)
    with pytest.raises(StepsDamaged, match="runs of plain steps"):
        decode_steps(record.rows[1:], payload)
    beyond = payload[:-40] + (5).to_bytes(4, "little") + payload[-36:]
    with pytest.raises(StepsDamaged, match="not there"):
        decode_steps(record.rows, beyond)


def asked() -> list[Chain]:
    return [PLAIN, PLAIN, HOLDS, COMMIT, PLAIN]


def test_answers_come_back_as_words() -> None:
    answers = decode_answers(encode_answers(answers_of(WORDS)))
    found = words_of(answers, asked(), C)
    for number, (one, word) in enumerate(zip(WORDS, found, strict=True)):
        again = word_of(answers, number, asked()[number], C)
        if one.word is None or word is None or again is None:
            assert word is again is one.word
        else:
            assert again._replace(chain=word.chain) == word
            assert word._replace(chain=one.word.chain) == one.word
            assert (word.chain.rows, word.chain.plan) == (one.word.chain.rows, one.word.chain.plan)
    assert answers.answers["flags"].tolist() == [0, ON_RECORD, ON_RECORD, 0, ON_RECORD | OTHER_CHAIN]


def test_holds_that_nothing_happened_to_need_no_entry() -> None:
    for group, far in ((A, Hold(State.NONE, 0)), (C, Hold(State.HELD, 30))):
        (word,) = words_of(answers_of([AnsweredWord(Word(HOLDS, State.HELD, (9, 4, 30)))]), [HOLDS], group)
        assert word is not None
        assert word.holds == (Hold(State.HELD, 9), far)


def test_answers_are_split_for_their_callers() -> None:
    answers = answers_of(WORDS)
    parts = split_answers(answers, [2, 0, 1, 2])
    assert [len(part.answers) for part in parts] == [2, 0, 1, 2]
    assert same(join_answers(parts), answers)
    assert encode_answers(parts[1]) == encode_answers(blank_answers(0)) == encode_answers(join_answers([]))
    assert words_of(parts[3], asked()[3:], C)[0] == word_of(answers, 3, COMMIT, C)


def test_amounts_of_plain_answers_are_arrays() -> None:
    answers = answers_of([*WORDS[:2], WORDS[3]])
    amounts, given_back = plain_amounts(answers, pairs([30, 30, AMOUNT_ALL]))
    assert amounts.tolist() == [[20, 0], [30, 0], [6, 0]]
    assert given_back.tolist() == [[0, 0], [0, 0], [3, 0]]


def test_damaged_answers_are_found() -> None:
    data = encode_answers(answers_of(WORDS))
    for damaged in (
        data[:-1],
        data + b"x",
        b"\x02" + data[1:],
        data[:10],
        data[:16],
        struct.pack("<HHIII", 1, 0, 9, 0, 0),
    ):
        with pytest.raises(AnswersDamaged):
            decode_answers(damaged)


def test_amounts_are_listed_only_where_they_differ() -> None:
    asked_for = pairs([1, 2, 3])
    assert sparse_amounts(asked_for, asked_for)["row"].tolist() == []
    assert sparse_amounts(asked_for, pairs([1, 2 << 64, 3]), pairs([0, 0, 5]))["row"].tolist() == [1, 2]


def test_a_chain_answered_in_place_of_another_bears_its_own_digest() -> None:
    other = chain_of(PLAIN.rows, Plan((Side(B, B),), B))
    answers = answers_of([AnsweredWord(Word(other, State.POSTED, (30,)), digest=PLAIN.digest)])
    word = word_of(answers, 0, PLAIN, B)
    assert word is not None
    assert word.chain.digest == other.digest == bytes(answers.answers["digest"][0])
