"""What the router tells of a transfer that several groups have on record."""

from engine.core.outcomes import Outcome
from engine.core.settings import Settings, SlotRange
from engine.rpc import faults
from engine.rpc.faults import Reason
from postingengine.v1.posting_service_pb2 import TransferAnswer
from postingengine.v1.transfer_pb2 import CHAIN_STATE_OPEN, StoredTransfer, Transfer
from router.placement import Placement
from router.reading import best_answer
from router.split.map import Split, SplitMap
from tests.fake_groups import id_of
from tests.fake_network import HASH_SEED, names_in

SLOTS = (SlotRange(0, 0, 2047), SlotRange(1, 2048, 4095))
PLACEMENT = Placement(Settings(cluster_id="0" * 32, hash_seed=HASH_SEED, ledgers=(), slots=SLOTS))
(HERE, NEAR), (THERE,) = names_in(0, 2, 2, "account"), names_in(1, 2, 1, "account")
MISSING = faults.status_of(faults.Fault(faults.NOT_FOUND, Reason.TRANSFER_NOT_FOUND, "no transfer of that id"))
DOWN = faults.unavailable(Reason.GROUP_UNREACHABLE, "group 1 is down")


def said(group: int, outcome: int, credit: str = THERE) -> TransferAnswer:
    transfer = Transfer(debit_account=id_of(HERE), credit_account=id_of(credit))
    return TransferAnswer(stored=StoredTransfer(transfer=transfer, group=group, outcome=outcome))  # type: ignore[arg-type]


def missing() -> TransferAnswer:
    return TransferAnswer(fault=MISSING)


def test_posted_is_told_whoever_says_so() -> None:
    assert best_answer([said(0, Outcome.SECURED), said(1, Outcome.POSTED)], [], 0, PLACEMENT).stored.group == 1
    assert best_answer([missing(), said(0, Outcome.POSTED, NEAR)], [], 0, PLACEMENT).stored.outcome == Outcome.POSTED


def test_what_is_secured_only_is_open() -> None:
    found = best_answer([said(0, Outcome.SECURED), missing()], [], 0, PLACEMENT).stored
    assert (found.outcome, found.chain_state) == (0, CHAIN_STATE_OPEN)


def test_a_refusal_is_told_by_the_group_that_decides() -> None:
    refused = Outcome.INSUFFICIENT_FUNDS
    assert best_answer([said(0, refused), missing()], [], 0, PLACEMENT).stored.chain_state == CHAIN_STATE_OPEN
    assert best_answer([said(0, refused), said(1, refused)], [], 0, PLACEMENT).stored.group == 1
    assert best_answer([said(0, refused, NEAR), missing()], [], 0, PLACEMENT).stored.outcome == refused


def test_a_refusal_of_a_transfer_with_a_split_account_is_told_by_the_group_that_it_runs_in() -> None:
    """The credit account was split: it runs at the debit account's home, on the bucket there."""
    answers, splits = [said(0, Outcome.INSUFFICIENT_FUNDS), missing()], SplitMap([Split(id_of(THERE), 1)])
    assert best_answer(answers, [], 0, PLACEMENT, splits).stored.outcome == Outcome.INSUFFICIENT_FUNDS


def test_not_found_proves_nothing_while_a_group_is_out_of_reach() -> None:
    found = faults.fault_of(best_answer([missing()], [DOWN], 3, PLACEMENT).fault)
    assert found is not None and (found.reason, found.item) == (Reason.GROUP_UNREACHABLE, 3)
    assert faults.fault_of(best_answer([missing(), missing()], [], 3, PLACEMENT).fault) == faults.fault_of(MISSING)
