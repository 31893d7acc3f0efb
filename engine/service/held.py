"""Small records that nobody waits for: a follower applies them together, behind what is urgent (decision 0015)."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

HELD_S_MAX: Final = 0.1
"""How long the first of them waits."""
HELD_BYTES_MAX: Final = 64 << 10
"""With more, they wait no longer."""


class Sized(Protocol):
    """A record that was handed over."""

    @property
    def record(self) -> bytes | memoryview:
        """Its bytes."""


Record = TypeVar("Record", bound=Sized)


class Held(Generic[Record]):
    """On the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, release: Callable[[Record], None]) -> None:
        """`release` gets each record, in order, once it has waited long enough."""
        self._loop, self._release_one = loop, release
        self._records: list[Record] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: Record) -> None:
        """Let a record wait; it may be released from here."""
        self._records.append(record)
        self._bytes += len(record.record)
        if self._bytes > HELD_BYTES_MAX:
            self.release()
        elif self._timer is None:
            self._timer = self._loop.call_later(HELD_S_MAX, self.release)

    def release(self) -> None:
        """Let go of everything that waits, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        records, self._records, self._bytes = self._records, [], 0
        for record in records:
            self._release_one(record)
