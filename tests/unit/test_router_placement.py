"""Which group an account belongs to."""

import os

import pytest

from engine.core.placement import slot_of
from engine.core.settings import Settings, SlotRange
from router.placement import Placement

SEED = 7


def placement(*slots: SlotRange) -> Placement:
    return Placement(Settings(cluster_id="0" * 32, hash_seed=SEED, ledgers=(), slots=slots, placement_epoch=3))


def test_accounts_go_to_the_group_that_owns_their_slot() -> None:
    two = placement(SlotRange(0, 0, 1023), SlotRange(1, 1024, 4095))
    ids = [os.urandom(16) for _ in range(200)]
    assert two.groups_of_ids(ids).tolist() == [int(slot_of(one, SEED) >= 1024) for one in ids]
    assert (two.epoch, two.groups, two.single) == (3, [0, 1], None)


def test_an_id_of_another_length_goes_to_the_first_group_which_refuses_it() -> None:
    two = placement(SlotRange(4, 0, 1023), SlotRange(5, 1024, 4095))
    assert two.groups_of_ids([b"short"]).tolist() == [4]


def test_no_ids_have_no_groups() -> None:
    assert placement(SlotRange(0, 0, 4095)).groups_of_ids([]).tolist() == []


def test_one_group_needs_no_placing() -> None:
    assert placement(SlotRange(2, 0, 4095)).single == 2


def test_every_slot_must_have_a_group() -> None:
    with pytest.raises(ValueError, match="slot"):
        placement(SlotRange(0, 0, 4000))
