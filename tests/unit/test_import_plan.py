"""Ids, dates and scales of an import, from the content of the file alone."""

from datetime import date
from decimal import Decimal

import pytest

from cli.beancount.plan import Plan, day_ns, make_plan, needed_scales
from cli.beancount.source import Posting, Source, Transaction
from engine.exit_codes import EngineStopped, ExitCode


def coffee(day: int = 1, line: int = 1, number: str = "3.50", narration: str = "Coffee") -> Transaction:
    legs = (Posting("Food", Decimal(number), "USD"), Posting("Cash", -Decimal(number), "USD"))
    return Transaction(line, date(2020, 1, day), "Café", narration, legs)


def plan(*transactions: Transaction) -> Plan:
    return make_plan(Source(transactions, (), ()), {"USD": 2})


def ids(*transactions: Transaction) -> list[bytes]:
    return [leg.id for chain in plan(*transactions).chains for leg in chain]


def test_ids_do_not_depend_on_the_place_in_the_file() -> None:
    assert ids(coffee(line=7), coffee(day=2)) == ids(coffee(), coffee(day=2, line=99))
    assert set(ids(coffee(day=2), coffee())) == set(ids(coffee(), coffee(day=2)))


def test_ids_do_not_depend_on_how_a_number_is_written() -> None:
    assert ids(coffee(number="3.5")) == ids(coffee(number="3.50"))


def test_equal_transactions_are_told_apart_by_their_count() -> None:
    first, second = ids(coffee(), coffee())
    assert first != second
    assert ids(coffee()) == [first]


@pytest.mark.parametrize("other", [coffee(day=2), coffee(number="3.51"), coffee(narration="Tea")])
def test_another_content_is_another_id(other: Transaction) -> None:
    assert ids(other) != ids(coffee())


def test_the_id_of_a_transaction_is_for_ever() -> None:
    # Pinned: a second import years later must find the first one.
    assert ids(coffee())[0].hex() == "17ad8edd1f09f3bce154ac109e241104"


def test_legs_share_the_reference_and_link_to_the_next() -> None:
    legs = (Posting("A", Decimal(1), "USD"), Posting("B", Decimal(2), "USD"), Posting("C", Decimal(-3), "USD"))
    (chain,) = plan(Transaction(1, date(2020, 1, 1), "", "", legs)).chains
    assert [leg.linked for leg in chain] == [True, False]
    assert len({leg.reference for leg in chain}) == 1
    assert len({leg.id for leg in chain}) == 2


def test_the_business_date_is_midnight_utc() -> None:
    assert plan(coffee()).chains[0][0].effective_at_ns == 1_577_836_800 * 10**9


def test_dates_before_the_epoch_are_refused_with_their_line() -> None:
    with pytest.raises(EngineStopped, match="line 12: the date 1969-12-31") as refused:
        day_ns(date(1969, 12, 31), 12)
    assert refused.value.code == ExitCode.USAGE


def test_a_number_with_too_many_places_is_refused_with_its_line() -> None:
    with pytest.raises(EngineStopped, match=r"line 5: 3\.505 has more than the 2 decimal places"):
        plan(coffee(line=5, number="3.505"))


def test_scales_hold_every_number_of_their_commodity() -> None:
    assert needed_scales(Source((coffee(number="1.5"), coffee(number="2.125"), coffee(number="3.00")), (), ())) == {
        "USD": 3
    }


def test_transactions_that_move_nothing_are_counted() -> None:
    planned = plan(coffee(), coffee(number="0.00"))
    assert (planned.transactions, planned.empty_transactions, planned.zero_postings) == (2, 1, 2)
    assert len(planned.chains) == 1
