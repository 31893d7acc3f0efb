"""Beancount transactions as chains of transfers."""

from collections import defaultdict
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from cli.beancount.decompose import AccountKey, Decomposed, decompose
from cli.beancount.source import Posting, Transaction

SCALES = {"USD": 2, "GLD": 3}


def transaction(*postings: tuple[str, str, str]) -> Transaction:
    legs = tuple(Posting(account, Decimal(number), commodity) for account, number, commodity in postings)
    return Transaction(1, date(2020, 1, 1), "", "", legs)


def moves(decomposed: Decomposed) -> list[tuple[str, str, int]]:
    return [(one.debit.name, one.credit.name, one.amount) for one in decomposed.movements]


def test_two_postings_are_one_transfer_from_credit_to_debit() -> None:
    done = decompose(transaction(("Cash", "-12.5", "USD"), ("Food", "12.50", "USD")), SCALES)
    assert moves(done) == [("Food:USD", "Cash:USD", 1250)]


def test_debits_are_matched_with_credits_in_order() -> None:
    done = decompose(
        transaction(("Salary", "-10", "USD"), ("Bonus", "-5", "USD"), ("Tax", "4", "USD"), ("Cash", "11", "USD")),
        SCALES,
    )
    assert moves(done) == [
        ("Tax:USD", "Salary:USD", 400),
        ("Cash:USD", "Salary:USD", 600),
        ("Cash:USD", "Bonus:USD", 500),
    ]


def test_an_exchange_passes_through_the_trading_accounts() -> None:
    done = decompose(
        transaction(("Cash", "-872.12", "USD"), ("Gold", "19", "GLD"), ("Commission", "8.95", "USD")), SCALES
    )
    assert moves(done) == [
        ("Commission:USD", "Cash:USD", 895),
        ("Trading:USD", "Cash:USD", 86317),
        ("Gold:GLD", "Trading:GLD", 19000),
    ]


def test_a_tolerated_difference_in_one_commodity_is_rounding() -> None:
    done = decompose(transaction(("Cash", "-10.00", "USD"), ("Food", "9.99", "USD")), SCALES)
    assert moves(done) == [("Food:USD", "Cash:USD", 999), ("Rounding:USD", "Cash:USD", 1)]


def test_zero_postings_are_counted_and_skipped() -> None:
    done = decompose(transaction(("Cash", "0.00", "USD"), ("Dividend", "0", "USD")), SCALES)
    assert done == Decomposed((), 2)


def test_an_account_on_both_sides_is_netted() -> None:
    done = decompose(transaction(("Gold", "-6", "GLD"), ("Gold", "7", "GLD"), ("Found", "-1", "GLD")), SCALES)
    assert moves(done) == [("Gold:GLD", "Found:GLD", 1000)]
    assert not decompose(transaction(("Gold", "-6", "GLD"), ("Gold", "6", "GLD")), SCALES).movements


ACCOUNTS = st.sampled_from(["A", "B", "C", "D"])
POSTINGS = st.lists(st.tuples(ACCOUNTS, st.integers(-99, 99).map(str), st.sampled_from(["USD", "GLD"])), max_size=12)


@given(POSTINGS)
def test_movements_move_what_the_postings_say_and_nothing_to_itself(postings: list[tuple[str, str, str]]) -> None:
    wanted: dict[AccountKey, int] = defaultdict(int)
    for account, number, commodity in postings:
        wanted[AccountKey(account, commodity)] += int(number) * 10 ** SCALES[commodity]
    moved: dict[AccountKey, int] = defaultdict(int)
    for one in decompose(transaction(*postings), SCALES).movements:
        assert one.amount > 0
        assert one.debit != one.credit
        moved[one.debit] += one.amount
        moved[one.credit] -= one.amount
    own = {key: units for key, units in moved.items() if key.account not in ("Trading", "Rounding")}
    assert {key: units for key, units in own.items() if units} == {key: units for key, units in wanted.items() if units}
    assert sum(moved.values()) == 0
