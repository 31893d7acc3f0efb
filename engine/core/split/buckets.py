"""Where a transfer runs whose accounts were ever split into buckets (DESIGN §8). Pure; the directory is the caller's.

A split is for ever as far as routes go: the directory keeps, in log order, the accounts ever split, and merging changes
no route. So a pair of accounts has at most two routes in its life: over the two homes until one of the two is split,
and then, for ever, in one group that the first route touches too. Any later attempt under one id meets the first there.
"""

import hashlib
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.plan import Side
from engine.core.model.state import Event, pack
from engine.core.records import AccountFlag, Kind

INTERNAL_PREFIX: Final = b"\xff" * 8
"""The first eight bytes of the ids of the engine's own accounts."""
SHARE_KIND: Final = 2
"""The next two of share accounts; transit accounts have 1."""
CARRIED_FLAGS: Final = (
    AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS
    | AccountFlag.FROZEN
    | AccountFlag.CLOSED
)
"""What a BUCKET record says of the account's flags."""


class Presence(IntEnum):
    """What a group has of an account."""

    ABSENT = 0
    ACCOUNT = 1
    """An account like others, not split."""
    BUCKET = 2
    INTERNAL = 3
    """One of the engine's own accounts."""


BUCKET_STATE: Final = np.dtype(
    [
        ("id", "V16"),
        ("share_id", "V16"),
        ("ledger", "<u4"),
        ("version", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("presence", "<u2"),
        ("group", "<u2"),
        ("epoch", "<u8"),
        ("overdraft_low", "<u8"),
        ("overdraft_high", "<u8"),
        ("given_back_low", "<u8"),
        ("given_back_high", "<u8"),
        ("debits_posted_low", "<u8"),
        ("debits_posted_high", "<u8"),
        ("credits_posted_low", "<u8"),
        ("credits_posted_high", "<u8"),
        ("debits_reserved_low", "<u8"),
        ("debits_reserved_high", "<u8"),
        ("credits_reserved_low", "<u8"),
        ("credits_reserved_high", "<u8"),
        ("share_debits_posted_low", "<u8"),
        ("share_debits_posted_high", "<u8"),
        ("share_credits_posted_low", "<u8"),
        ("share_credits_posted_high", "<u8"),
        ("share_debits_reserved_low", "<u8"),
        ("share_debits_reserved_high", "<u8"),
        ("share_credits_reserved_low", "<u8"),
        ("share_credits_reserved_high", "<u8"),
    ]
)
"""What a group says of one account in answer to ReadBuckets, 216 bytes. `presence`: `Presence`. `flags`, `overdraft`
and the first four counters: of the account's own row, the head; zero if it is ABSENT. `share_id`, `given_back` (what
reservations on the head ever gave back, on both sides together), the share account's counters and `epoch` (journal
position of the BUCKET that made it) are zero unless it is a BUCKET."""


def share_id(group: int, row: int) -> bytes:
    """Return the id of the share account at a row of a group's account table."""
    return INTERNAL_PREFIX + SHARE_KIND.to_bytes(2, "little") + group.to_bytes(2, "little") + row.to_bytes(4, "little")


def is_internal_id(account_id: bytes) -> bool:
    """Whether this is the id of one of the engine's own accounts; callers cannot name them."""
    return account_id[:8] == INTERNAL_PREFIX


def is_share_id(account_id: bytes) -> bool:
    """Whether this is the id of a share account."""
    return is_internal_id(account_id) and int.from_bytes(account_id[8:10], "little") == SHARE_KIND


def group_of_share(account_id: bytes) -> int:
    """Return the group of a share account: its id says so, not the hash."""
    return int.from_bytes(account_id[10:12], "little")


def bucket_request_id(account: bytes, version: int) -> bytes:
    """Return the id of the BUCKET record that brings an account's bucket up to this version of the home's row.

    It marks the row in journals; what makes a retry harmless is the bucket itself, not its id.
    """
    return hashlib.blake2b(account + version.to_bytes(4, "little"), digest_size=16, person=b"bucket").digest()


def bucket_row(account: bytes, *, ledger: int, code: int, flags: int, version: int) -> bytes:
    """Return the BUCKET record, 128 bytes, that carries what the home's row says of an account."""
    return pack(
        Event(
            id=bucket_request_id(account, version),
            kind=Kind.BUCKET,
            debit=account,
            ledger=ledger,
            timeout_or_version=version,
            code=code,
            flags=flags & CARRIED_FLAGS,
        )
    )


def bucket_states(data: bytes) -> npt.NDArray[np.void]:
    """View the `buckets` of a ReadBuckets answer, shape (n,), dtype `BUCKET_STATE`."""
    return np.frombuffer(data, BUCKET_STATE)


class Placed(NamedTuple):
    """One account as a router's map has it."""

    home: int
    """The group of its slot."""
    split_epoch: int | None = None
    """When it was first split, in the directory's log order; None: never."""


def side_of(debit: Placed, credit: Placed) -> Side:
    """Return the groups that run a transfer's two sides.

    With an account that was ever split, all of it runs in the home of whichever of the two was split later (never split
    counts as latest), on the other's bucket there.
    """
    if debit.split_epoch is None and credit.split_epoch is None:
        return Side(debit.home, credit.home)
    group = debit.home if _later(debit, credit) else credit.home
    return Side(group, group)


def _later(one: Placed, other: Placed) -> bool:
    if one.split_epoch is None or other.split_epoch is None:
        return one.split_epoch is None
    return one.split_epoch > other.split_epoch
