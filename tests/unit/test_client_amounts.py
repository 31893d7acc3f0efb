"""Amounts: exact at the ledger's scale, or refused before anything is sent."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postingengine import minor_units, whole_units

MOST = (1 << 128) - 1


@pytest.mark.parametrize(
    ("amount", "scale", "minor"),
    [
        ("12.50", 2, 1250),
        ("12.5", 2, 1250),
        ("12.500", 2, 1250),
        ("12", 0, 12),
        ("1.2E+3", 0, 1200),
        ("0", 2, 0),
        ("-0", 2, 0),
        ("0E-400", 2, 0),
        ("0E+400", 2, 0),
        ("0.000000000000000001", 18, 1),
        (f"{MOST}", 0, MOST),
        (f"{MOST}E-38", 38, MOST),
        # More digits than the context's precision of 28: arithmetic on the Decimal would round it.
        ("12345678901234567890123456789012345.67", 2, 1234567890123456789012345678901234567),
    ],
)
def test_a_decimal_is_shifted_by_the_scale(amount: str, scale: int, minor: int) -> None:
    assert minor_units(Decimal(amount), scale) == minor


@pytest.mark.parametrize(
    ("amount", "scale"),
    [("12.505", 2), ("0.001", 2), ("1.5", 0), ("1E-39", 38), ("1E-999999999", 2), ("10.1E-2", 2)],
)
def test_an_inexact_decimal_is_refused(amount: str, scale: int) -> None:
    with pytest.raises(ValueError, match="not exact"):
        minor_units(Decimal(amount), scale)


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_not_a_number_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        minor_units(Decimal(amount), 2)


@pytest.mark.parametrize("amount", [Decimal("-0.01"), -1, MOST + 1, Decimal(MOST + 1), Decimal("1E+999999999")])
def test_an_amount_out_of_range_is_refused(amount: Decimal | int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        minor_units(amount, 2)


@pytest.mark.parametrize("amount", [Decimal("-0.01"), -1])
def test_a_negative_amount_is_told_as_it_was_given(amount: Decimal | int) -> None:
    with pytest.raises(ValueError, match=f"^{amount} is out of range, below zero"):
        minor_units(amount, 2)


@pytest.mark.parametrize("amount", [1.0, "1", True])
def test_floats_texts_and_booleans_are_no_amounts(amount: object) -> None:
    with pytest.raises(TypeError, match="an amount is"):
        minor_units(amount, 2)  # type: ignore[arg-type]


@given(st.integers(0, MOST), st.integers(0, 38))
def test_whole_units_go_back_to_the_same_minor_units(minor: int, scale: int) -> None:
    assert minor_units(whole_units(minor, scale), scale) == minor


def test_whole_units_keep_the_sign_and_the_places() -> None:
    assert str(whole_units(-1250, 2)) == "-12.50"
    assert str(whole_units(5, 2)) == "0.05"
