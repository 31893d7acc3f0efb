"""Packed records for the protocol's tests."""

import struct

from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.records import Flag, Kind


def row(
    name: str = "t1",
    *,
    debit: str = "alice",
    credit: str = "bob",
    amount: int = 30,
    followed: str = "",
    reference: str = "",
    effective_at: int = 0,
    ledger: int = 1,
    timeout_s: int = 0,
    code: int = 0,
    kind: Kind = Kind.POST,
    flags: Flag = Flag.NONE,
) -> bytes:
    """One record of 128 bytes as a caller sends it."""
    ids = [text.encode().ljust(16, b"\0") for text in (name, debit, credit, followed, reference)]
    money = amount.to_bytes(16, "little")
    tail = struct.pack("<QQIIHBBHH", effective_at, 0, ledger, timeout_s, code, kind, flags, 0, 0)
    return b"".join((ids[0], ids[1], ids[2], money, ids[3], ids[4], tail))


def linked(*rows: bytes) -> bytes:
    """A chain: all rows but the last carry LINKED."""
    first = [each[:123] + bytes([each[123] | Flag.LINKED]) + each[124:] for each in rows[:-1]]
    return b"".join((*first, rows[-1]))


def laid_out(*rows: bytes, sides: tuple[tuple[int, int], ...], decider: int | None = None) -> Chain:
    """A chain under a plan; the decider is the last credit's group unless given."""
    return chain_of(
        linked(*rows), Plan(tuple(Side(*side) for side in sides), sides[-1][1] if decider is None else decider)
    )
