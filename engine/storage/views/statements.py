"""Statements and as-of balances, from runs, tail and journal.

A page costs a look into each run (a whole run's part of a balance is one stored sum), at most 255 rows of the journal
per list that is cut, and its own lines."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_WORDS, Words
from engine.storage.compiled import entry
from engine.storage.journal import Journal
from engine.storage.views.run import (
    BOOKED,
    ENTRIES_PER_SUM,
    VALUE,
    AccountEntries,
    U32Array,
    U64Array,
    add_to,
    entries_of,
)
from engine.storage.views.run_store import RunInfo, RunReader
from engine.storage.views.tail import Movements

TIME_MAX: Final = (1 << 64) - 1


class Basis(IntEnum):
    """Which clock orders and bounds a statement; numbered as in the contract."""

    BOOKED = 1
    """`timestamp`: when the engine booked it."""
    VALUE = 2
    """`effective_at`, the business date; `timestamp` where that is none."""


class Covered(NamedTuple):
    """How far the views are."""

    log_index: int = 0
    position: int = 0
    """All journal rows below are in."""
    timestamp_ns: int = 0
    """Of the last row."""


class Posted(NamedTuple):
    """What was posted to an account, minor units."""

    debits: int = 0
    credits: int = 0


class Resume(NamedTuple):
    """Where the next page of a statement begins: behind a line, with the sums after it. Pages join without gaps and
    without repetition, whatever is booked in between."""

    time_ns: int
    position: int
    end_position: int
    """Value basis: rows from here on came after the first page and are left out, as they may belong before it."""
    posted: Posted

    def pack(self) -> bytes:
        """Return it as bytes, for a page token (which the service seals)."""
        sums = (self.posted.debits.to_bytes(16, "little"), self.posted.credits.to_bytes(16, "little"))
        return _RESUME.pack(self.time_ns, self.position, self.end_position, *sums)

    @classmethod
    def unpack(cls, data: bytes) -> "Resume":
        """Inverse of `pack`; raises ValueError on anything else."""
        if len(data) != _RESUME.size:
            raise ValueError(f"a place to resume at has {_RESUME.size} bytes, not {len(data)}")
        time_ns, position, end, debits, credits_ = _RESUME.unpack(data)
        return cls(time_ns, position, end, Posted(int.from_bytes(debits, "little"), int.from_bytes(credits_, "little")))


class Page(NamedTuple):
    """n lines of a statement, in the order of its basis; the same time in the order of the journal."""

    rows: Words
    """Shape (n, 16): the journal rows."""
    positions: U64Array
    """Shape (n,)."""
    debited: npt.NDArray[np.bool_]
    """Shape (n,): whether the line debits the account (a REVERSE debits the account that its original credited)."""
    posted: Words
    """Shape (n, 4): debits and credits (low, high each) posted to the account, after each line."""
    resume: Resume | None
    """For the next page; None if this is the last."""
    covered: Covered


class Seen(NamedTuple):
    """What the views hold at one moment."""

    runs: tuple[RunInfo, ...]
    tail: Movements
    tail_position: int
    covered: Covered


class Asked(NamedTuple):
    """A statement: times from `from_ns` to before `to_ns`."""

    account: int
    """Row in the account table."""
    basis: Basis
    from_ns: int
    to_ns: int
    limit: int
    resume: Resume | None


class Statements:
    """Answers from one moment's view. For one call; any thread."""

    def __init__(self, seen: Seen, reader: RunReader, journal: Journal) -> None:
        """`reader` is within its transaction."""
        self._seen, self._reader, self._journal = seen, reader, journal

    def balance_before(self, account: int, basis: Basis, time_ns: int) -> Posted:
        """Return what was posted before `time_ns` on the basis's clock."""
        sums = _Sums()
        end = self._position_at(time_ns)
        for run in self._seen.runs:
            if basis is Basis.BOOKED:
                self._add_booked(sums, run, account, end)
            else:
                self._add_value(sums, run, account, time_ns, end)
        self._add_tail(sums, account, basis, time_ns, end)
        return sums.total(self._journal)

    def page(self, asked: Asked) -> Page:
        """Return a page of a statement."""
        resume = asked.resume
        posted = resume.posted if resume else self.balance_before(asked.account, asked.basis, asked.from_ns)
        end_position = self._seen.covered.position
        if resume and asked.basis is Basis.VALUE:
            end_position = min(end_position, resume.end_position)
        after = (resume.time_ns, resume.position) if resume else (asked.from_ns, -1)
        lines = (
            self._booked(asked, after[1]) if asked.basis is Basis.BOOKED else self._valued(asked, after, end_position)
        )
        more = len(lines.positions) > asked.limit
        lines = lines.first(asked.limit)
        sums = np.empty((len(lines.positions), 4), np.uint64)
        opening = np.array(_words_of(posted.debits) + _words_of(posted.credits), np.uint64)
        _run_up(opening, lines.rows, lines.debited, sums)
        following = None
        if more:
            following = Resume(int(lines.times[-1]), int(lines.positions[-1]), end_position, _posted_of(sums[-1]))
        return Page(lines.rows, lines.positions, lines.debited, sums, following, self._seen.covered)

    # -- sums

    def _position_at(self, time_ns: int) -> int:
        """Return the position behind all rows booked before `time_ns`."""
        if time_ns > self._seen.covered.timestamp_ns:
            return self._seen.covered.position
        return self._journal.position_behind(time_ns - 1) if time_ns else 0

    def _add_booked(self, sums: "_Sums", run: RunInfo, account: int, end: int) -> None:
        if run.first_position < end:
            listed = entries_of(self._reader.sections(run), account, BOOKED)
            sums.add_first(run, listed, _cut(listed.entries, run, end))

    def _add_value(self, sums: "_Sums", run: RunInfo, account: int, time_ns: int, end: int) -> None:
        if run.first_value_ns >= time_ns:
            return
        sections = self._reader.sections(run)
        if run.last_value_ns < time_ns:
            listed = entries_of(sections, account, BOOKED)
            sums.add_first(run, listed, len(listed.entries))
            return
        listed = entries_of(sections, account, VALUE)
        if len(listed.entries):
            sums.add_first(run, listed, int(np.searchsorted(listed.times, np.uint64(time_ns))))
        else:
            self._add_booked(sums, run, account, end)

    def _add_tail(self, sums: "_Sums", account: int, basis: Basis, time_ns: int, end: int) -> None:
        tail = self._seen.tail
        if basis is Basis.BOOKED:
            tail = tail.first(int(np.searchsorted(tail.offsets, max(0, end - self._seen.tail_position))))
        for side, accounts in enumerate((tail.debited, tail.credited)):
            chosen = np.flatnonzero(accounts == account)
            if basis is Basis.VALUE:
                chosen = chosen[tail.value_ns[chosen] < np.uint64(time_ns)]
            sums.add_amounts(tail.amounts[chosen], side)

    # -- lines

    def _booked(self, asked: Asked, after_position: int) -> "_Lines":
        start = max(after_position + 1, self._position_at(asked.from_ns))
        end = self._position_at(asked.to_ns)
        found = _Lines.none()
        for run in self._seen.runs:
            if run.end_position > start and run.first_position < end and len(found.positions) <= asked.limit:
                listed = entries_of(self._reader.sections(run), asked.account, BOOKED).entries
                within = listed[_cut(listed, run, start) : _cut(listed, run, end)]
                found = found.plus(self._fetch(run.first_position, within[: asked.limit + 1], Basis.BOOKED))
        if len(found.positions) <= asked.limit:
            found = found.plus(self._tail_lines(asked, (0, after_position), end, booked_from=start))
        return found.first(asked.limit + 1)

    def _valued(self, asked: Asked, after: tuple[int, int], end_position: int) -> "_Lines":
        found = self._tail_lines(asked, after, end_position)
        runs = [run for run in self._seen.runs if run.first_position < end_position and run.last_value_ns >= after[0]]
        for run in sorted(runs, key=lambda run: run.first_value_ns):
            enough = int((found.times < np.uint64(run.first_value_ns)).sum()) > asked.limit
            if enough or run.first_value_ns >= asked.to_ns:
                break
            found = found.plus(self._run_lines(asked, run, after, end_position))
        return found.in_order().first(asked.limit + 1)

    def _run_lines(self, asked: Asked, run: RunInfo, after: tuple[int, int], end_position: int) -> "_Lines":
        """Return up to limit + 1 lines of one run in value order, behind `after` (time, position)."""
        sections = self._reader.sections(run)
        listed = entries_of(sections, asked.account, VALUE)
        if not len(listed.entries):
            entries = entries_of(sections, asked.account, BOOKED).entries
            start, end = self._position_at(after[0]), min(self._position_at(asked.to_ns), end_position)
            # A row booked at the very time may stand before the line to go on behind: one more, then look.
            within = entries[_cut(entries, run, start) : _cut(entries, run, end)][: asked.limit + 2]
            return self._fetch(run.first_position, within, Basis.VALUE).behind(after).first(asked.limit + 1)
        same, later = (
            np.searchsorted(listed.times, np.uint64(after[0])),
            np.searchsorted(listed.times, np.uint64(after[0]), side="right"),
        )
        start = int(same) + _cut(listed.entries[same:later], run, after[1] + 1)
        within = listed.entries[start : int(np.searchsorted(listed.times, np.uint64(asked.to_ns)))]
        if run.end_position > end_position:
            within = within[within >> np.uint32(1) < end_position - run.first_position]
        return self._fetch(run.first_position, within[: asked.limit + 1], Basis.VALUE)

    def _tail_lines(
        self, asked: Asked, after: tuple[int, int], end_position: int, booked_from: int | None = None
    ) -> "_Lines":
        tail, first = self._seen.tail, self._seen.tail_position
        chosen = (tail.debited == asked.account) | (tail.credited == asked.account)
        chosen &= tail.offsets.astype(np.int64) < end_position - first
        if booked_from is not None:
            chosen &= tail.offsets.astype(np.int64) >= booked_from - first
        else:
            same = (tail.value_ns == np.uint64(after[0])) & (tail.offsets.astype(np.int64) > after[1] - first)
            chosen &= ((tail.value_ns > np.uint64(after[0])) | same) & (tail.value_ns < np.uint64(asked.to_ns))
        numbers = np.flatnonzero(chosen)
        if booked_from is None:
            numbers = numbers[np.argsort(tail.value_ns[numbers], kind="stable")]
        numbers = numbers[: asked.limit + 1]
        debited = (tail.debited[numbers] == asked.account).astype(np.uint32)
        basis = Basis.VALUE if booked_from is None else Basis.BOOKED
        return self._fetch(first, tail.offsets[numbers] << np.uint32(1) | debited, basis)

    def _fetch(self, first_position: int, entries: U32Array, basis: Basis) -> "_Lines":
        positions = (entries >> np.uint32(1)).astype(np.uint64) + np.uint64(first_position)
        rows = self._journal.rows_at(positions)
        times = rows[:, 13].copy()
        if basis is Basis.VALUE:
            times = np.where(rows[:, 12] != 0, rows[:, 12], times)
        return _Lines(rows, positions, (entries & np.uint32(1)).astype(np.bool_), times)


class _Lines(NamedTuple):
    rows: Words
    positions: U64Array
    debited: npt.NDArray[np.bool_]
    times: U64Array

    @classmethod
    def none(cls) -> "_Lines":
        return cls(
            np.empty((0, RECORD_WORDS), np.uint64),
            np.empty(0, np.uint64),
            np.empty(0, np.bool_),
            np.empty(0, np.uint64),
        )

    def plus(self, other: "_Lines") -> "_Lines":
        return _Lines._make(np.concatenate(pair) for pair in zip(self, other, strict=True))

    def first(self, count: int) -> "_Lines":
        return _Lines._make(values[:count] for values in self)

    def in_order(self) -> "_Lines":
        order = np.lexsort((self.positions, self.times))
        return _Lines._make(values[order] for values in self)

    def behind(self, after: tuple[int, int]) -> "_Lines":
        time_ns, position = np.uint64(after[0]), after[1]
        chosen = (self.times > time_ns) | ((self.times == time_ns) & (self.positions.astype(np.int64) > position))
        return _Lines._make(values[chosen] for values in self)


class _Sums:
    """Adds up stored sums, amounts, and journal rows, which are fetched together at the end."""

    def __init__(self) -> None:
        self._posted = [0, 0]
        self._positions: list[U64Array] = []
        self._debited: list[npt.NDArray[np.bool_]] = []

    def add_first(self, run: RunInfo, listed: AccountEntries, count: int) -> None:
        """Add an account's first `count` entries of a run, in one order."""
        if not count:
            return
        begin = 0
        if count == len(listed.entries) and len(listed.sums):
            begin = self._add_sum(listed.sums[-1], count)
        elif count >= ENTRIES_PER_SUM:
            number = count // ENTRIES_PER_SUM
            begin = self._add_sum(listed.sums[number - 1], number * ENTRIES_PER_SUM)
        entries = listed.entries[begin:count]
        self._positions.append((entries >> np.uint32(1)).astype(np.uint64) + np.uint64(run.first_position))
        self._debited.append((entries & np.uint32(1)).astype(np.bool_))

    def add_amounts(self, amounts: Words, side: int) -> None:
        """Add amounts, shape (n, 2), to debits (0) or credits (1)."""
        for word in range(2):
            halves = int((amounts[:, word] & _HALF).sum()), int((amounts[:, word] >> _HALF_BITS).sum())
            self._posted[side] += (halves[0] + (halves[1] << 32)) << (64 * word)

    def total(self, journal: Journal) -> Posted:
        """Fetch what is missing, and return the sums."""
        if self._positions:
            debited = np.concatenate(self._debited)
            amounts = journal.rows_at(np.concatenate(self._positions))[:, 6:8]
            self.add_amounts(amounts[debited], 0)
            self.add_amounts(amounts[~debited], 1)
        return Posted(*self._posted)

    def _add_sum(self, words: U64Array, count: int) -> int:
        posted = _posted_of(words)
        self._posted[0] += posted.debits
        self._posted[1] += posted.credits
        return count


_RESUME: Final = struct.Struct("<QQQ16s16s")
_HALF: Final = np.uint64(0xFFFFFFFF)
_HALF_BITS: Final = np.uint64(32)


def _cut(entries: U32Array, run: RunInfo, position: int) -> int:
    """Return how many of a run's entries, in booked order, are before `position`."""
    offset = min(max(0, position - run.first_position), 1 << 31)
    return int(np.searchsorted(entries, np.uint64(offset << 1)))


def _posted_of(words: U64Array) -> Posted:
    low, high, credits_low, credits_high = (int(word) for word in words)
    return Posted(low + (high << 64), credits_low + (credits_high << 64))


def _words_of(amount: int) -> list[int]:
    return [amount & 0xFFFFFFFFFFFFFFFF, amount >> 64]


@entry("void(u8[::1], u8[:, ::1], b1[::1], u8[:, ::1])")
def _run_up(total: U64Array, rows: Words, debited: npt.NDArray[np.bool_], sums: Words) -> None:
    """Fill `sums`, shape (n, 4), with what was posted after each line; `total` is what was before."""
    for at in range(len(rows)):
        add_to(total, 0 if debited[at] else 1, rows[at, 6], rows[at, 7])
        for word in range(4):
            sums[at, word] = total[word]
