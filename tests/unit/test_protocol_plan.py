"""A chain laid out over groups: its decider, its bounds, its digest and its bytes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.chains.plan import (
    Chain,
    ChainDamaged,
    ChainFault,
    Original,
    Plan,
    Side,
    bodies,
    chain_of,
    chain_starts,
    decode_chain,
    differences,
    encode_chain,
    followed_by,
    is_followed,
    lay_out,
    lay_out_alone,
    original_in,
    sides_of,
)
from engine.core.limits import CHAIN_GROUPS_MAX, CHAIN_LEGS_MAX, GROUPS_MAX, SLOTS
from engine.core.outcomes import Outcome
from engine.core.placement import slot_of
from engine.core.records import AMOUNT_ALL, Flag, Kind, as_words
from tests.protocol_rows import laid_out, linked, row

A, B, C = 0, 1, 2


def chain(found: Chain | ChainFault) -> Chain:
    assert isinstance(found, Chain)
    return found


def test_the_last_credit_account_decides() -> None:
    one = chain(lay_out(linked(row("t"), row("t.1")), [Side(A, B), Side(B, C)]))
    assert (one.decider, one.groups, one.others) == (C, (A, B, C), (A, B))


def test_the_decider_takes_part_where_no_leg_runs() -> None:
    original = {0: Original(Side(A, C), B)}
    one = chain(lay_out(row(kind=Kind.REVERSE, followed="x"), [Side(A, C)], original))
    assert (one.decider, one.groups) == (B, (A, B, C))


def test_a_chain_in_one_group_crosses_nothing() -> None:
    one = chain(lay_out(row(), [Side(B, B)]))
    assert not one.crosses
    assert (one.groups, one.others) == ((B,), ())


def test_a_follower_takes_its_originals_sides_and_decider_whatever_the_map_says() -> None:
    original = {0: Original(Side(A, B), C)}
    one = chain(lay_out(row(kind=Kind.COMMIT, followed="h"), [Side(B, A)], original))
    assert one.plan == Plan((Side(A, B),), C)


def test_a_follower_is_reserved_first_where_it_would_be_refused_as_missing() -> None:
    follower = row(kind=Kind.COMMIT, followed="h")
    one = chain(lay_out(follower, [Side(A, C)], {0: Original(Side(A, C), B)}))
    alone = chain(lay_out_alone(follower, [Side(A, C)]))
    assert one.first == (C,)
    assert alone.groups == (C,)


def test_a_chain_without_followers_is_reserved_everywhere_at_once() -> None:
    one = chain(lay_out(linked(row("t"), row("t.1")), [Side(A, B), Side(B, C)]))
    assert one.first == one.others


def test_money_arrives_where_a_transfer_credits_or_a_reversal_gives_back() -> None:
    legs = (row("a"), row("b", kind=Kind.RESERVE), row("c", kind=Kind.REVERSE, followed="x"))
    one = laid_out(*legs, sides=((A, B), (A, C), (3, 4)), decider=5)
    assert one.credited == {B, 3}
    assert one.holds == (1,)


def test_two_deciders_of_originals_are_a_fault() -> None:
    rows = linked(row("a", kind=Kind.COMMIT, followed="h"), row("b", kind=Kind.COMMIT, followed="i"))
    originals = {0: Original(Side(A, B), B), 1: Original(Side(A, C), C)}
    assert lay_out(rows, [Side(A, B), Side(A, C)], originals) is ChainFault.CHAIN_OF_SEVERAL_DECIDERS


def test_too_many_legs_are_a_fault() -> None:
    rows = linked(*[row(f"t{leg}") for leg in range(3)]) * (CHAIN_LEGS_MAX // 3 + 1)
    sides = [Side(A, B)] * (len(rows) // 128)
    assert lay_out(rows, sides) is ChainFault.CHAIN_TOO_LONG


def test_the_bound_of_groups_counts_the_decider() -> None:
    def over(groups: int) -> Chain | ChainFault:
        sides = [Side(group, group) for group in range(groups)]
        return lay_out(linked(*[row(f"t{group}") for group in range(groups)]), sides)

    assert len(chain(over(CHAIN_GROUPS_MAX)).groups) == CHAIN_GROUPS_MAX
    assert over(CHAIN_GROUPS_MAX + 1) is ChainFault.CHAIN_OVER_TOO_MANY_GROUPS


def test_an_account_of_no_group_is_a_fault() -> None:
    assert lay_out(row(), [Side(A, GROUPS_MAX)]) is ChainFault.GROUP_UNKNOWN


@pytest.mark.parametrize(
    "leg",
    [
        row("b", flags=Flag.BALANCING_DEBIT),
        row("b", flags=Flag.BALANCING_CREDIT),
        row("b", kind=Kind.COMMIT, amount=AMOUNT_ALL, followed="h"),
    ],
)
def test_amounts_that_depend_on_balances_stand_alone_across_groups(leg: bytes) -> None:
    assert lay_out(linked(row("a"), leg), [Side(A, B), Side(A, B)]) is ChainFault.BALANCING_IN_CHAIN
    assert isinstance(lay_out(linked(row("a"), leg), [Side(B, B), Side(B, B)]), Chain)
    assert isinstance(lay_out(leg, [Side(A, B)]), Chain)


def test_the_digest_names_bodies_and_plan_and_nothing_else() -> None:
    one = chain_of(row(), Plan((Side(A, B),), B))
    assert chain_of(row(), Plan((Side(A, B),), B), first=A).digest == one.digest
    others = [
        chain_of(row(amount=31), one.plan),
        chain_of(row(), Plan((Side(C, B),), B)),
        chain_of(row(), Plan((Side(A, B),), A)),
    ]
    assert len({each.digest for each in (one, *others)}) == 4
    # Pinned: digests are in logs.
    assert one.digest.hex() == "0069a46777a62d237737c61808c445d9"


@given(
    st.lists(st.tuples(st.integers(0, GROUPS_MAX - 1), st.integers(0, GROUPS_MAX - 1)), min_size=1, max_size=9),
    st.integers(0, GROUPS_MAX - 1),
    st.data(),
)
def test_a_chain_is_the_same_after_its_bytes(sides: list[tuple[int, int]], decider: int, data: st.DataObject) -> None:
    rows = data.draw(st.binary(min_size=128 * len(sides), max_size=128 * len(sides)))
    one = chain_of(rows, Plan(tuple(Side(*side) for side in sides), decider))
    other = decode_chain(encode_chain(one))
    assert (other.rows, other.plan, other.digest, other.groups) == (one.rows, one.plan, one.digest, one.groups)
    assert (len(encode_chain(one)) - len(rows)) % 8 == 0


def test_damaged_bytes_are_not_a_chain() -> None:
    good = encode_chain(laid_out(row("a"), row("b"), sides=((A, B), (B, C))))
    header = (good[:4] + b"\0\0" + good[6:], "0 legs")
    group = (good[:8] + b"\xff\xff" + good[10:], "group 65535")
    for data, why in (
        (b"", "shorter"),
        (b"\x02" + good[1:], "format 2"),
        (good[:-1], "2 legs"),
        (good + b"\0", "2 legs"),
        header,
        group,
    ):
        with pytest.raises(ChainDamaged, match=why):
            decode_chain(data)


def test_sides_follow_the_map() -> None:
    seed, group_of_slot = 7, np.zeros(SLOTS, np.uint16)
    group_of_slot[slot_of(b"bob".ljust(16, b"\0"), seed)] = 5
    packed = row() + row(debit="bob", credit="alice")
    assert sides_of(as_words(packed), group_of_slot, seed).tolist() == [[0, 5], [5, 0]]
    assert sides_of(as_words(bytearray(packed)), group_of_slot, seed).tolist() == [[0, 5], [5, 0]]


def test_chains_of_a_batch_begin_where_nothing_links() -> None:
    packed = row("a") + linked(row("b"), row("b.1"), row("b.2")) + row("c")
    assert chain_starts(as_words(packed)).tolist() == [0, 1, 4]
    assert chain_starts(np.empty((0, 16), np.uint64)).tolist() == []


def test_bodies_are_what_the_caller_sent() -> None:
    asked = linked(row("a", code=3, timeout_s=9, kind=Kind.RESERVE), row("b", effective_at=5))
    stored = as_words(asked).copy()
    stored[:, 13] = 1_700_000_000_000_000_000
    stored[:, 15] |= np.uint64((2 << 48) | (Outcome.CHAIN_FAILED << 32))
    assert bodies(stored) == asked


OTHER_FIELDS = {
    Outcome.ID_REUSED_WITH_DIFFERENT_KIND: row(kind=Kind.RESERVE),
    Outcome.ID_REUSED_WITH_DIFFERENT_LEDGER: row(ledger=2),
    Outcome.ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT: row(debit="carol"),
    Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT: row(credit="carol"),
    Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT: row(amount=1 << 100),
    Outcome.ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID: row(followed="h"),
    Outcome.ID_REUSED_WITH_DIFFERENT_FLAGS: row(flags=Flag.FORCE),
    Outcome.ID_REUSED_WITH_DIFFERENT_TIMEOUT: row(timeout_s=1),
    Outcome.ID_REUSED_WITH_DIFFERENT_CODE: row(code=1),
    Outcome.ID_REUSED_WITH_DIFFERENT_REFERENCE: row(reference="r"),
    Outcome.ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT: row(effective_at=1),
}


@pytest.mark.parametrize("outcome", OTHER_FIELDS, ids=lambda outcome: outcome.name)
def test_a_conflict_names_the_field(outcome: Outcome) -> None:
    own, other = laid_out(row(), sides=((A, B),)), laid_out(OTHER_FIELDS[outcome], sides=((A, B),))
    assert differences(own, other) == (outcome,)


def test_conflicts_come_in_the_order_of_the_single_group() -> None:
    golden = (Path(__file__).parents[1] / "golden" / "core_conflicts.txt").read_text().split()
    across = [*(outcome.name for outcome in OTHER_FIELDS), "ID_REUSED_WITH_DIFFERENT_CHAIN"]
    assert across == [name for name in golden if name != "ID_REUSED_WITH_DIFFERENT_EXPECTED_VERSION"]


def test_the_first_field_that_differs_is_named() -> None:
    own = laid_out(row(), sides=((A, B),))
    other = laid_out(row(amount=1, code=4, credit="carol"), sides=((A, B),))
    assert differences(own, other) == (Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT,)


def test_a_leg_in_another_chain_conflicts_by_its_chain_alone() -> None:
    whole = laid_out(row("a"), row("b"), sides=((A, B), (A, B)))
    alone = laid_out(row("a"), sides=((A, B),))
    assert differences(alone, whole) == (Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN,)
    assert differences(whole, alone) == (Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN, Outcome.CHAIN_FAILED)


def test_a_chain_that_is_merely_followed_is_told_from_one_that_has_taken_an_id() -> None:
    original = laid_out(row("r1", kind=Kind.RESERVE), row("r2"), sides=((0, 1), (0, 1)))
    follower = laid_out(row("f1"), row("f2", followed="r1", kind=Kind.COMMIT), sides=((0, 0), (0, 0)))
    taken = laid_out(row("f2"), row("r1"), sides=((0, 1), (0, 1)))
    assert is_followed(original, follower)
    assert not is_followed(taken, follower) and not is_followed(follower, original)
    assert followed_by(follower.rows) == {1: b"r1".ljust(16, b"\0")}
    assert original_in(original, b"r1".ljust(16, b"\0")) == Original(Side(0, 1), 1)
    assert original_in(original, b"xx".ljust(16, b"\0")) is None
