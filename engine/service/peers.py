"""PeerService of a node: steps of cross-group chains from routers and from other groups' couriers (DESIGN §7), and the
buckets of split accounts (decision 12)."""

from typing import Final, TypeAlias

from engine.core.chains.step_answers import encode_answers
from engine.core.chains.step_record import StepRecord, StepsDamaged, decode_steps
from engine.peer.v1.peer_service_pb2 import (
    MakeBucketsRequest,
    MakeBucketsResponse,
    ReadBucketsRequest,
    ReadBucketsResponse,
    StepRequest,
    StepResponse,
)
from engine.rpc.batch import attempt_of
from engine.rpc.faults import FAILED_PRECONDITION, CallFailed, Fault, Reason, invalid
from engine.rpc.server import Context, deadline_s
from engine.rpc.steps import ON_RECORD
from engine.service.buckets import Directory, make_buckets, read_buckets
from engine.service.callers import identity_of, require_epoch
from engine.service.replica import Replica
from engine.service.step_checks import require_sound
from engine.service.stepping import step
from engine.service.submission import Caller

_Request: TypeAlias = StepRequest | MakeBucketsRequest | ReadBucketsRequest

STEPS_MAX: Final = 8190
"""Steps of one call, as many as a batch has transfers."""


class PeerServicer:
    """Takes steps for one group."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._directory = Directory()
        self._default_s = replica.place.config.limits.post_deadline_ms_default / 1000

    async def Step(self, request: StepRequest, context: Context) -> StepResponse:  # noqa: N802 - the contract's name
        """Check who sends, and under which placement; have the steps heard."""
        self._require_same_cluster(request)
        if request.placement_epoch != ON_RECORD:
            require_epoch(request.placement_epoch, self._replica)
        record = _decoded(request)
        record = record._replace(compact=require_sound(record, self._replica.place.group))
        caller = Caller(identity_of(context), attempt_of(request.attempt))
        until_s = deadline_s(context, self._default_s)
        stepped = await step(self._replica, record, caller, until_s, looks_first=request.attempt > 1)
        return StepResponse(answers=encode_answers(stepped.answers), log_index=stepped.log_index)

    async def MakeBuckets(self, request: MakeBucketsRequest, context: Context) -> MakeBucketsResponse:  # noqa: N802
        """Make buckets through the log."""
        self._require_same_cluster(request)
        caller = Caller(identity_of(context), attempt_of(request.attempt))
        made = await make_buckets(self._replica, request.rows, caller, deadline_s(context, self._default_s))
        return MakeBucketsResponse(results=made.results.tobytes(), log_index=made.log_index)

    async def ReadBuckets(self, request: ReadBucketsRequest, context: Context) -> ReadBucketsResponse:  # noqa: N802
        """Read buckets, as of a moment within this call."""
        self._require_same_cluster(request)
        until_s = deadline_s(context, self._default_s)
        return await read_buckets(self._replica, self._directory, request, until_s)

    def _require_same_cluster(self, request: _Request) -> None:
        place = self._replica.place
        if request.cluster_id != place.config.cluster_id:
            raise CallFailed(_elsewhere(f"this call is for cluster {request.cluster_id}, not of this one"))
        if request.group != place.group:
            raise CallFailed(_elsewhere(f"this node serves group {place.group}, not group {request.group}"))


def _decoded(request: StepRequest) -> StepRecord:
    try:
        record = decode_steps(request.rows, request.steps)
    except StepsDamaged as damaged:
        raise CallFailed(invalid(Reason.STEPS_UNREADABLE, str(damaged), field="steps")) from damaged
    if not 1 <= len(record.steps) <= STEPS_MAX:
        message = f"a call carries 1 to {STEPS_MAX} steps, not {len(record.steps)}; split it"
        raise CallFailed(invalid(Reason.BATCH_TOO_LARGE if len(record.steps) else Reason.BATCH_EMPTY, message))
    return record


def _elsewhere(message: str) -> Fault:
    return Fault(FAILED_PRECONDITION, Reason.CLUSTER_DIFFERS, f"{message}; compare the cluster.yml of both")
