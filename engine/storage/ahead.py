"""Load ahead: what applying an EVENTS record only reads, read before the record is committed (docs/decisions/0015).

A leader that waits for a follower has nothing else to do. What it loads then holds as long as nothing is applied in
between, and is forgotten otherwise: no answer and no row depend on whether something was loaded ahead.
"""

from typing import NamedTuple

from engine.core.events import Ready, make_ready
from engine.core.log_record import LogRecord
from engine.storage.block import Room, room_for
from engine.storage.head import Head
from engine.storage.ids.known_ids import KnownIds, Named
from engine.storage.loading import Loader


class Loaded(NamedTuple):
    """An EVENTS record with what the store knows of its ids, laid out for the kernel."""

    record: LogRecord
    room: Room
    """Its rows are to become the journal's."""
    named: Named
    ready: Ready


class Ahead(NamedTuple):
    """A record that was loaded and is not applied."""

    data: bytes | memoryview
    head: Head
    """The state that was looked at."""
    loaded: Loaded

    def is_of(self, data: bytes | memoryview, head: Head) -> bool:
        """Whether this is what would be loaded now: of the very same bytes, with nothing applied since."""
        return self.data is data and self.head is head


def load_events(loader: Loader, ids: KnownIds, record: LogRecord, *, ahead: bool = False) -> Loaded:
    """Load an EVENTS record. ahead: it may never be applied, so its ids are looked for and not met (`KnownIds.met`)."""
    room = room_for(len(record.preamble), len(record.rows))
    room.rows[:] = record.rows
    named = ids.find(room.rows) if ahead else ids.meet(room.rows)
    return Loaded(record, room, named, make_ready(room.rows, loader.known(room.rows, named)))
