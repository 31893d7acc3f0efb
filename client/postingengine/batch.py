"""Records on their way in one call, and who waits for the answer of each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from postingengine.faults import Fault, Told, fault_of
from postingengine.results import Result
from postingengine.transfers import RECORD_BYTES, chain_of

FOREVER_S: Final = float("inf")


class Waiter(Protocol):
    """Who waits for one answer: an `asyncio.Future` of this loop, or a `concurrent.futures.Future`."""

    def done(self) -> bool:
        """Whether it has been answered, or no longer waits."""

    def set_result(self, result: Result, /) -> None:
        """Answer."""

    def set_exception(self, fault: Fault, /) -> None:
        """Answer that there is no outcome."""


class Batch:
    """Rows 0 to n-1: record, waiter and deadline each; chains are whole."""

    __slots__ = ("attempts", "deadlines_s", "first_deadline_s", "may_be_logged", "packed", "told", "waiters")

    def __init__(self) -> None:
        self.packed = bytearray()
        self.waiters: list[Waiter] = []
        self.deadlines_s: list[float] = []
        self.first_deadline_s = FOREVER_S
        self.attempts = 0
        self.may_be_logged = False
        """Whether any attempt so far may have been logged."""
        self.told: Told | None = None
        """Why the last attempt failed."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.waiters)

    def add(self, record: bytes | bytearray, waiter: Waiter, deadline_s: float) -> None:
        """Append one row."""
        self.packed += record
        self.waiters.append(waiter)
        self.deadlines_s.append(deadline_s)
        self.first_deadline_s = min(self.first_deadline_s, deadline_s)

    def extend(self, other: "Batch", rows: Iterable[int]) -> None:
        """Append rows of another batch, and what is known about them."""
        for row in rows:
            record = other.packed[row * RECORD_BYTES : (row + 1) * RECORD_BYTES]
            self.add(record, other.waiters[row], other.deadlines_s[row])
        self.attempts = max(self.attempts, other.attempts)
        self.may_be_logged |= other.may_be_logged
        self.told = other.told

    def open_rows(self) -> "Batch":
        """Return this batch without the chains that nobody waits for any more."""
        for waiter in self.waiters:
            if waiter.done():
                break
        else:
            return self
        rest = Batch()
        rest.extend(self, self.waiting_rows())
        return rest

    def waiting_rows(self) -> list[int]:
        """Return the rows of all chains that somebody waits for."""
        chains = self.chains(range(len(self)))
        return [row for chain in chains if any(not self.waiters[one].done() for one in chain) for row in chain]

    def chains(self, rows: Sequence[int]) -> Iterator[range]:
        """Yield the whole chain of each of these rows (ascending), each chain once."""
        end = 0
        for row in rows:
            if row >= end:
                chain = chain_of(self.packed, row)
                yield chain
                end = chain.stop

    def expire(self, now_s: float, told: Told, *, outcome_unknown: bool) -> None:
        """Answer those whose deadline has passed that there is no outcome, as told."""
        first = FOREVER_S
        for waiter, deadline_s in zip(self.waiters, self.deadlines_s, strict=True):
            if deadline_s <= now_s:
                fail(waiter, told, outcome_unknown=outcome_unknown, attempts=self.attempts)
            elif deadline_s < first:
                first = deadline_s
        self.first_deadline_s = first


def fail(waiter: Waiter, told: Told, *, outcome_unknown: bool, attempts: int) -> None:
    """Answer that there is no outcome, unless there is an answer."""
    if not waiter.done():
        waiter.set_exception(fault_of(told, outcome_unknown=outcome_unknown, attempts=attempts))
