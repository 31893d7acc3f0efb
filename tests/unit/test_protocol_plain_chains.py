"""Batches of plain chains do what the driver does with each of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.chains.driver import answer, next_steps
from engine.core.chains.plain import plain_digests, plain_families, plain_table
from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.word import Hold, State, Step, Word
from engine.core.records import CALLER_TRANSFER_KINDS, Kind, as_words
from tests.protocol_rows import laid_out, row

A, B = 0, 1
CHAINS = {kind: laid_out(row(kind=kind), sides=((A, B),)) for kind in CALLER_TRANSFER_KINDS}


def word(state: State, chain: Chain) -> Word:
    return Word(chain, state, (30,), holds=tuple(Hold(State.HELD, 30) for _ in chain.holds))


@pytest.mark.parametrize("kind", sorted(CHAINS), ids=lambda kind: kind.name)
def test_the_table_of_plain_chains_is_the_driver(kind: Kind) -> None:
    table, chain = plain_table(), CHAINS[kind]
    (family,) = plain_families(as_words(chain.rows))
    for other in State:
        for decider in State:
            words = {at: word(state, chain) for at, state in ((A, other), (B, decider)) if state}
            expected = [Step(table.step[family, other, decider])]
            assert [order.step for order in next_steps(chain, words)] == (expected if expected != [Step.NONE] else [])
            assert table.answered[family, other, decider] == (answer(chain, words) is not None)


def test_a_batch_of_plain_chains_takes_its_steps_from_the_table() -> None:
    table = plain_table()
    other = np.array([State.NONE, State.RESERVED, State.REFUSED, State.RESERVED, State.COMMITTED], np.uint8)
    decider = np.array([State.NONE, State.NONE, State.NONE, State.POSTED, State.POSTED], np.uint8)
    expected = [Step.RESERVE, Step.DECIDE, Step.ABORT, Step.COMMIT, Step.NONE]
    assert table.step[0, other, decider].tolist() == expected
    assert table.answered[0, other, decider].tolist() == [False, False, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 1023)), max_size=9), st.data())
def test_digests_of_a_batch_are_those_of_its_chains(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    packed = data.draw(st.binary(min_size=128 * len(pairs), max_size=128 * len(pairs)))
    sides = np.array(pairs, np.uint16).reshape(-1, 2)
    chains = [
        chain_of(packed[at * 128 :][:128], Plan((Side(debit, credit),), credit))
        for at, (debit, credit) in enumerate(pairs)
    ]
    found = plain_digests(as_words(packed), sides)
    assert [bytes(digest) for digest in found] == [chain.digest for chain in chains]
