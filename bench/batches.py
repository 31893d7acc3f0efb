"""Packed batches for load: random transfers between known accounts, made before the clock starts."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_WORDS, Kind, Words

AMOUNT_MAX: Final = 100
WORD_BITS: Final = np.uint64(32)


def account_ids(count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Return `count` random account ids as words, shape (count, 2)."""
    return np.random.default_rng([seed, 1]).integers(1, 1 << 63, (count, 2), dtype=np.uint64)


def time_ordered_ids(count: int, first: int, rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Return ids that ascend bytewise, shape (count, 2): a big-endian counter from `first`, then random bits."""
    ids = np.empty((count, 2), np.uint64)
    ids[:, 0] = np.arange(first, first + count, dtype=np.uint64).byteswap()
    ids[:, 1] = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    return ids


def uniform_batch(
    accounts: npt.NDArray[np.uint64], count: int, first: int, *, ledger: int, rng: np.random.Generator
) -> Words:
    """Make `count` POSTs of 1 to 100 minor units between uniformly drawn, different accounts, shape (count, 16)."""
    debit = rng.integers(0, len(accounts), count)
    credit = (debit + 1 + rng.integers(0, len(accounts) - 1, count)) % len(accounts)
    return batch_between(accounts, np.stack((debit, credit), axis=1), first, ledger=ledger, rng=rng)


def batch_between(
    accounts: npt.NDArray[np.uint64],
    pairs: npt.NDArray[np.int64],
    first: int,
    *,
    ledger: int,
    rng: np.random.Generator,
) -> Words:
    """Make a POST of 1 to 100 minor units for each pair (debit, credit) of account numbers, shape (len(pairs), 16)."""
    count = len(pairs)
    words = np.zeros((count, RECORD_WORDS), np.uint64)
    words[:, 0:2] = time_ordered_ids(count, first, rng)
    words[:, 2:4] = accounts[pairs[:, 0]]
    words[:, 4:6] = accounts[pairs[:, 1]]
    words[:, 6] = rng.integers(1, AMOUNT_MAX + 1, count)
    words[:, 14] = ledger
    words[:, 15] = np.uint64(1) | np.uint64(Kind.POST << 16)
    return words


def drawn_pairs(
    groups: npt.NDArray[np.uint16], count: int, *, crossing: bool, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw pairs of different accounts, all of them within a group or all of them crossing, shape (count, 2).

    groups: of each account, shape (n,). Debits are drawn uniformly; each credit is the next account that fits.
    """
    debit = rng.integers(0, len(groups), count)
    credit = (debit + 1 + rng.integers(0, len(groups) - 1, count)) % len(groups)
    while (wrong := ((groups[debit] == groups[credit]) == crossing) | (debit == credit)).any():
        credit[wrong] = (credit[wrong] + 1) % len(groups)
    return np.stack((debit, credit), axis=1)
