"""Whether the groups' transit balances explain each other: what is on its way, and what of it has arrived (I9).

For each pair of groups and ledger the two transit balances add up to zero, but for chains that their decider has posted
and one of the two has not yet: of those its balance lacks what they move between the two.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cli.server import from_int128, from_uint128
from engine.core.split.buckets import is_share_id
from postingengine.v1.admin_service_pb2 import GroupAudit, OpenChain, OpenLeg
from postingengine.v1.transfer_pb2 import TransferKind

MOVES = frozenset(
    {TransferKind.TRANSFER_KIND_POST, TransferKind.TRANSFER_KIND_COMMIT, TransferKind.TRANSFER_KIND_REVERSE}
)

Pair = tuple[int, int, int]
"""(lower group, higher group, ledger)."""


class PairState(NamedTuple):
    """One pair of groups in one ledger, minor units."""

    groups: tuple[int, int]
    ledger: int
    lower: int
    """Transit balance of the lower group with the higher one: credits less debits."""
    higher: int
    on_its_way: int
    """What open chains that are decided will add to the two balances."""
    undecided: int
    """Open chains between the two that wait for a decision: they move nothing yet."""
    moves: int = 0
    """Open chains between the two that move money between the buckets of a split account, decided or not."""

    @property
    def difference(self) -> int:
        """What the two balances add up to."""
        return self.lower + self.higher

    @property
    def unexplained(self) -> int:
        """The part of the difference that no open chain explains: zero, or money is lost or doubled."""
        return self.difference + self.on_its_way


def pair_states(
    audits: Iterable[GroupAudit], opened: Iterable[OpenChain], decided: frozenset[bytes]
) -> list[PairState]:
    """Compare every pair; opened: all groups' open chains. decided: the ids of those that their decider has posted."""
    balances: dict[Pair, dict[int, int]] = defaultdict(dict)
    on_its_way: dict[Pair, int] = defaultdict(int)
    undecided: dict[Pair, int] = defaultdict(int)
    moves: dict[Pair, int] = defaultdict(int)
    for audit in audits:
        own = audit.read_at.group
        for one in audit.transit_balances:
            balances[_pair(own, one.peer_group, one.ledger)][own] = from_int128(one.balance)
    for chain in opened:
        for pair, amount in _moves(chain).items():
            moves[pair] += is_move(chain)
            if bytes(chain.id) in decided:
                on_its_way[pair] += amount
            else:
                undecided[pair] += 1
    return [
        PairState((low, high), ledger, at.get(low, 0), at.get(high, 0), on_its_way[pair], undecided[pair], moves[pair])
        for pair in sorted(balances.keys() | on_its_way.keys() | undecided.keys())
        for low, high, ledger in [pair]
        for at in [balances[pair]]
    ]


def is_move(chain: OpenChain) -> bool:
    """Whether a chain moves money between the buckets of a split account: no caller asked for it."""
    return all(is_share_id(leg.debit_account) and is_share_id(leg.credit_account) for leg in chain.legs)


def _moves(chain: OpenChain) -> Mapping[Pair, int]:
    """What the group that has the chain open will add to its transit balances."""
    found: dict[Pair, int] = defaultdict(int)
    for leg in chain.legs:
        debited, credited = _direction(leg)
        if debited != credited and chain.group in (debited, credited) and leg.kind in MOVES:
            amount = from_uint128(leg.amount)
            found[_pair(debited, credited, leg.ledger)] += amount if chain.group == debited else -amount
    return found


def _direction(leg: OpenLeg) -> tuple[int, int]:
    """The groups that are debited and credited: a REVERSE keeps its original's account order."""
    if leg.kind == TransferKind.TRANSFER_KIND_REVERSE:
        return leg.credit_group, leg.debit_group
    return leg.debit_group, leg.credit_group


def _pair(one: int, other: int, ledger: int) -> Pair:
    return min(one, other), max(one, other), ledger
