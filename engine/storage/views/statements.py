"""Statements and as-of balances, from runs, tail and journal.

A page costs a look into each run (a whole run's part of a balance is one stored sum), at most 255 rows of the journal
per list that is cut, and its own lines."""

import numpy as np

from engine.storage.journal import Journal
from engine.storage.views.answers import (
    TIME_MAX,
    Asked,
    Basis,
    Covered,
    Page,
    Posted,
    Resume,
    Seen,
    posted_of,
)
from engine.storage.views.lines import Lines, fetch, run_up
from engine.storage.views.run import BOOKED, VALUE, U32Array, entries_of
from engine.storage.views.run_store import RunInfo, RunReader
from engine.storage.views.sums import Sums

__all__ = ["TIME_MAX", "Basis", "Covered", "Page", "Posted", "Resume", "Statements"]


class Statements:
    """Answers from one moment's view. For one call; any thread."""

    def __init__(self, seen: Seen, reader: RunReader, journal: Journal) -> None:
        """`reader` is within its transaction."""
        self._seen, self._reader, self._journal = seen, reader, journal

    def balance_before(self, account: int, basis: Basis, time_ns: int) -> Posted:
        """Return what was posted before `time_ns` on the basis's clock."""
        sums = Sums()
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
        run_up(opening, lines.rows, lines.debited, sums)
        following = None
        if more:
            following = Resume(int(lines.times[-1]), int(lines.positions[-1]), end_position, posted_of(sums[-1]))
        return Page(lines.rows, lines.positions, lines.debited, sums, following, self._seen.covered)

    # -- sums

    def _position_at(self, time_ns: int) -> int:
        """Return the position behind all rows booked before `time_ns`."""
        if time_ns > self._seen.covered.timestamp_ns:
            return self._seen.covered.position
        return self._journal.position_behind(time_ns - 1) if time_ns else 0

    def _add_booked(self, sums: Sums, run: RunInfo, account: int, end: int) -> None:
        if run.first_position < end:
            listed = entries_of(self._reader.sections(run), account, BOOKED)
            sums.add_first(run, listed, _cut(listed.entries, run, end))

    def _add_value(self, sums: Sums, run: RunInfo, account: int, time_ns: int, end: int) -> None:
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

    def _add_tail(self, sums: Sums, account: int, basis: Basis, time_ns: int, end: int) -> None:
        tail = self._seen.tail
        if basis is Basis.BOOKED:
            tail = tail.first(int(np.searchsorted(tail.offsets, max(0, end - self._seen.tail_position))))
        for side, accounts in enumerate((tail.debited, tail.credited)):
            chosen = np.flatnonzero(accounts == account)
            if basis is Basis.VALUE:
                chosen = chosen[tail.value_ns[chosen] < np.uint64(time_ns)]
            sums.add_amounts(tail.amounts[chosen], side)

    # -- lines

    def _booked(self, asked: Asked, after_position: int) -> Lines:
        start = max(after_position + 1, self._position_at(asked.from_ns))
        end = self._position_at(asked.to_ns)
        found = Lines.none()
        for run in self._seen.runs:
            if run.end_position > start and run.first_position < end and len(found.positions) <= asked.limit:
                listed = entries_of(self._reader.sections(run), asked.account, BOOKED).entries
                within = listed[_cut(listed, run, start) : _cut(listed, run, end)]
                found = found.plus(fetch(self._journal, run.first_position, within[: asked.limit + 1], Basis.BOOKED))
        if len(found.positions) <= asked.limit:
            found = found.plus(self._tail_lines(asked, (0, after_position), end, booked_from=start))
        return found.first(asked.limit + 1)

    def _valued(self, asked: Asked, after: tuple[int, int], end_position: int) -> Lines:
        found = self._tail_lines(asked, after, end_position)
        runs = [run for run in self._seen.runs if run.first_position < end_position and run.last_value_ns >= after[0]]
        for run in sorted(runs, key=lambda run: run.first_value_ns):
            enough = int((found.times < np.uint64(run.first_value_ns)).sum()) > asked.limit
            if enough or run.first_value_ns >= asked.to_ns:
                break
            found = found.plus(self._run_lines(asked, run, after, end_position))
        return found.in_order().first(asked.limit + 1)

    def _run_lines(self, asked: Asked, run: RunInfo, after: tuple[int, int], end_position: int) -> Lines:
        """Return up to limit + 1 lines of one run in value order, behind `after` (time, position)."""
        sections = self._reader.sections(run)
        listed = entries_of(sections, asked.account, VALUE)
        if not len(listed.entries):
            entries = entries_of(sections, asked.account, BOOKED).entries
            start, end = self._position_at(after[0]), min(self._position_at(asked.to_ns), end_position)
            # A row booked at the very time may stand before the line to go on behind: one more, then look.
            within = entries[_cut(entries, run, start) : _cut(entries, run, end)][: asked.limit + 2]
            return fetch(self._journal, run.first_position, within, Basis.VALUE).behind(after).first(asked.limit + 1)
        same, later = (
            np.searchsorted(listed.times, np.uint64(after[0])),
            np.searchsorted(listed.times, np.uint64(after[0]), side="right"),
        )
        start = int(same) + _cut(listed.entries[same:later], run, after[1] + 1)
        within = listed.entries[start : int(np.searchsorted(listed.times, np.uint64(asked.to_ns)))]
        if run.end_position > end_position:
            within = within[within >> np.uint32(1) < end_position - run.first_position]
        return fetch(self._journal, run.first_position, within[: asked.limit + 1], Basis.VALUE)

    def _tail_lines(
        self, asked: Asked, after: tuple[int, int], end_position: int, booked_from: int | None = None
    ) -> Lines:
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
        return fetch(self._journal, first, tail.offsets[numbers] << np.uint32(1) | debited, basis)


def _cut(entries: U32Array, run: RunInfo, position: int) -> int:
    """Return how many of a run's entries, in booked order, are before `position`."""
    offset = min(max(0, position - run.first_position), 1 << 31)
    return int(np.searchsorted(entries, np.uint64(offset << 1)))


def _words_of(amount: int) -> list[int]:
    return [amount & 0xFFFFFFFFFFFFFFFF, amount >> 64]
