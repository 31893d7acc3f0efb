import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import pytest

from engine.core.known import RESULT
from engine.core.outcomes import Outcome
from engine.core.records import Flag, Words
from engine.replication.journal.disk import Disk
from engine.replication.worker import Pace
from engine.rpc.faults import fault_of, fault_of_error
from engine.rpc.typed import words_of_transfers
from engine.service.replica import Replica
from engine.service.submission import Caller, Submission
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, StreamTransfersRequest
from postingengine.v1.transfer_pb2 import Transfer, TransferFlag, TransferKind
from tests.running_node import Node, cluster, identity, running_node, transfer

ALICE, BOB = identity(0xA11CE), identity(0xB0B)
CALLERS: Final = 300
WAIT_S_MAX: Final = 30.0


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(cluster(tmp_path)) as running:
        assert [one.outcome for one in await running.make_accounts(ALICE, BOB)] == [Outcome.ACCOUNT_CREATED] * 2
        yield running


async def test_typed_and_packed_batches_give_the_same_outcomes(node: Node) -> None:
    transfers = [transfer(1, ALICE, BOB, 5), transfer(2, ALICE, identity(404), 5), transfer(3, BOB, ALICE, 7)]
    typed = await node.post(*transfers)
    assert [one.outcome for one in typed] == [
        Outcome.POSTED,
        Outcome.CREDIT_ACCOUNT_UNKNOWN,
        Outcome.POSTED,
    ]
    words, faults = words_of_transfers(transfers)
    assert not faults
    response = await node.posting.PostTransfers(PostTransfersRequest(packed=words.tobytes()), timeout=5)
    packed = np.frombuffer(response.packed_results, RESULT)
    assert packed["outcome"].tolist() == [one.outcome for one in typed]
    assert packed["position"].tolist() == [one.position for one in typed]
    assert packed["timestamp"].tolist() == [one.timestamp for one in typed]
    assert packed["flags"].tolist() == [1, 1, 1]
    assert not response.faults
    assert response.log_indexes[0].log_index > 0


async def test_a_blind_retry_gets_the_stored_answer(node: Node) -> None:
    (first,) = await node.post(transfer(1, ALICE, BOB, 5))
    (again,) = await node.post(transfer(1, ALICE, BOB, 5))
    (other,) = await node.post(transfer(1, ALICE, BOB, 6))
    assert (again.outcome, again.replayed, again.position) == (first.outcome, True, first.position)
    assert other.outcome == Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT
    assert not other.HasField("position")


ZERO = bytes(16)
FAULTS = [
    ({"amount": None}, "AMOUNT_ZERO", "amount"),
    ({"credit_account": ALICE}, "ACCOUNTS_SAME", "credit_account"),
    ({"id": ZERO}, "ID_ZERO", "id"),
    ({"id": b"short"}, "ID_LENGTH_INVALID", "id"),
    ({"debit_account": b""}, "ID_LENGTH_INVALID", "debit_account"),
    ({"reference": b"123"}, "ID_LENGTH_INVALID", "reference"),
    ({"flags": [64]}, "FLAGS_INVALID", "flags"),
    ({"flags": [TransferFlag.TRANSFER_FLAG_FORCE] * 2}, "FLAGS_INVALID", "flags"),
    ({"kind": 99}, "KIND_UNKNOWN", "kind"),
    ({"kind": 64}, "KIND_UNKNOWN", "kind"),
    ({"code": 65536}, "VALUE_OUT_OF_RANGE", "code"),
    ({"timeout_s": 5}, "TIMEOUT_UNEXPECTED", "timeout_s"),
    ({"flags": [TransferFlag.TRANSFER_FLAG_LINKED]}, "CHAIN_OPEN", "flags"),
]


@pytest.mark.parametrize(("wrong", "reason", "field"), FAULTS)
async def test_a_bad_item_is_named_and_spares_its_neighbours(
    node: Node, wrong: dict[str, object], reason: str, field: str
) -> None:
    bad = transfer(2, ALICE, BOB, 5, **{key: value for key, value in wrong.items() if value is not None})
    if wrong.get("amount", 1) is None:
        bad.ClearField("amount")
    results = await node.post(transfer(1, ALICE, BOB, 5), bad)
    assert results[0].outcome == Outcome.POSTED
    fault = fault_of(results[1].fault)
    assert fault is not None
    assert (fault.reason, fault.field, fault.item, fault.logged) == (reason, field, 1, "no")
    audit = await node.admin.Audit(_nothing("AuditRequest"), timeout=5)
    assert audit.groups[0].next_position == 1 + 2 + 1, "settings, two accounts, the good neighbour"


async def test_a_faulty_leg_takes_its_chain_and_nothing_else(node: Node) -> None:
    linked = {"flags": [TransferFlag.TRANSFER_FLAG_LINKED]}
    results = await node.post(
        transfer(1, ALICE, BOB, 1),
        transfer(2, ALICE, BOB, 1, **linked),
        transfer(3, ALICE, BOB, 0),
        transfer(4, ALICE, BOB, 1),
    )
    assert [one.WhichOneof("answer") for one in results] == ["outcome", "fault", "fault", "outcome"]


async def test_what_depends_on_state_is_a_refusal_that_burns_the_id(node: Node) -> None:
    results = await node.post(
        transfer(1, ALICE, BOB, 1, ledger=9),
        transfer(2, ALICE, BOB, 1, ledger=2),
        transfer(3, ALICE, BOB, (1 << 127) - 1),
        transfer(4, ALICE, BOB, (1 << 127) - 1),
    )
    outcomes = [Outcome(one.outcome).name for one in results]
    assert outcomes == [
        "LEDGER_UNKNOWN",
        "DEBIT_ACCOUNT_OF_ANOTHER_LEDGER",
        "POSTED",
        "DEBIT_ACCOUNT_OVERFLOW",
    ]
    again = await node.post(transfer(4, ALICE, BOB, (1 << 127) - 1))
    assert again[0].replayed


async def test_a_batch_that_cannot_be_read_fails_as_a_call_and_logs_nothing(node: Node) -> None:
    words, _ = words_of_transfers([transfer(1, ALICE, BOB, 1)])
    packed = words.tobytes()
    post = node.raw("PostTransfers")
    cases = [
        (b"\x12\xff\xff", "BATCH_UNREADABLE"),
        (b"not protobuf at all", "BATCH_UNREADABLE"),
        (PostTransfersRequest(packed=packed[:-1]).SerializeToString(), "BATCH_LENGTH_ODD"),
        (PostTransfersRequest(packed=packed * 8191).SerializeToString(), "BATCH_TOO_LARGE"),
        (PostTransfersRequest(transfers=[Transfer()] * 8191).SerializeToString(), "BATCH_TOO_LARGE"),
        (PostTransfersRequest(transfers=[Transfer()], packed=packed).SerializeToString(), "BATCH_BOTH_FORMS"),
        (b"", "BATCH_EMPTY"),
    ]
    for request, reason in cases:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await post(request, timeout=5)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        fault = fault_of_error(failed.value)
        assert fault is not None
        assert (fault.reason, fault.logged) == (reason, "no")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await node.raw("GetAccounts")(b"\x0a\xff", timeout=5)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_packed_record_with_unknown_flags_is_a_fault_of_its_own(node: Node) -> None:
    words, _ = words_of_transfers([transfer(1, ALICE, BOB, 1), transfer(2, ALICE, BOB, 1)])
    words[1, 15] |= np.uint64(0x80 << 24)
    words[0, 15] &= ~np.uint64(Flag.LINKED << 24)
    response = await node.posting.PostTransfers(PostTransfersRequest(packed=words.tobytes()), timeout=5)
    assert np.frombuffer(response.packed_results, RESULT)["outcome"].tolist() == [Outcome.POSTED, 0]
    assert [fault.index for fault in response.faults] == [1]


async def test_a_stream_answers_each_batch_by_its_number(node: Node) -> None:
    stream = node.posting.StreamTransfers(timeout=10)
    for number in range(40):
        batch = PostTransfersRequest(transfers=[transfer(100 + number, ALICE, BOB, 1)])
        await stream.write(StreamTransfersRequest(batch_number=number, batch=batch))
    await stream.write(StreamTransfersRequest(batch_number=40, batch=PostTransfersRequest(packed=b"odd")))
    await stream.done_writing()
    answers = {answer.batch_number: answer async for answer in stream}
    assert set(answers) == set(range(41))
    assert all(answers[number].results.results[0].outcome == Outcome.POSTED for number in range(40))
    assert fault_of(answers[40].fault).reason == "BATCH_LENGTH_ODD"  # type: ignore[union-attr]


async def test_batches_of_many_callers_share_log_records(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    durable, submit, all_came = Disk.sync, Replica.post, threading.Event()
    came = itertools.count(1)

    def held(disk: Disk, descriptor: int) -> None:
        assert all_came.wait(WAIT_S_MAX)
        durable(disk, descriptor)

    def counted(replica: Replica, words: Words, caller: Caller, deadline_s: float) -> Awaitable[Submission]:
        submission = submit(replica, words, caller, deadline_s)
        if next(came) == CALLERS:
            all_came.set()
        return submission

    before = (await node.admin.DescribeCluster(_nothing("DescribeClusterRequest"))).groups[0].replicas[0]
    monkeypatch.setattr(Pace, "may_wait", lambda _: False)  # else the loop itself might wait for the disk
    monkeypatch.setattr(Disk, "sync", held)
    monkeypatch.setattr(Replica, "post", counted)
    calls = [node.post(transfer(1000 + number, ALICE, BOB, 1), timeout=WAIT_S_MAX) for number in range(CALLERS)]
    assert {one[0].outcome for one in await asyncio.gather(*calls)} == {Outcome.POSTED}
    after = (await node.admin.DescribeCluster(_nothing("DescribeClusterRequest"))).groups[0].replicas[0]
    assert after.last_log_index - before.last_log_index < CALLERS / 10


async def test_a_chain_longer_than_a_log_record_is_all_or_nothing(node: Node) -> None:
    legs = [transfer(5000 + number, ALICE, BOB, 1, flags=[1]) for number in range(3000)]
    legs += [transfer(9000, ALICE, identity(404), 1)]
    results = await node.post(*legs)
    assert {one.outcome for one in results[:-1]} == {Outcome.CHAIN_FAILED}
    assert results[-1].outcome == Outcome.CREDIT_ACCOUNT_UNKNOWN


async def test_due_reservations_expire_without_traffic(tmp_path: Path) -> None:
    now_ns = [time.time_ns()]
    async with running_node(cluster(tmp_path), clock_ns=lambda: now_ns[0]) as node:
        await node.make_accounts(ALICE, BOB)
        kind = TransferKind.TRANSFER_KIND_RESERVE
        (held,) = await node.post(transfer(1, ALICE, BOB, 5, kind=kind, timeout_s=1))
        assert held.outcome == Outcome.POSTED
        assert len((await node.admin.ListOpen(_nothing("ListOpenRequest"))).reservations) == 1
        now_ns[0] += 2_000_000_000
        async with asyncio.timeout(WAIT_S_MAX):
            while (await node.admin.ListOpen(_nothing("ListOpenRequest"))).reservations:
                await asyncio.sleep(0.05)


def _nothing(name: str) -> object:
    from postingengine.v1 import admin_service_pb2  # noqa: PLC0415

    return getattr(admin_service_pb2, name)()
