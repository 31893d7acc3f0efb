"""What is asked of the views, and what they answer."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Words
from engine.storage.views.run import U64Array
from engine.storage.views.run_store import RunInfo
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


_RESUME: Final = struct.Struct("<QQQ16s16s")


def posted_of(words: U64Array) -> Posted:
    """Return sums as stored: debits and credits, low and high word each."""
    low, high, credits_low, credits_high = (int(word) for word in words)
    return Posted(low + (high << 64), credits_low + (credits_high << 64))
