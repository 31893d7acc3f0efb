"""Faults: why a call or an item has no outcome, as a `google.rpc.Status` with ErrorInfo (DESIGN §4).

A fault is a value until it leaves the process. `logged` is the promise that matters to whoever retries: "no" means that
nothing was logged and no id is burned; "unknown" means: ask again with the same id.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN: Final = "postingengine"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
PUSHBACK_OVERLOADED_MS: Final = 100
PUSHBACK_NO_LEADER_MS: Final = 50
MILLISECOND_NS: Final = 1_000_000


class Reason(StrEnum):
    """ErrorInfo.reason of faults that are not those of one field (these come from `engine.core.validation`)."""

    BATCH_UNREADABLE = "BATCH_UNREADABLE"
    """The request is no message of the contract."""
    BATCH_EMPTY = "BATCH_EMPTY"
    """The request holds no items."""
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    """More than 8190 items, or more than 1 MiB: split the batch."""
    BATCH_LENGTH_ODD = "BATCH_LENGTH_ODD"
    """A packed batch whose length is no multiple of 128."""
    BATCH_BOTH_FORMS = "BATCH_BOTH_FORMS"
    """Typed and packed transfers in one request: send one of them."""
    ID_LENGTH_INVALID = "ID_LENGTH_INVALID"
    """An id that is not 16 bytes long."""
    VALUE_OUT_OF_RANGE = "VALUE_OUT_OF_RANGE"
    """A field's value is outside the range that the contract gives."""
    FLAGS_INVALID = "FLAGS_INVALID"
    """A flag is unknown, or stands there twice."""
    REQUEST_INVALID = "REQUEST_INVALID"
    """A field of a read is not what the contract says."""
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    """The page token belongs to other arguments: start again without one."""
    OVERLOADED = "OVERLOADED"
    """Too much waits already: nothing was logged, try again a little later."""
    DISK_NEARLY_FULL = "DISK_NEARLY_FULL"
    """Writes are refused until space is freed; reads go on."""
    STOPPING = "STOPPING"
    """The process is stopping: ask another, or the same a little later."""
    NOT_LEADER = "NOT_LEADER"
    """This replica does not lead its group: ask the one named."""
    NOT_READY = "NOT_READY"
    """The replica is still starting: try again a little later."""
    DEADLINE_PASSED = "DEADLINE_PASSED"
    """The caller's deadline passed; `logged` says whether the outcome is unknown."""
    FATE_UNKNOWN = "FATE_UNKNOWN"
    """The request may be in the log: ask again with the same ids."""
    GROUP_UNREACHABLE = "GROUP_UNREACHABLE"
    """No replica of the group answers: ask again with the same ids."""
    GROUP_UNKNOWN = "GROUP_UNKNOWN"
    """No group of that number."""
    PLACED_ELSEWHERE = "PLACED_ELSEWHERE"
    """The account lives in another group: refresh the placement."""
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    """No account of that id."""
    TRANSFER_NOT_FOUND = "TRANSFER_NOT_FOUND"
    """No transfer of that id was stored."""
    PLACEMENT_STALE = "PLACEMENT_STALE"
    """The sender placed accounts by an old placement: nothing was logged, refresh it and send again."""
    CLUSTER_DIFFERS = "CLUSTER_DIFFERS"
    """The sender belongs to another cluster, or takes this group for another: its cluster.yml is not this cluster's."""
    HEAT_NOT_MEASURED = "HEAT_NOT_MEASURED"
    """hot_accounts in the node's cluster.yml is off: set its policy to advise and start the node again."""
    STEPS_UNREADABLE = "STEPS_UNREADABLE"
    """A batch of steps is not what routers and nodes of this version send each other."""
    BUCKET_MISSING = "BUCKET_MISSING"
    """The group lacks its bucket of a split account: nothing was logged; routers make it and ask again."""
    BUCKETS_INVALID = "BUCKETS_INVALID"
    """An account is split into one bucket for each group of its cluster."""
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    """A closed account cannot be split."""
    ACCOUNT_IS_INTERNAL = "ACCOUNT_IS_INTERNAL"
    """The engine's own accounts cannot be split or merged."""
    ACCOUNT_SPLIT_ALREADY = "ACCOUNT_SPLIT_ALREADY"
    """The account was split before, and a split is for ever."""
    ACCOUNT_NOT_SPLIT = "ACCOUNT_NOT_SPLIT"
    """The account was never split: there is nothing to merge."""
    ACCOUNT_NOT_FROZEN = "ACCOUNT_NOT_FROZEN"
    """A split account is frozen before it is closed."""
    MERGE_UNFINISHED = "MERGE_UNFINISHED"
    """Reservations are open on other buckets still: what could be brought home is there, ask again later."""
    BUCKETS_CONTENDED = "BUCKETS_CONTENDED"
    """Other callers drew on the buckets of a split account meanwhile: nothing was refused, try again shortly."""
    PLAN_DIFFERS = "PLAN_DIFFERS"
    """A step's digest is not that of its bodies and plan, or the plan leaves this group out: nothing was logged."""


class Logged(StrEnum):
    """ErrorInfo.metadata["logged"]."""

    NO = "no"
    UNKNOWN = "unknown"


class Fault(NamedTuple):
    """One fault. `code` is the number of a gRPC status code."""

    code: int
    reason: str
    message: str
    logged: Logged = Logged.NO
    item: int | None = None
    field: str = ""
    retry_after_ms: int | None = None
    leader: str = ""
    """host:port to ask instead, where known."""


class CallFailed(Exception):
    """Raised where a whole call has no answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def number_of(code: grpc.StatusCode) -> int:
    """Return the wire number of a gRPC status code."""
    number: int = code.value[0]
    return number


CODES: Final = {number_of(code): code for code in grpc.StatusCode}
INVALID_ARGUMENT: Final = number_of(grpc.StatusCode.INVALID_ARGUMENT)
DEADLINE_EXCEEDED: Final = number_of(grpc.StatusCode.DEADLINE_EXCEEDED)
NOT_FOUND: Final = number_of(grpc.StatusCode.NOT_FOUND)
RESOURCE_EXHAUSTED: Final = number_of(grpc.StatusCode.RESOURCE_EXHAUSTED)
FAILED_PRECONDITION: Final = number_of(grpc.StatusCode.FAILED_PRECONDITION)
ABORTED: Final = number_of(grpc.StatusCode.ABORTED)
UNAVAILABLE: Final = number_of(grpc.StatusCode.UNAVAILABLE)


def invalid(reason: str, message: str, *, field: str = "", item: int | None = None) -> Fault:
    """Return the fault of a request that can never succeed as it is."""
    return Fault(INVALID_ARGUMENT, reason, message, field=field, item=item)


def overloaded(message: str, *, reason: Reason = Reason.OVERLOADED) -> Fault:
    """Return the fault of a request that was not admitted: nothing of it was logged."""
    return Fault(RESOURCE_EXHAUSTED, reason, message, retry_after_ms=PUSHBACK_OVERLOADED_MS)


def unavailable(reason: Reason, message: str, *, logged: Logged = Logged.NO, leader: str = "") -> Fault:
    """Return the fault of a request that another replica, or the same one a little later, may serve."""
    return Fault(UNAVAILABLE, reason, message, logged, retry_after_ms=PUSHBACK_NO_LEADER_MS, leader=leader)


def not_measured(message: str) -> Fault:
    """Return a FAILED_PRECONDITION about what this process was told not to measure."""
    return Fault(FAILED_PRECONDITION, Reason.HEAT_NOT_MEASURED, message)


def refused(reason: Reason, message: str) -> Fault:
    """Return a FAILED_PRECONDITION: the state of what was named does not allow it."""
    return Fault(FAILED_PRECONDITION, reason, message)


def stale_placement(message: str) -> Fault:
    """Return the fault of what was placed by an old epoch: nothing of it was logged."""
    return Fault(ABORTED, Reason.PLACEMENT_STALE, message, retry_after_ms=0)


def fate_unknown(message: str) -> Fault:
    """Return the fault of a request that may be in the log: the same ids, asked again, get its one outcome."""
    return unavailable(Reason.FATE_UNKNOWN, message, logged=Logged.UNKNOWN)


def deadline_passed(message: str, *, logged: Logged = Logged.NO) -> Fault:
    """Return the fault of a request whose deadline passed before it could be served."""
    return Fault(DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED, message, logged)


def status_of(fault: Fault) -> Status:
    """Translate a fault for the wire."""
    info = ErrorInfo(reason=fault.reason, domain=DOMAIN, metadata=_metadata(fault))
    status = Status(code=fault.code, message=fault.message, details=[_packed(info)])
    if fault.retry_after_ms is not None:
        delay = Duration()
        delay.FromNanoseconds(fault.retry_after_ms * MILLISECOND_NS)
        status.details.append(_packed(RetryInfo(retry_delay=delay)))
    return status


def fault_of(status: Status) -> Fault | None:
    """Translate back a status of ours; None if it has not our ErrorInfo."""
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return _from_info(status, info)
    return None


def fault_of_error(error: grpc.aio.AioRpcError) -> Fault | None:
    """Return the fault that a failed call carries; None if the status is not ours: then the fate is unknown."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return fault_of(Status.FromString(value))
    return None


def trailing_metadata(fault: Fault) -> tuple[tuple[str, str | bytes], ...]:
    """Return what goes with the status of a failed call: its details, and gRPC's pushback where a retry can help."""
    details = (DETAILS_KEY, status_of(fault).SerializeToString())
    if fault.retry_after_ms is None:
        return (details,)
    return (details, (PUSHBACK_KEY, str(fault.retry_after_ms)))


async def abort(context: "grpc.aio.ServicerContext[bytes, bytes]", fault: Fault) -> None:
    """Fail a call with this fault; does not return."""
    await context.abort(CODES[fault.code], fault.message, trailing_metadata(fault))


def at_item(fault: Fault, item: int) -> Fault:
    """Return the same fault for the item of that index."""
    return fault._replace(item=item)


def _metadata(fault: Fault) -> dict[str, str]:
    metadata = {"logged": str(fault.logged)}
    if fault.item is not None:
        metadata["item"] = str(fault.item)
    if fault.field:
        metadata["field"] = fault.field
    if fault.leader:
        metadata["leader"] = fault.leader
    return metadata


def _packed(message: ErrorInfo | RetryInfo) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _from_info(status: Status, info: ErrorInfo) -> Fault:
    item = info.metadata.get("item", "")
    return Fault(
        status.code,
        info.reason,
        status.message,
        Logged.NO if info.metadata.get("logged") == Logged.NO else Logged.UNKNOWN,
        int(item) if item.isdecimal() else None,
        info.metadata.get("field", ""),
        _retry_after_ms(status),
        info.metadata.get("leader", ""),
    )


def _retry_after_ms(status: Status) -> int | None:
    for detail in status.details:
        retry = RetryInfo()
        if detail.Unpack(retry):
            return int(retry.retry_delay.ToNanoseconds()) // MILLISECOND_NS
    return None
