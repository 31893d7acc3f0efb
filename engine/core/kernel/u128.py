"""Unsigned 128-bit arithmetic on pairs of u64 words (low, high), for the compiled kernel.

Every constant is wrapped in np.uint64: a u64 meeting a Python int becomes a float64 in Numba. Callers keep the sums
below 2^128 (DESIGN §4: posted + reserved stays below 2^127), so nothing here wraps.
"""

from typing import Any, Final, TypeAlias

import numpy as np

from engine.core.compiled import helper

U64: TypeAlias = Any
"""A u64 in the kernel. Numba infers the types there; NumPy's own say too little about scalars to check them."""
I64: TypeAlias = Any
"""An i64 in the kernel: the number of a row, or of a record."""
U8: TypeAlias = Any
"""A u8 in the kernel: a state."""
ZERO: Final = np.uint64(0)
ONE: Final = np.uint64(1)
FULL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
TOP_BIT: Final = np.uint64(1 << 63)


@helper
def add(a_low: U64, a_high: U64, b_low: U64, b_high: U64) -> tuple[U64, U64]:
    """Return a + b."""
    low = a_low + b_low
    carry = ONE if low < a_low else ZERO
    return low, a_high + b_high + carry


@helper
def subtract(a_low: U64, a_high: U64, b_low: U64, b_high: U64) -> tuple[U64, U64]:
    """Return a - b, for b <= a."""
    borrow = ONE if a_low < b_low else ZERO
    return a_low - b_low, a_high - b_high - borrow


@helper
def less(a_low: U64, a_high: U64, b_low: U64, b_high: U64) -> bool:
    """Whether a < b."""
    return bool(a_high < b_high or (a_high == b_high and a_low < b_low))
