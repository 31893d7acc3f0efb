"""How a batch is sorted into chains of one group, plain ones, and those driven one by one."""

import numpy as np
import pytest

from engine.core.records import Flag, Kind, Words
from router.chains.batch import Sorted, sort_chains


def batch(*linked: bool) -> Words:
    words = np.zeros((len(linked), 16), np.uint64)
    words[:, 0] = np.arange(1, len(linked) + 1)
    flags = np.where(linked, Flag.LINKED, Flag.NONE).astype(np.uint64)
    words[:, 15] = np.uint64(Kind.POST << 16) | flags << np.uint64(24)
    return words


def rows_of(found: Sorted) -> dict[str, object]:
    return {
        "local": {group: rows.tolist() for group, rows in found.local.items()},
        "plain": {(part.other, part.decider): part.rows.tolist() for part in found.plain},
        "driven": [rows.tolist() for rows in found.driven],
    }


def sides(*pairs: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(pairs, np.uint16).reshape(-1, 2)


def test_single_transfers_go_by_pairs_of_groups() -> None:
    found = sort_chains(batch(*[False] * 6), sides((0, 0), (0, 1), (1, 0), (1, 1), (0, 1), (2, 0)))
    assert rows_of(found) == {
        "local": {0: [0], 1: [3]},
        "plain": {(0, 1): [1, 4], (1, 0): [2], (2, 0): [5]},
        "driven": [],
    }


def test_a_chain_whose_legs_lie_in_one_group_is_local() -> None:
    found = sort_chains(batch(True, False, False), sides((1, 1), (1, 1), (0, 1)))
    assert rows_of(found) == {"local": {1: [0, 1]}, "plain": {(0, 1): [2]}, "driven": []}


@pytest.mark.parametrize("legs", [((0, 0), (1, 1)), ((0, 1), (0, 1)), ((0, 0), (0, 1))])
def test_a_chain_that_reaches_another_group_is_driven_by_itself(legs: tuple[tuple[int, int], ...]) -> None:
    found = sort_chains(batch(False, True, False, False), sides((0, 0), *legs, (1, 1)))
    assert rows_of(found) == {"local": {0: [0], 1: [3]}, "plain": {}, "driven": [[1, 2]]}


def test_a_batch_of_one_group_is_seen_as_such() -> None:
    assert sort_chains(batch(True, False, False), sides((3, 3), (3, 3), (3, 3))).only_group == 3
    assert sort_chains(batch(False, False), sides((3, 3), (2, 2))).only_group is None
    assert sort_chains(batch(False, False), sides((3, 3), (3, 2))).only_group is None


def test_no_rows_are_no_chains() -> None:
    assert rows_of(sort_chains(batch(), sides())) == {"local": {}, "plain": {}, "driven": []}
