"""What is told of open chains."""

import numpy as np

from engine.core.book import Book
from engine.core.kernel.arrays import CHAIN_HIGH
from engine.storage.open_chains import ages_of


def test_the_ages_are_those_of_the_chains_that_are_open() -> None:
    book, high = Book(0), 1000
    rows = np.random.default_rng(1).integers(1, 1 << 60, (high, 16), dtype=np.uint64)
    rows[:, 15] = np.arange(high) % 3 == 0
    book.tables.chains[:high] = rows
    book.tables.chains[high] = 1  # behind what was ever in use
    assert not len(ages_of(book))
    book.tables.counters[CHAIN_HIGH] = high
    assert ages_of(book).tolist() == book.open_chains()[:, [6, 9]].tolist()
