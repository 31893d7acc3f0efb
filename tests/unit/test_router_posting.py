"""Posting through the router: items in order, faults of their own, and a placement that has grown old."""

import time
from typing import Any

import numpy as np
import pytest

from engine.config import LimitsConfig
from engine.core.known import RESULT
from engine.core.outcomes import Outcome
from engine.core.settings import Settings, SlotRange
from engine.rpc.faults import CallFailed, Reason, fault_of, stale_placement, unavailable
from engine.rpc.steps import EPOCH_KEY
from engine.rpc.streams import NumberedBatch, PostBatch
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, PostTransfersResponse
from postingengine.v1.types_pb2 import GroupLogIndex
from router.chains.behind import Behind
from router.lanes import Lanes
from router.placement import Placement
from router.posting import Posting
from router.split.buckets import Buckets
from tests.fake_network import HASH_SEED, names_in
from tests.protocol_rows import row

(A1, A2), (B1, B2) = names_in(0, 2, 2, "account"), names_in(1, 2, 2, "account")


def placement(epoch: int, boundary: int = 2048) -> Placement:
    slots = (SlotRange(0, 0, boundary - 1), SlotRange(1, boundary, 4095))
    settings = Settings(cluster_id="0" * 32, hash_seed=HASH_SEED, ledgers=(), slots=slots, placement_epoch=epoch)
    return Placement(settings)


class Client:
    """A group that posts what it is sent, unless it was placed by an old epoch, or the group is down."""

    def __init__(self, directory: "Directory", group: int) -> None:
        self.directory, self.group = directory, group
        self.sent: list[int] = []
        self.left_s: list[float] = []
        """Of each request: how long its answer was waited for."""

    async def call(self, _: str, request: bytes, deadline_s: float, metadata: Any = ()) -> bytes:
        self.left_s.append(deadline_s - time.monotonic())
        if self.group in self.directory.down:
            raise CallFailed(unavailable(Reason.GROUP_UNREACHABLE, "down"))
        if int(dict(metadata)[EPOCH_KEY]) < self.directory.newest.epoch:
            raise CallFailed(stale_placement("old"))
        rows = len(PostTransfersRequest.FromString(request).packed) // 128
        self.sent.append(rows)
        results = np.zeros(rows, RESULT)
        results["outcome"], results["group"] = Outcome.POSTED, self.group
        indexes = [GroupLogIndex(group=self.group, log_index=5)]
        return PostTransfersResponse(packed_results=results.tobytes(), log_indexes=indexes).SerializeToString()


class Directory:
    """What the router looks things up in."""

    def __init__(self, known: Placement, newest: Placement) -> None:
        self.placement, self.newest = known, newest
        self.clients = [Client(self, group) for group in (0, 1)]
        self.down: set[int] = set()

    def client(self, group: int) -> Client:
        return self.clients[group]

    async def refresh(self) -> None:
        self.placement = self.newest


class Context:
    """A call without a deadline of its own, or with one."""

    def __init__(self, left_s: float | None = None) -> None:
        self.left_s = left_s

    def time_remaining(self) -> float | None:
        return self.left_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "test"


class NoSplits(Buckets):
    """No account was ever split."""

    async def refresh(self) -> None:
        pass


async def post(directory: Directory, *rows: bytes, left_s: float | None = None) -> PostTransfersResponse:
    buckets = NoSplits(directory, Lanes(directory), Behind())  # type: ignore[arg-type]
    posting = Posting(directory, LimitsConfig(), buckets)  # type: ignore[arg-type]
    request = PostTransfersRequest(packed=b"".join(rows)).SerializeToString()
    return PostTransfersResponse.FromString(await posting.post_transfers(request, Context(left_s)))  # type: ignore[arg-type]


def groups_of(answer: PostTransfersResponse) -> list[int]:
    return np.frombuffer(answer.packed_results, RESULT)["group"].tolist()  # type: ignore[no-any-return]


async def test_answers_come_in_the_order_of_the_batch_whatever_group_gave_them() -> None:
    directory = Directory(placement(1), placement(1))
    rows = [row("t1", debit=B1, credit=B2), row("t2", debit=A1, credit=A2), row("t3", debit=B2, credit=B1)]
    answer = await post(directory, *rows)
    assert groups_of(answer) == [1, 0, 1]
    assert [(one.group, one.log_index) for one in answer.log_indexes] == [(0, 5), (1, 5)]


async def test_a_faulty_item_is_told_at_its_place_and_the_others_are_posted() -> None:
    directory = Directory(placement(1), placement(1))
    rows = [row("t1", debit=A1, credit=A2), row("t2", debit=A1, credit=A1), row("t3", debit=B1, credit=B2)]
    answer = await post(directory, *rows)
    assert np.frombuffer(answer.packed_results, RESULT)["outcome"].tolist() == [1, 0, 1]
    (fault,) = answer.faults
    found = fault_of(fault.status)
    assert fault.index == 1 and found is not None and found.item == 1


async def test_a_group_that_is_down_fails_its_own_items_only() -> None:
    directory = Directory(placement(1), placement(1))
    directory.down.add(1)
    answer = await post(directory, row("t1", debit=A1, credit=A2), row("t2", debit=B1, credit=B2))
    assert [fault.index for fault in answer.faults] == [1]
    with pytest.raises(CallFailed) as failed:
        await post(directory, row("t2", debit=B1, credit=B2))
    assert (failed.value.fault.reason, failed.value.fault.item) == (Reason.GROUP_UNREACHABLE, None)


async def test_a_router_with_an_old_placement_refreshes_it_and_posts_again() -> None:
    """All slots have moved to group 1 but the first few."""
    directory = Directory(placement(1), placement(2, boundary=1))
    answer = await post(directory, row("t1", debit=A1, credit=A2), row("t2", debit=B1, credit=B2))
    assert groups_of(answer) == [1, 1]
    assert directory.placement.epoch == 2
    assert directory.clients[0].sent == [] and sum(directory.clients[1].sent) == 2


async def test_a_placement_that_nobody_can_tell_ends_in_time() -> None:
    directory = Directory(placement(1), placement(2))
    directory.refresh = _nothing  # type: ignore[method-assign]
    with pytest.raises(CallFailed) as failed:
        await post(directory, row("t1", debit=A1, credit=A2), left_s=0.2)
    assert failed.value.fault.reason == Reason.PLACEMENT_STALE


async def _nothing() -> None:
    return None


class OneByOne:
    """A stream of two batches, of which the first has a time of its own."""

    def __init__(self, request: bytes) -> None:
        self.request = request

    async def serve(self, _: Context, post: PostBatch) -> None:
        for timeout_ms in (700, 0):
            await post(NumberedBatch(1, self.request, timeout_ms))


async def test_a_batch_of_a_stream_is_waited_for_as_long_as_its_caller_waits() -> None:
    directory = Directory(placement(1), placement(1))
    buckets = NoSplits(directory, Lanes(directory), Behind())  # type: ignore[arg-type]
    posting = Posting(directory, LimitsConfig(post_deadline_ms_default=9000), buckets)  # type: ignore[arg-type]
    stream = OneByOne(PostTransfersRequest(packed=row("t1", debit=A1, credit=A2)).SerializeToString())
    await posting.stream_transfers(stream, Context())  # type: ignore[arg-type]
    timed, by_default = directory.clients[0].left_s
    assert timed <= 0.7 < by_default <= 9
