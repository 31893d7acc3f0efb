"""Amounts between decimal units and minor units, without rounding."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.amounts import AMOUNT_MAX, amount_text, decimal_places, minor_units, parse_amount

SCALES = st.integers(0, 38)


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), SCALES)
def test_what_is_written_reads_back_exactly(units: int, scale: int) -> None:
    assert minor_units(Decimal(amount_text(units, scale)), scale) == units


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=9))
def test_the_places_that_a_number_needs_hold_it_and_one_less_does_not(number: Decimal) -> None:
    places = decimal_places(number)
    assert Decimal(amount_text(minor_units(number, places), places)) == number
    if places:
        with pytest.raises(ValueError, match="decimal places"):
            minor_units(number, places - 1)


@pytest.mark.parametrize("text", ["0", "-1", "1.005", "x", "1e40", "NaN", "Infinity", ""])
def test_an_amount_to_post_is_positive_and_fits_its_ledger(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimal places|account can hold|number"):
        parse_amount(text, 2)


def test_an_amount_keeps_its_places() -> None:
    assert (amount_text(-5, 2), amount_text(1234, 0), amount_text(100, 2)) == ("-0.05", "1234", "1.00")
