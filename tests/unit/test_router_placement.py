import os

import numpy as np

from engine.core.placement import slot_of
from engine.core.records import Flag, Kind
from engine.core.settings import Settings, SlotRange
from engine.rpc import faults
from engine.rpc.faults import Reason
from postingengine.v1 import posting_service_pb2, transfer_pb2
from router.batches import cut, join
from router.placement import Placement

SEED = 7


def placement_of_two_groups() -> Placement:
    slots = (SlotRange(0, 0, 2047), SlotRange(1, 2048, 4095))
    return Placement(Settings(cluster_id="0" * 32, hash_seed=SEED, ledgers=(), slots=slots))


def account_in(group: int) -> bytes:
    while True:
        account = os.urandom(16)
        if slot_of(account, SEED) // 2048 == group:
            return account


def batch(debits: list[bytes], linked: set[int] = frozenset()) -> np.ndarray:  # type: ignore[type-arg,assignment]
    words = np.zeros((len(debits), 16), np.uint64)
    for row, debit in enumerate(debits):
        words[row, 0] = row + 1
        words[row, 2:4] = np.frombuffer(debit, "<u8")
        flags = Flag.LINKED if row in linked else Flag.NONE
        words[row, 15] = (Kind.POST << 16) | (flags << 24)
    return words


def test_a_row_goes_to_the_group_of_its_debit_account() -> None:
    debits = [account_in(0), account_in(1), account_in(1)]
    assert placement_of_two_groups().groups_of_rows(batch(debits)).tolist() == [0, 1, 1]


def test_a_chain_goes_whole_to_the_group_of_its_first_leg() -> None:
    debits = [account_in(0), account_in(1), account_in(0), account_in(1), account_in(0)]
    words = batch(debits, linked={1, 2})
    assert placement_of_two_groups().groups_of_rows(words).tolist() == [0, 1, 1, 1, 0]


def test_typed_and_packed_batches_are_cut_alike() -> None:
    placement = placement_of_two_groups()
    debits = [account_in(one) for one in (1, 0, 1, 1, 0)]
    packed = posting_service_pb2.PostTransfersRequest(packed=batch(debits, linked={0, 2}).tobytes(), attempt=3)
    typed = posting_service_pb2.PostTransfersRequest(
        transfers=[
            transfer_pb2.Transfer(debit_account=debit, flags=[1] if item in {0, 2} else [])
            for item, debit in enumerate(debits)
        ],
        attempt=3,
    )
    parts = [
        [(one.group, one.items.tolist(), one.request.attempt) for one in cut(whole, placement)]
        for whole in (packed, typed)
    ]
    assert parts[0] == parts[1] == [(0, [4], 3), (1, [0, 1, 2, 3], 3)]


def test_answers_come_back_in_the_order_of_the_request() -> None:
    placement = placement_of_two_groups()
    debits = [account_in(one) for one in (1, 0, 1, 0)]
    request = posting_service_pb2.PostTransfersRequest(packed=batch(debits).tobytes())
    parts = cut(request, placement)
    answers = [echo(part.request) for part in parts]
    joined = join(request, parts, answers)
    positions = np.frombuffer(joined.packed_results, [("position", "<u8"), ("rest", "V16")])["position"]
    assert positions.tolist() == [1, 2, 3, 4]


def test_a_group_that_failed_answers_each_of_its_items_and_spoils_no_other() -> None:
    placement = placement_of_two_groups()
    request = posting_service_pb2.PostTransfersRequest(packed=batch([account_in(0), account_in(1)]).tobytes())
    parts = cut(request, placement)
    down = faults.unavailable(Reason.GROUP_UNREACHABLE, "group 1 is down")
    joined = join(request, parts, [echo(parts[0].request), down])
    assert [fault.index for fault in joined.faults] == [1]
    found = faults.fault_of(joined.faults[0].status)
    assert found is not None and found.item == 1 and found.reason == "GROUP_UNREACHABLE"


def echo(request: posting_service_pb2.PostTransfersRequest) -> posting_service_pb2.PostTransfersResponse:
    """Answer each row with its id's first word as position."""
    words = np.frombuffer(request.packed, "<u8").reshape(-1, 16)
    results = np.zeros((len(words), 3), np.uint64)
    results[:, 0] = words[:, 0]
    return posting_service_pb2.PostTransfersResponse(packed_results=results.tobytes())
