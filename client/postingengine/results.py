"""Results: how a request ended, as values. A refusal is a value too."""

import struct
import uuid
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, overload

from postingengine.faults import Fault
from postingengine.v1.outcomes import Outcome

PACKED_RESULT: Final = struct.Struct("<QQHHI")
"""position, timestamp, outcome, flags, group: 24 bytes."""
NO_POSITION: Final = (1 << 64) - 1
REPLAYED: Final = 1
IN_FLIGHT: Final = 2
TOOK_EFFECT_MAX: Final = 9
CONFLICT_MIN: Final = 10
CONFLICT_MAX: Final = 39

OUTCOMES: Final = {member.value: member for member in Outcome}


class Result(NamedTuple):
    """The final answer for an id."""

    id: bytes
    """16 bytes."""
    outcome: Outcome
    timestamp: int
    """When the engine booked it, nanoseconds UTC."""
    group: int
    """The shard group that stored it."""
    journal_position: int
    """The event's number in that group's journal; 2^64-1 where nothing was stored: see `position`."""
    result_flags: int
    """1: replayed; 2: in flight."""

    @property
    def posted(self) -> bool:
        """Whether it took effect: money moved, was reserved, committed, released or reversed."""
        return 1 <= self.outcome <= TOOK_EFFECT_MAX

    @property
    def refused(self) -> bool:
        """Whether it moved nothing; `outcome` says why, for ever."""
        return not self.posted

    @property
    def conflict(self) -> bool:
        """Whether the id belongs to another body: a caller's error."""
        return CONFLICT_MIN <= self.outcome <= CONFLICT_MAX

    @property
    def replayed(self) -> bool:
        """Whether the id was known with this very body: this is its stored outcome, given again."""
        return bool(self.result_flags & REPLAYED)

    @property
    def in_flight(self) -> bool:
        """Whether the debit side still shows the amount as reserved."""
        return bool(self.result_flags & IN_FLIGHT)

    @property
    def position(self) -> int | None:
        """The event's gapless number in its group's journal; None where nothing was stored (a conflict)."""
        return None if self.journal_position == NO_POSITION else self.journal_position

    @property
    def uuid(self) -> uuid.UUID:
        """The id as a `uuid.UUID`."""
        return uuid.UUID(bytes=self.id)

    def __repr__(self) -> str:
        """Say it as people read it: the outcome, the id as a UUID, and what is not as usual."""
        marks = [name for name in ("replayed", "in_flight") if getattr(self, name)]
        place = [f"group={self.group}", f"position={self.position}"]
        return f"Result({', '.join([self.outcome.name, f'id={self.uuid}', *place, *marks])})"


def result_of(id: bytes, position: int, timestamp: int, outcome: int, flags: int, group: int) -> Result:
    """Build a result from the fields of a packed one."""
    return Result(id, OUTCOMES.get(outcome) or Outcome(outcome), timestamp, group, position, flags)


class BatchResults(Sequence[Result | Fault]):
    """The answers of one batch, in its order: a `Result`, or the `Fault` of an item that has none.

    Read from the packed bytes when asked for: a bulk caller that only counts pays for nothing else.
    """

    def __init__(self, ids: Sequence[bytes], packed: bytes, faults: dict[int, Fault]) -> None:
        self._ids = ids
        self.packed = packed
        """n x 24 bytes as on the wire: position 8, timestamp 8, outcome 2, flags 2, group 4; outcome 0 at a fault."""
        self.faults = faults
        """The items without an outcome, by index."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Result | Fault: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result | Fault]: ...

    def __getitem__(self, index: int | slice) -> Result | Fault | list[Result | Fault]:
        """Return the answer of one item, or of several."""
        if isinstance(index, slice):
            return [self._at(one) for one in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[Result | Fault]:
        """Iterate over the answers in the order of the items."""
        return (self._at(index) for index in range(len(self)))

    def outcomes(self) -> Iterator[Outcome | None]:
        """Yield each item's outcome; None for a fault."""
        for _, _, outcome, _, _ in PACKED_RESULT.iter_unpack(self.packed):
            yield OUTCOMES.get(outcome) or Outcome(outcome) if outcome else None

    def results(self) -> list[Result]:
        """Return all as results; raises the first fault if there is one."""
        for index in sorted(self.faults):
            raise self.faults[index]
        return [self._result(index) for index in range(len(self))]

    def _at(self, index: int) -> Result | Fault:
        return self.faults.get(index) or self._result(index)

    def _result(self, index: int) -> Result:
        fields = PACKED_RESULT.unpack_from(self.packed, index * PACKED_RESULT.size)
        return result_of(self._ids[index], *fields)


class PackedIds(Sequence[bytes]):
    """The ids of packed records, read when asked for."""

    def __init__(self, packed: bytes | bytearray, record_bytes: int) -> None:
        self._packed, self._record_bytes = packed, record_bytes

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._packed) // self._record_bytes

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """Return the id of one item, or of several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        start = index * self._record_bytes
        return bytes(self._packed[start : start + 16])


def results_of_chain(answers: Sequence[Result | BaseException]) -> list[Result]:
    """Return the results of a chain's legs; raises the first fault that names a leg's own mistake, else the first."""
    faults = [answer for answer in answers if isinstance(answer, BaseException)]
    if faults:
        raise next((one for one in faults if isinstance(one, Fault) and one.field), faults[0])
    return [answer for answer in answers if isinstance(answer, Result)]
