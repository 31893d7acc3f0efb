"""Transfers proven to find no money are refused together, and only they; what each needs is read from whole batches."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.chains.plan import Side, lay_out_alone
from engine.core.chains.step_answers import ON_RECORD, OTHER_CHAIN, SHORT, blank_answers
from engine.core.chains.step_record import StepRecord, steps_of
from engine.core.chains.word import Order, State, Step
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import Flag, Kind, Words, as_words
from engine.rpc.faults import CallFailed, Reason, unavailable
from router.chains.sending import Lane, Replies, SentAs
from router.split.refusing import REQUEST_ROWS_MAX, refuse_alone
from router.split.short_units import draw_of, legs_of, plain_wants, want_of
from tests.protocol_rows import row

GROUP = 3
SENT_AS = SentAs((), 7)
SHORT_OF_MONEY = int(Outcome.INSUFFICIENT_FUNDS)


def batch(*rows: bytes) -> Words:
    return np.array(as_words(b"".join(rows)))


class Group:
    """Refuses whatever it is told to; some ids have another word already."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.words: dict[int, tuple[State, int]] = {}
        """By row of the first record: what is on record, and the answer's flags."""
        self.lane = Lane(GROUP, self.send)

    async def send(self, record: StepRecord, _: SentAs, __: float) -> Replies:
        self.records.append(record)
        told = blank_answers(len(record.steps))
        one = told.answers
        one["state"], one["reason"] = State.TOMBSTONE, record.steps["reason"]
        one["position"], one["timestamp"] = np.arange(len(one)) + 100, np.arange(len(one)) + 500
        for at, (state, flags) in self.words.items():
            one["state"][at], one["flags"][at] = state, flags
        return Replies(told, 42)

    async def refuse(self, words: Words):  # type: ignore[no-untyped-def]
        reasons = np.full(len(words), SHORT_OF_MONEY, np.uint16)
        return await refuse_alone(words, reasons, self.lane, SENT_AS, asyncio.get_running_loop().time() + 5)


async def test_what_is_sent_for_many_is_what_the_driver_sends_for_each() -> None:
    group = Group()
    rows = [row(f"t{number}", debit="a", credit="b", amount=number + 1) for number in range(20)]
    await group.refuse(batch(*rows))
    chains = [lay_out_alone(one, [Side(GROUP, GROUP)]) for one in rows]
    alone = steps_of([Order(Step.ABORT, GROUP, chain, reason=SHORT_OF_MONEY) for chain in chains])  # type: ignore[arg-type]
    (sent,) = group.records
    assert sent.steps.tobytes() == alone.steps.tobytes() and sent.rows.tobytes() == alone.rows.tobytes()
    assert sent.sides.tolist() == alone.sides.tolist() and not len(sent.amounts)


async def test_only_what_was_refused_as_asked_is_told() -> None:
    group = Group()
    group.words = {
        1: (State.POSTED, ON_RECORD),
        2: (State.REFUSED, ON_RECORD | OTHER_CHAIN),
        3: (State.REFUSED, ON_RECORD),
        4: (State.NONE, SHORT),
    }
    refused = await group.refuse(batch(*(row(f"t{number}", debit="a", credit="b") for number in range(5))))
    assert refused.told.tolist() == [True, False, False, True, False]
    told = refused.results[refused.told]
    assert told["outcome"].tolist() == [SHORT_OF_MONEY] * 2 and told["flags"].tolist() == [0, ResultFlag.REPLAYED]
    assert told["position"].tolist() == [100, 103] and told["timestamp"].tolist() == [500, 503]
    assert told["group"].tolist() == [GROUP] * 2 and refused.log_index == 42


async def test_a_full_batch_goes_in_parts_and_comes_back_in_order() -> None:
    group = Group()
    count = 2 * REQUEST_ROWS_MAX + 1
    words = np.repeat(batch(row("t", debit="a", credit="b")), count, axis=0)
    words[:, 0] = np.arange(1, count + 1)
    refused = await group.refuse(words)
    assert refused.told.all() and len(refused.results) == count
    assert sum(len(one.rows) for one in group.records) == count
    assert max(len(one.rows) for one in group.records) <= 2 * REQUEST_ROWS_MAX


async def test_a_group_out_of_reach_is_a_fault_and_no_refusal() -> None:
    async def down(*_: object) -> Replies:
        raise CallFailed(unavailable(Reason.GROUP_UNREACHABLE, "down"))

    group = Group()
    group.lane = Lane(GROUP, down)
    with pytest.raises(CallFailed):
        await group.refuse(batch(row("t", debit="a", credit="b")))


KINDS = [Kind.POST, Kind.RESERVE, Kind.REVERSE, Kind.COMMIT, Kind.RELEASE]
FLAGS = [Flag.NONE, Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT, Flag.FORCE]
REASONS = [Outcome.INSUFFICIENT_FUNDS, Outcome.CREDIT_LIMIT_EXCEEDED]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS), st.sampled_from(FLAGS), st.sampled_from(REASONS), st.integers(0, (1 << 128) - 1)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_batch_needs_what_its_transfers_need_one_by_one(drawn: list[tuple[Kind, Flag, Outcome, int]]) -> None:
    rows = [
        row(f"t{at}", debit="a", credit="b", amount=amount, kind=kind, flags=flags)
        for at, (kind, flags, _, amount) in enumerate(drawn)
    ]
    reasons = [int(reason) for _, _, reason, _ in drawn]
    found = plain_wants(batch(*rows), reasons)
    for one, (kind, flags, reason, _), plain in zip(rows, drawn, found, strict=True):
        if kind in KINDS[3:] or flags in FLAGS[1:3]:
            assert plain is None
            continue
        legs = legs_of(one)
        draw = draw_of(legs[0], reason)
        assert plain == (draw, want_of(legs, 0, draw))
