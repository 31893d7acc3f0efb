"""Amounts: minor units as int, or whole units as `Decimal` with the ledger's scale. Never a float, never rounded."""

from decimal import Decimal
from typing import Final, TypeAlias

Amount: TypeAlias = int | Decimal
"""An int counts minor units (cents); a `Decimal` whole units (euros), exact at the ledger's scale."""

AMOUNT_MAX: Final = (1 << 128) - 1
AMOUNT_ALL: Final = AMOUNT_MAX
"""COMMIT of this amount means: all that is left."""
_DIGITS_MAX: Final = 39
"""2^128-1 has 39 digits."""


def minor_units(amount: Amount, scale: int) -> int:
    """Return an amount in minor units; raises ValueError if it is negative, too large, or not exact at this scale."""
    told = amount
    if isinstance(amount, Decimal):
        amount = _exact(amount, scale)
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise TypeError(f"an amount is an int of minor units or a Decimal, not a {type(amount).__name__}")
    if amount < 0:
        raise ValueError(f"{told} is out of range, below zero: to move money back, swap debit and credit account")
    if amount > AMOUNT_MAX:
        raise ValueError(f"{told} is out of range: 0 to 2^128-1 minor units")
    return amount


def whole_units(minor: int, scale: int) -> Decimal:
    """Return minor units, signed, as a `Decimal` of whole units with `scale` decimal places."""
    digits = tuple(int(digit) for digit in str(abs(minor)))
    return Decimal((int(minor < 0), digits, -scale))


def _exact(amount: Decimal, scale: int) -> int:
    """Shift by the scale without Decimal's context, whose precision would round large amounts."""
    sign, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{amount} is not a number")
    if not any(digits):
        return 0
    shift = exponent + scale
    if len(digits) + shift > _DIGITS_MAX:
        raise ValueError(f"{amount} is out of range: 0 to 2^128-1 minor units")
    whole, rest = digits, digits[:0]
    if shift < 0:
        whole, rest = digits[:shift], digits[shift:]
    if any(rest) or (shift < 0 and len(digits) < -shift):
        raise ValueError(f"{amount} is not exact: its ledger has {scale} decimal places")
    number = int("".join(map(str, whole)) or "0") * int(10 ** max(shift, 0))
    return -number if sign else number
