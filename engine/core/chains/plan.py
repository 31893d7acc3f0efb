"""A chain laid out over groups: which group runs each side of each leg, and which one decides (DESIGN §7).

A *plan* says for every leg the group of its debit side and the group of its credit side, in the order of the record's
accounts, and names the *decider*: the home group of the last leg's credit account. COMMIT, RELEASE and REVERSE are laid
out as what they follow was, and take its decider, so that one log orders the whole life of a reservation; today's map
is not asked. A `Chain` is the bodies with their plan, and the digest that a group's word names.

Encoded, little-endian, format version 1::

    header   8 bytes   version u16, decider u16, legs u16, zero u16
    sides    4 bytes a leg: group of the debit account u16, group of the credit account u16
    padding  zeros up to a multiple of 8, so that the rows are aligned
    rows     128 bytes a leg, as the caller sent them (`engine.core.records`)
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.limits import CHAIN_GROUPS_MAX, CHAIN_LEGS_MAX, GROUPS_MAX
from engine.core.outcomes import Outcome
from engine.core.placement import slots_of
from engine.core.records import AMOUNT_ALL, RECORD_BYTES, Flag, Kind, Words, as_records, as_words

PLAN_VERSION: Final = 1
DIGEST_BYTES: Final = 16
DIGEST_PERSON: Final = b"chain"
"""Personalises BLAKE2b. Cryptographic: two bodies of one id with one digest would let a group post what its decider did
not decide."""

_HEADER: Final = struct.Struct("<HHHH")
_AMOUNT: Final = 48
_FOLLOWED: Final = 64
_KIND: Final = 122
_FLAGS: Final = 123
_ALL: Final = AMOUNT_ALL.to_bytes(16, "little")
_BALANCING: Final = Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT
_FOLLOWERS: Final = frozenset({Kind.COMMIT, Kind.RELEASE, Kind.REVERSE})
_COMPARED: Final = (
    (Outcome.ID_REUSED_WITH_DIFFERENT_KIND, ("kind",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_LEDGER, ("ledger",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_DEBIT_ACCOUNT, ("debit",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_CREDIT_ACCOUNT, ("credit",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT, ("amount_low", "amount_high")),
    (Outcome.ID_REUSED_WITH_DIFFERENT_FOLLOWED_ID, ("followed",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_FLAGS, ("flags",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_TIMEOUT, ("timeout_s",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_CODE, ("code",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_REFERENCE, ("reference",)),
    (Outcome.ID_REUSED_WITH_DIFFERENT_EFFECTIVE_AT, ("effective_at",)),
)
_M32: Final = np.uint64(0xFFFF_FFFF)
_LINKED: Final = np.uint64(Flag.LINKED)
_FLAGS_SHIFT: Final = np.uint64(24)


class ChainFault(StrEnum):
    """Why a chain cannot be laid out: a fault of the whole chain, nothing logged. Values are `ErrorInfo` reasons."""

    CHAIN_TOO_LONG = "CHAIN_TOO_LONG"
    """More legs than `CHAIN_LEGS_MAX`."""
    CHAIN_OVER_TOO_MANY_GROUPS = "CHAIN_OVER_TOO_MANY_GROUPS"
    """More groups than `CHAIN_GROUPS_MAX`, the decider included."""
    CHAIN_OF_SEVERAL_DECIDERS = "CHAIN_OF_SEVERAL_DECIDERS"
    """It follows what different groups decided: no one log could order it with all of them."""
    BALANCING_IN_CHAIN = "BALANCING_IN_CHAIN"
    """A balancing leg, or a COMMIT of all that is left, among others: the amounts of the other groups' legs would
    depend on it."""
    GROUP_UNKNOWN = "GROUP_UNKNOWN"
    """An account's slot belongs to no group that this engine can number."""


class ChainDamaged(ValueError):
    """The bytes are not an encoded chain of a known version."""


class Side(NamedTuple):
    """The groups that run one leg."""

    debit: int
    """Group of the record's debit account."""
    credit: int
    """Group of the record's credit account."""


class Original(NamedTuple):
    """How a follower's original was laid out: the side of the leg that it names, and that chain's decider."""

    side: Side
    decider: int


class Plan(NamedTuple):
    """A chain laid out over groups."""

    sides: tuple[Side, ...]
    decider: int


NO_ORIGINALS: Final[Mapping[int, Original]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Bodies with their plan; compare by `digest`, or by `rows` where only the bodies matter."""

    rows: bytes
    """n x 128 bytes as the caller sent them: timestamp, outcome and leg zero."""
    plan: Plan
    digest: bytes
    """16 bytes: BLAKE2b of the encoded chain, its format version included."""
    groups: tuple[int, ...]
    """Every group that takes part, the decider included, ascending."""
    others: tuple[int, ...]
    """`groups` without the decider."""
    first: tuple[int, ...]
    """Where it is reserved first, while no group has it on record; not part of the digest. For a chain that follows
    something, only where `lay_out_alone` would have put it: so that this attempt and one that did not know the original
    exclude each other. For all others, `others`."""
    credited: frozenset[int]
    """The groups other than the decider where money of this chain arrives."""
    holds: tuple[int, ...]
    """The legs that are a caller's RESERVE."""

    @property
    def decider(self) -> int:
        """The group whose log decides this chain."""
        return self.plan.decider

    @property
    def chain_id(self) -> bytes:
        """The first leg's id, 16 bytes."""
        return self.rows[:16]

    @property
    def legs(self) -> int:
        """How many transfers it links."""
        return len(self.plan.sides)

    @property
    def crosses(self) -> bool:
        """Whether more than one group takes part."""
        return bool(self.others)


def lay_out(rows: bytes, sides: Sequence[Side], originals: Mapping[int, Original] = NO_ORIGINALS) -> Chain | ChainFault:
    """Lay out one chain, or say why it cannot be.

    rows: n x 128 bytes as the caller sent them. sides: where today's map has each leg's accounts (`sides_of`).
    originals: by leg number, for every follower whose original is known. A chain with an original unknown everywhere is
    refused by its decider: lay it out with `lay_out_alone`.
    """
    decider = _decider(sides, originals)
    if isinstance(decider, ChainFault):
        return decider
    placed = tuple(originals[leg].side if leg in originals else side for leg, side in enumerate(sides))
    plan = Plan(placed, decider)
    return _fault(rows, plan) or chain_of(rows, plan, sides[-1].credit if originals else None)


def lay_out_alone(rows: bytes, sides: Sequence[Side]) -> Chain | ChainFault:
    """Lay out a chain whose original is unknown on one group, the home of its last leg's credit account.

    That group refuses it as missing, or knows the original after all and answers with its plan.
    """
    group = sides[-1].credit
    plan = Plan((Side(group, group),) * len(sides), group)
    return _fault(rows, plan) or chain_of(rows, plan)


def _decider(sides: Sequence[Side], originals: Mapping[int, Original]) -> int | ChainFault:
    deciders = {original.decider for original in originals.values()}
    if len(deciders) > 1:
        return ChainFault.CHAIN_OF_SEVERAL_DECIDERS
    return deciders.pop() if deciders else sides[-1].credit


def _fault(rows: bytes, plan: Plan) -> ChainFault | None:
    if len(plan.sides) > CHAIN_LEGS_MAX:
        return ChainFault.CHAIN_TOO_LONG
    groups = _groups(plan)
    if groups[-1] >= GROUPS_MAX:
        return ChainFault.GROUP_UNKNOWN
    if len(groups) > CHAIN_GROUPS_MAX:
        return ChainFault.CHAIN_OVER_TOO_MANY_GROUPS
    if len(groups) > 1 and len(plan.sides) > 1 and _depends_on_balances(rows):
        return ChainFault.BALANCING_IN_CHAIN
    return None


def _depends_on_balances(rows: bytes) -> bool:
    if any(flags & _BALANCING for flags in rows[_FLAGS::RECORD_BYTES]):
        return True
    amounts_at = range(_AMOUNT, len(rows), RECORD_BYTES)
    kinds = zip(rows[_KIND::RECORD_BYTES], amounts_at, strict=True)
    return any(kind == Kind.COMMIT and rows[at : at + 16] == _ALL for kind, at in kinds)


def _groups(plan: Plan) -> tuple[int, ...]:
    return tuple(sorted({plan.decider}.union(*plan.sides)))


def chain_of(rows: bytes, plan: Plan, first: int | None = None) -> Chain:
    """Bind bodies to a plan, whatever today's bounds are. first: the one group to reserve first, if it takes part."""
    groups = _groups(plan)
    others = tuple(group for group in groups if group != plan.decider)
    kinds = rows[_KIND::RECORD_BYTES]
    credited = {group for kind, side in zip(kinds, plan.sides, strict=True) for group in _credited(kind, side)}
    return Chain(
        rows,
        plan,
        hashlib.blake2b(_encode(rows, plan), digest_size=DIGEST_BYTES, person=DIGEST_PERSON).digest(),
        groups,
        others,
        (first,) if first is not None and first in others else others,
        frozenset(credited - {plan.decider}),
        tuple(leg for leg, kind in enumerate(kinds) if kind == Kind.RESERVE),
    )


def _credited(kind: int, side: Side) -> tuple[int, ...]:
    if kind in (Kind.POST, Kind.COMMIT):
        return (side.credit,)
    return (side.debit,) if kind == Kind.REVERSE else ()  # a REVERSE keeps its original's account order


def encode_chain(chain: Chain) -> bytes:
    """Return the bytes of a chain: how it travels between groups, and how an answer names another plan."""
    return _encode(chain.rows, chain.plan)


def _encode(rows: bytes, plan: Plan) -> bytes:
    sides = np.array(plan.sides, "<u2").tobytes() if len(plan.sides) > 1 else struct.pack("<HH", *plan.sides[0])
    header = _HEADER.pack(PLAN_VERSION, plan.decider, len(plan.sides), 0)
    return b"".join((header, sides, bytes(-len(sides) % 8), rows))


def decode_chain(data: bytes) -> Chain:
    """Inverse of `encode_chain`; raise `ChainDamaged` with one sentence if the bytes cannot be a chain."""
    if len(data) < _HEADER.size:
        raise ChainDamaged(f"a chain of {len(data)} bytes is shorter than its header of {_HEADER.size}")
    version, decider, legs, _ = _HEADER.unpack_from(data)
    if version != PLAN_VERSION:
        raise ChainDamaged(f"chain format {version} is unknown to this engine, which reads {PLAN_VERSION}")
    rows_at = _HEADER.size + legs * 4 + (-legs * 4) % 8
    if not 1 <= legs <= CHAIN_LEGS_MAX or len(data) != rows_at + legs * RECORD_BYTES:
        raise ChainDamaged(f"a chain of {legs} legs cannot have {len(data)} bytes")
    sides = np.frombuffer(data, "<u2", 2 * legs, _HEADER.size).reshape(legs, 2).tolist()
    plan = Plan(tuple(Side(debit, credit) for debit, credit in sides), decider)
    if _groups(plan)[-1] >= GROUPS_MAX:
        raise ChainDamaged(f"a chain names group {_groups(plan)[-1]}, and groups are below {GROUPS_MAX}")
    return chain_of(data[rows_at:], plan)


def sides_of(words: Words, group_of_slot: npt.NDArray[np.uint16], seed: int) -> npt.NDArray[np.uint16]:
    """Return the groups of a batch's accounts by today's map, shape (n, 2): debit account, credit account.

    words: shape (n, 16). group_of_slot: shape (4096,).
    """
    writable = words if words.flags.writeable else words.copy()  # the compiled loop is typed for writable arrays
    debit = slots_of(writable, 2, np.uint64(seed))
    credit = slots_of(writable, 4, np.uint64(seed))
    return np.stack((group_of_slot[debit], group_of_slot[credit]), axis=1)


def differences(own: Chain, other: Chain) -> tuple[Outcome, ...]:
    """Compare an own chain with another one that has taken ids of it: an outcome for each leg of `own`.

    The first field that differs, in the order of the outcomes' numbers; ID_REUSED_WITH_DIFFERENT_CHAIN if none does;
    CHAIN_FAILED for a leg that the other chain does not have.
    """
    theirs = {bytes(row["id"]): row for row in _unlinked(other)}
    ours = ((row, theirs.get(bytes(row["id"]))) for row in _unlinked(own))
    return tuple(Outcome.CHAIN_FAILED if their is None else _difference(row, their) for row, their in ours)


def _unlinked(chain: Chain) -> npt.NDArray[np.void]:
    rows = as_records(as_words(chain.rows)).copy()
    rows["flags"] &= np.uint8(0xFF ^ Flag.LINKED)  # a matter of the chain, not of the leg
    return rows


def _difference(one: np.void, other: np.void) -> Outcome:
    for outcome, fields in _COMPARED:
        if any(bytes(one[field]) != bytes(other[field]) for field in fields):
            return outcome
    return Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN


def ids_of(chain: Chain) -> tuple[bytes, ...]:
    """Return the ids of a chain's legs, 16 bytes each."""
    return tuple(chain.rows[at : at + 16] for at in range(0, len(chain.rows), RECORD_BYTES))


def followed_by(rows: bytes) -> dict[int, bytes]:
    """Return, by the number of each leg that follows something, the id that it follows. rows: n x 128 bytes."""
    return {
        leg: rows[leg * RECORD_BYTES + _FOLLOWED : leg * RECORD_BYTES + _FOLLOWED + 16]
        for leg, kind in enumerate(rows[_KIND::RECORD_BYTES])
        if kind in _FOLLOWERS
    }


def is_followed(other: Chain, own: Chain) -> bool:
    """Whether `other` is merely the chain of what a leg of `own` follows, and has none of its ids.

    A group that knows it laid out otherwise than `own` takes it to be answers with it, and logs nothing: it has no word
    for `own`.
    """
    theirs = set(ids_of(other))
    return theirs.isdisjoint(ids_of(own)) and not theirs.isdisjoint(followed_by(own.rows).values())


def original_in(chain: Chain, followed: bytes) -> Original | None:
    """Return how the leg of that id was laid out; None if the chain has no such leg."""
    ids = ids_of(chain)
    return Original(chain.plan.sides[ids.index(followed)], chain.decider) if followed in ids else None


def chain_starts(words: Words) -> npt.NDArray[np.int64]:
    """Return the row at which each chain of a batch begins; a record that stands alone is a chain of one leg."""
    linked = (words[:, 15] >> _FLAGS_SHIFT) & _LINKED
    return np.flatnonzero(np.concatenate(([True], linked[:-1] == 0))) if len(words) else np.empty(0, np.int64)


def bodies(stored: Words) -> bytes:
    """Return journal rows as the caller sent them: no timestamp, outcome or leg.

    stored: shape (n, 16), with the amounts that were asked for. Not touched.
    """
    words = stored.copy()
    words[:, 13] = 0
    words[:, 15] &= _M32
    return words.tobytes()
