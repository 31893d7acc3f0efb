"""The 128-byte record: the same bytes on the wire, in the log and in the journal (DESIGN §5).

A record is read in two ways without copying: as the structured dtype `RECORD` (for people and tests) and as sixteen
little-endian u64 words (for the compiled kernel). One layout serves every kind of event, so that one log record may mix
them and one loop may apply them:

=====  ====================================================================================================
words  field
=====  ====================================================================================================
0,1    id: the caller's idempotency key (CREATE_ACCOUNT: the account's id; EXPIRE: the reservation's id)
2,3    debit account (UPDATE_ACCOUNT: the account updated; BUCKET: the account split)
4,5    credit account
6,7    amount, low and high (accounts: the overdraft limit). Journal: what moved if it took effect, not what was
       asked; what was asked if it was refused (EXPIRE: what was given back; RELEASE: 0)
8,9    followed id: the reservation committed or released, the transfer reversed
10,11  reference: the business key
12     effective_at, nanoseconds UTC; 0 means "at `timestamp`"
13     timestamp, nanoseconds UTC, given by apply from the leader's clock; 0 on the wire
14     ledger (u32) | timeout_s << 32 (UPDATE_ACCOUNT: the expected version; BUCKET: the version of the home's row)
15     code (u16) | kind << 16 (u8) | flags << 24 (u8) | outcome << 32 (u16) | leg << 48 (u16)
=====  ====================================================================================================

`leg` is the number of a record within its chain (0: alone, or first); it is zero on the wire and set in the journal.
Formats are for ever: this layout is journal and wire format version 1.
"""

from enum import IntEnum, IntFlag
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

RECORD_BYTES: Final = 128
RECORD_WORDS: Final = 16

RECORD: Final = np.dtype(
    [
        ("id", "V16"),
        ("debit", "V16"),
        ("credit", "V16"),
        ("amount_low", "<u8"),
        ("amount_high", "<u8"),
        ("followed", "V16"),
        ("reference", "V16"),
        ("effective_at", "<u8"),
        ("timestamp", "<u8"),
        ("ledger", "<u4"),
        ("timeout_s", "<u4"),
        ("code", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("outcome", "<u2"),
        ("leg", "<u2"),
    ]
)

Words: TypeAlias = npt.NDArray[np.uint64]
"""Shape (n, 16), C-contiguous: n records as little-endian u64 words."""

AMOUNT_ALL: Final = (1 << 128) - 1
"""COMMIT of this amount means: all that is left."""

BALANCE_BITS: Final = 127
"""posted + reserved stays below 2^127 on each side of an account, so that signed balances fit."""


class Kind(IntEnum):
    """What a record does. Replicated state: append members, never renumber."""

    UNSPECIFIED = 0
    POST = 1
    RESERVE = 2
    COMMIT = 3
    RELEASE = 4
    REVERSE = 5
    CREATE_ACCOUNT = 64
    UPDATE_ACCOUNT = 65
    BUCKET = 66
    """Routers' only: makes this group's bucket of an account, or brings its flags up to the home's (decision 12)."""
    EXPIRE = 128
    """Engine-made, in the journal only: a reservation met its deadline."""
    SETTINGS = 129
    """Engine-made: marks the position of a settings change; the settings are the block's extra payload."""


FOLLOWERS: Final = frozenset({Kind.COMMIT, Kind.RELEASE, Kind.REVERSE})
CALLER_TRANSFER_KINDS: Final = frozenset({Kind.POST, Kind.RESERVE, Kind.COMMIT, Kind.RELEASE, Kind.REVERSE})


class Flag(IntFlag):
    """Flags of a transfer (u8)."""

    NONE = 0
    LINKED = 1
    """This transfer and the next are legs of one chain: all or nothing."""
    BALANCING_DEBIT = 2
    BALANCING_CREDIT = 4
    FORCE = 8
    """Skips limits and nothing else; needs a role of its own. POST, RESERVE, REVERSE."""
    KEEP_REST = 16
    """COMMIT only: what is left stays reserved and allows further commits."""

    __rand__ = int.__rand__  # type: ignore[assignment]
    """`flags & Flag.FORCE` of a plain number stays one: IntFlag's own takes six times as long, a tenth of a verify."""


class AccountFlag(IntFlag):
    """Flags of an account (u8 in a record, u16 in the account table)."""

    NONE = 0
    DEBITS_MUST_NOT_EXCEED_CREDITS = 1
    CREDITS_MUST_NOT_EXCEED_DEBITS = 2
    FROZEN = 4
    CLOSED = 8
    TRANSIT = 16
    """Internal: keeps the book balanced while money is on its way between two groups."""
    BUCKET = 32
    """The head of this group's bucket of a split account: what callers post is booked on it."""
    SHARE = 64
    """Internal: the bucket's share account, on which money moves from and to other buckets."""

    __rand__ = int.__rand__  # type: ignore[assignment]
    """As of `Flag`."""


ACCOUNT: Final = np.dtype(
    [
        ("id", "V16"),
        ("debits_posted_low", "<u8"),
        ("debits_posted_high", "<u8"),
        ("credits_posted_low", "<u8"),
        ("credits_posted_high", "<u8"),
        ("debits_reserved_low", "<u8"),
        ("debits_reserved_high", "<u8"),
        ("credits_reserved_low", "<u8"),
        ("credits_reserved_high", "<u8"),
        ("overdraft_low", "<u8"),
        ("overdraft_high", "<u8"),
        ("created_at", "<u8"),
        ("ledger", "<u4"),
        ("version", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("partner", "<u4"),
        ("position", "<u8"),
    ]
)
"""One row of the account table, 128 bytes = 16 words: 0,1 id; 2,3 debits posted; 4,5 credits posted; 6,7 debits
reserved; 8,9 credits reserved; 10,11 overdraft limit; 12 created at (ns); 13 ledger | version << 32 (1 when created);
14 code | flags << 16 | partner << 32 (of a bucket's head and share account, the other's row plus one); 15 the journal
position of the CREATE_ACCOUNT that made it: its whole body, the reference too, is there. A share account has in 10,11
what reservations on its head ever gave back, and in 15 the position of the BUCKET that made it; so has a head that is
not at home."""


def as_words(packed: bytes | bytearray | memoryview) -> Words:
    """View n x 128 packed bytes as words, shape (n, 16), without copying (read-only if the bytes are)."""
    return np.frombuffer(packed, dtype="<u8").reshape(-1, RECORD_WORDS)


def as_records(words: Words) -> npt.NDArray[np.void]:
    """View words, shape (n, 16), as the structured dtype `RECORD`, shape (n,)."""
    return words.reshape(-1).view(RECORD)
