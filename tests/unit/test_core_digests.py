import hashlib

import numpy as np
import pytest

from engine.core.chains.digests import HEAD_WORDS, LANES, ROW_WORDS, digest_all
from engine.core.chains.plain import plain_digests
from engine.core.chains.plan import DIGEST_BYTES, DIGEST_PERSON, Plan, Side, chain_of


@pytest.mark.parametrize("count", [0, 1, 2, LANES - 1, LANES, LANES + 1, 5 * LANES + 7])
def test_digests_in_lanes_are_those_of_the_library(count: int) -> None:
    messages = np.random.default_rng(count).integers(0, 1 << 64, (count, HEAD_WORDS + ROW_WORDS), np.uint64)
    digests = np.zeros((count, 2), np.uint64)
    heads, rows = messages[:, :HEAD_WORDS].copy(), messages[:, HEAD_WORDS:].copy()
    rows.setflags(write=False)
    digest_all(heads, rows, digests)
    expected = [
        hashlib.blake2b(one.tobytes(), digest_size=DIGEST_BYTES, person=DIGEST_PERSON).digest() for one in messages
    ]
    assert [one.tobytes() for one in digests] == expected


@pytest.mark.parametrize("count", [1, 7, 8, 100])
def test_a_few_chains_and_many_have_the_digests_of_their_plans(count: int) -> None:
    source = np.random.default_rng(count)
    words = source.integers(0, 1 << 64, (count, 16), np.uint64)
    words[:, 15] &= np.uint64(0xFFFF_FFFF_00FF_FFFF)  # no flags: a chain of one leg each
    sides, deciders = source.integers(0, 1024, (count, 2), np.uint16), source.integers(0, 1024, count, np.uint16)
    found = plain_digests(words, sides, deciders)
    plans = [Plan((Side(*side),), decider) for side, decider in zip(sides.tolist(), deciders.tolist(), strict=True)]
    assert [one.tobytes() for one in found] == [
        chain_of(row.tobytes(), plan).digest for row, plan in zip(words, plans, strict=True)
    ]
