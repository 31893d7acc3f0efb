"""Amounts as people write them, decimal units of a ledger, and as the engine counts them, whole minor units. Exact."""

from decimal import Decimal, InvalidOperation
from typing import Final

AMOUNT_MAX: Final = (1 << 127) - 1
"""Minor units: what one side of an account can hold."""


def minor_units(number: Decimal, scale: int) -> int:
    """Return `number` units as minor units of a ledger of `scale` decimal places; ValueError if it is not whole.

    Computed on the digits, so no context rounds: Decimal's own arithmetic keeps 28 digits by default.
    """
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is not a number")
    magnitude = int("".join(map(str, digits)) or "0")
    shift = exponent + scale
    if shift < 0:
        magnitude, rest = divmod(magnitude, 10**-shift)
        if rest:
            raise ValueError(f"{number} has more than the {scale} decimal places of its ledger")
    else:
        magnitude *= int(10**shift)
    if magnitude > AMOUNT_MAX:
        raise ValueError(f"{number} is more than an account can hold")
    return -magnitude if sign else magnitude


def parse_amount(text: str, scale: int) -> int:
    """Return the minor units that `text` means, above zero; raises ValueError with one sentence."""
    try:
        units = minor_units(Decimal(text), scale)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not an amount: write a decimal number such as 12.50") from error
    if units <= 0:
        raise ValueError(f"the amount {text} must be above zero")
    return units


def amount_text(units: int, scale: int) -> str:
    """Write minor units as a decimal number with all `scale` places."""
    digits = str(abs(units)).rjust(scale + 1, "0")
    sign = "-" if units < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits


def decimal_places(number: Decimal) -> int:
    """Return how many decimal places a ledger needs to hold `number` exactly: 0 for 100, 1 for 0.50."""
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is not a number")
    zeros = len(digits)
    for index, digit in enumerate(reversed(digits)):
        if digit != 0:
            zeros = index
            break
    return 0 if zeros == len(digits) else max(-exponent - zeros, 0)
