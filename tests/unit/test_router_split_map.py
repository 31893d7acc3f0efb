"""Where a batch runs that names accounts which were split."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.chains.plan import sides_of
from engine.core.records import as_words
from engine.core.split.buckets import side_of
from router.chains.batch import internal_alone
from router.split.map import Split, SplitMap
from tests.fake_groups import id_of
from tests.fake_network import HASH_SEED, group_of_slot, names_in
from tests.protocol_rows import linked, row

NAMES = [name for group in range(3) for name in names_in(group, 3, 3, "account")]
HOMES = {name: number // 3 for number, name in enumerate(NAMES)}
SLOTS = group_of_slot(3)


def routed(split: list[str], *rows: bytes) -> tuple[list[list[int]], list[bool]]:
    words = as_words(bytearray(b"".join(rows)))
    splits = SplitMap(Split(id_of(name), 100 + number) for number, name in enumerate(split))
    found = splits.routed(words, sides_of(words, SLOTS, HASH_SEED))
    return found.sides.tolist(), ([False] * len(words) if found.by_map is None else found.by_map.tolist())


@given(st.lists(st.sampled_from(NAMES), unique=True), st.lists(st.permutations(NAMES), min_size=1, max_size=20))
def test_every_transfer_by_itself_runs_where_the_rule_says(split: list[str], pairs: list[list[str]]) -> None:
    sides, by_map = routed(split, *(row(debit=pair[0], credit=pair[1]) for pair in pairs))
    splits = SplitMap(Split(id_of(name), 100 + number) for number, name in enumerate(split))
    for side, placed, pair in zip(sides, by_map, pairs, strict=True):
        accounts = [splits.placed(id_of(name), HOMES[name]) for name in pair[:2]]
        assert side == list(side_of(*accounts))
        assert placed == any(name in split for name in pair[:2])


def test_chains_of_several_legs_run_at_the_homes_of_their_accounts() -> None:
    a, b = NAMES[0], NAMES[3]
    chain = linked(row("c1", debit=a, credit=b), row("c2", debit=b, credit=a))
    assert routed([a], chain, row("t", debit=a, credit=b)) == ([[0, 1], [1, 0], [1, 1]], [False, False, True])


def test_a_map_without_splits_looks_at_nothing() -> None:
    homes = np.zeros((1, 2), np.uint16)
    found = SplitMap().routed(np.zeros((1, 16), np.uint64), homes)
    assert found.sides is homes and found.by_map is None


@pytest.mark.parametrize("shared", ["first half", "second half"])
def test_ids_that_share_a_half_are_told_apart(shared: str) -> None:
    rng = random.Random(1)
    ids = [rng.randbytes(8) for _ in range(300)]
    accounts = [bytes(8) + one if shared == "first half" else one + bytes(8) for one in ids]
    splits = SplitMap(Split(account, number + 1) for number, account in enumerate(accounts[:200]))
    rows = b"".join(bytes(16) + account + bytes(96) for account in accounts)
    found = splits.routed(as_words(bytearray(rows)), np.ones((300, 2), np.uint16))
    assert found.by_map is not None and found.by_map.tolist() == [True] * 200 + [False] * 100


def test_a_row_that_names_an_account_of_the_engine_lies_on_one_group_with_its_chain() -> None:
    a, b = NAMES[0], NAMES[3]
    share = b"\xff" * 8 + b"\x02\x00" + bytes(6)
    hostile = row("c2", debit=b, credit=a)
    hostile = hostile[:32] + share + hostile[48:]
    words = as_words(bytearray(linked(row("c1", debit=a, credit=b), hostile) + row("t", debit=a, credit=b)))
    sides = internal_alone(words, np.array([[0, 1], [1, 2], [0, 1]], np.uint16))
    assert sides.tolist() == [[2, 2], [2, 2], [0, 1]]
