"""Transit balances are explained by the chains that are open between the groups."""

from cli.reconciling import PairState, pair_states
from postingengine.v1.admin_service_pb2 import GroupAudit, OpenChain, OpenLeg, TransitBalance
from postingengine.v1.transfer_pb2 import TransferKind
from postingengine.v1.types_pb2 import Int128, ReadPoint, Uint128

POST, REVERSE = TransferKind.TRANSFER_KIND_POST, TransferKind.TRANSFER_KIND_REVERSE
RESERVE = TransferKind.TRANSFER_KIND_RESERVE


def audit(group: int, **balances: int) -> GroupAudit:
    transit = [
        TransitBalance(peer_group=int(peer[1:]), ledger=1, balance=signed(balance))
        for peer, balance in balances.items()
    ]
    return GroupAudit(read_at=ReadPoint(group=group), transit_balances=transit)


def signed(number: int) -> Int128:
    return Int128(low=number & (1 << 64) - 1, high=(number >> 64) & (1 << 64) - 1)


def opened(
    group: int, *legs: tuple[int, int, int], name: bytes = b"c", kind: TransferKind.ValueType = POST
) -> OpenChain:
    return OpenChain(
        id=name,
        group=group,
        decider=legs[-1][1],
        legs=[
            OpenLeg(kind=kind, ledger=1, amount=Uint128(low=amount), debit_group=debit, credit_group=credit)
            for debit, credit, amount in legs
        ],
    )


def unexplained(audits: list[GroupAudit], chains: list[OpenChain], *decided: bytes) -> list[int]:
    return [state.unexplained for state in pair_states(audits, chains, frozenset(decided))]


def test_at_rest_the_two_balances_of_a_pair_add_up_to_zero() -> None:
    (state,) = pair_states([audit(0, g1=30), audit(1, g0=-30)], [], frozenset())
    assert state == PairState((0, 1), 1, 30, -30, 0, 0)
    assert (state.difference, state.unexplained) == (0, 0)


def test_what_the_decider_posted_and_the_other_group_has_open_explains_the_difference() -> None:
    audits = [audit(0, g1=0), audit(1, g0=-30)]
    assert unexplained(audits, [opened(0, (0, 1, 30))], b"c") == [0]
    assert unexplained(audits, []) == [-30]
    assert unexplained(audits, [opened(0, (0, 1, 29))], b"c") == [-1]


def test_what_is_not_decided_yet_moves_nothing() -> None:
    (state,) = pair_states([audit(0, g1=0), audit(1, g0=0)], [opened(0, (0, 1, 30))], frozenset())
    assert (state.unexplained, state.undecided) == (0, 1)


def test_a_chain_of_three_groups_is_explained_pair_by_pair() -> None:
    """Group 2 decided; group 0 has committed, group 1 has not."""
    legs = ((0, 1, 50), (1, 2, 40))
    audits = [audit(0, g1=50), audit(1, g0=0, g2=0), audit(2, g1=-40)]
    assert unexplained(audits, [opened(1, *legs)], b"c") == [0, 0]


def test_a_reversal_runs_the_other_way_and_a_hold_moves_nothing() -> None:
    assert unexplained([audit(0, g1=0), audit(1, g0=30)], [opened(0, (0, 1, 30), kind=REVERSE)], b"c") == [0]
    assert unexplained([audit(0, g1=0), audit(1, g0=0)], [opened(0, (0, 1, 30), kind=RESERVE)], b"c") == [0]
