"""What is open across groups, for couriers, operators and auditors: chains that wait for their decider, and holds."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.book import Book
from engine.core.chains.word import Word
from engine.core.kernel.arrays import CHAIN_HIGH, RESERVATION_HIGH
from engine.core.records import Words
from engine.storage.chain_words import WordReader
from engine.storage.compiled import entry

_DECIDER_SHIFT: Final = np.uint64(32)
_SIXTEEN_BITS: Final = np.uint64(0xFFFF)


class OpenChain(NamedTuple):
    """A chain that this group has an open word for."""

    word: Word
    """With the chain as it is on record, and the position and time of its first row."""
    deadline_ns: int
    """RESERVED: when this group's courier may abort. HELD: the earliest deadline of its holds. 0: never."""
    position: int
    """Where the next page begins: behind it."""


def ages_of(book: Book) -> Words:
    """Return journal position and time of reservation, ns, of each chain that waits for its decider, shape (n, 2), in
    any order: of tens of thousands, quicker than their rows."""
    tables = book.tables
    high = int(tables.counters[CHAIN_HIGH])
    ages = np.empty((high, 2), np.uint64)
    return ages[: _list_ages(tables.chains, high, ages)]


@entry("i8(u8[:, ::1], i8, u8[:, ::1])")
def _list_ages(rows: Words, high: int, ages: Words) -> int:
    """Fill `ages`, shape (high, 2), from the open ones among the first `high` rows of the table; return how many."""
    count = 0
    for row in range(high):
        if rows[row, 15] != np.uint64(0):
            ages[count, 0], ages[count, 1] = rows[row, 6], rows[row, 9]
            count += 1
    return count


def open_chains(book: Book, words: WordReader, after_position: int, count: int) -> list[OpenChain]:
    """Return the chains secured here that wait for their decider, in order of position, at most `count` behind
    `after_position`."""
    rows = _next(book.open_chains(), 6, after_position, count)
    return [OpenChain(words.word_at(int(row[6])), int(row[8]), int(row[6])) for row in rows]


def overdue_holds(book: Book, words: WordReader, now_ns: int, after_position: int, count: int) -> list[OpenChain]:
    """Return the chains of overdue holds that other groups decide, in order of the position of their HOLD, at most
    `count` holds behind `after_position`."""
    table = book.tables.reservations[: int(book.tables.counters[RESERVATION_HIGH])]
    # One look at each row of what may be a large table; no deadline, 0, becomes the latest of all.
    rows = table[table[:, 10] - np.uint64(1) < np.uint64(now_ns)]
    deciders = (rows[:, 14] >> _DECIDER_SHIFT) & _SIXTEEN_BITS
    elsewhere = (deciders != 0) & (deciders != np.uint64(book.group + 1))
    chosen = _next(rows[elsewhere & (rows[:, 15] != 0)], 12, after_position, count)
    found: dict[bytes, OpenChain] = {}
    for row in chosen:
        word = words.word_at(int(row[12]))
        before = found.get(word.chain.chain_id)
        deadline_ns = int(row[10]) if before is None else min(before.deadline_ns, int(row[10]))
        found[word.chain.chain_id] = OpenChain(word, deadline_ns, int(row[12]))
    return list(found.values())


def _next(rows: Words, position_word: int, after_position: int, count: int) -> Words:
    """Return up to `count` of the rows behind a position, in order of their positions."""
    positions: npt.NDArray[np.int64] = rows[:, position_word].astype(np.int64)
    behind = np.flatnonzero(positions > after_position)
    chosen: Words = rows[behind[np.argsort(positions[behind], kind="stable")[:count]]]
    return chosen
