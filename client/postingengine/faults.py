"""Faults: why there is no outcome. Refusals are no faults: they are outcomes, and values (DESIGN §4).

A fault's `outcome_unknown` is what a caller must know: False, and nothing was logged, so that the id may still be used
for anything; True, and the same request must be asked again with the same id, for ever if need be: it has one outcome.
"""

from typing import Final, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN: Final = "postingengine"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
UNKNOWN: Final = grpc.StatusCode.UNKNOWN

HOPELESS: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Asking again cannot help, whoever says so."""
TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
"""Asking again may help."""


class Fault(Exception):
    """No outcome. The subclasses say what to do; every attribute is as the engine told it, where it did."""

    def __init__(self, told: "Told", *, outcome_unknown: bool, attempts: int = 1) -> None:
        super().__init__(told.message)
        self.told = told
        self.code = told.code
        """The gRPC status code."""
        self.reason = told.reason
        """ErrorInfo's reason in UPPER_SNAKE_CASE; empty if the status is not the engine's."""
        self.item = told.item
        """The index of the item in its batch."""
        self.field = told.field
        """The name of the field that is at fault."""
        self.outcome_unknown = outcome_unknown
        """Whether the request may have taken effect, or still may: ask again with the same id."""
        self.attempts = attempts
        """How often it was tried."""

    def __str__(self) -> str:
        """Say where it happened and what, and, where the outcome is unknown, what to do."""
        item = "" if self.item is None else f"item {self.item}"
        place = f"{item}, {self.field}" if item and self.field else item or self.field
        tail = "; the outcome is unknown: ask again with the same id" if self.outcome_unknown else ""
        return f"{place and place + ': '}{self.told.message or self.code.name}{tail}"


class InvalidRequest(Fault):
    """The request can never succeed as it is; nothing was logged."""


class InvalidItem(InvalidRequest):
    """This item, or its chain, can never succeed as it is: `field` says why; nothing was logged, no id is burned."""


class NotAllowed(Fault):
    """Not authenticated, or lacking the role or the ledger."""


class NotFound(Fault):
    """What was to be read does not exist."""


class NotAdmitted(Fault):
    """The engine is overloaded, or this client's own queue is full, until the deadline; nothing was logged."""


class Unavailable(Fault):
    """No server could serve the request until the deadline."""


class DeadlineExceeded(Fault):
    """The deadline passed."""


class Told(NamedTuple):
    """What one status says."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    logged: str = ""
    """"no" or "unknown"; empty if the status is not the engine's."""
    item: int | None = None
    field: str = ""
    retry_after_s: float | None = None

    @property
    def may_be_logged(self) -> bool:
        """Whether the request may be in the log; only the engine's own word denies it."""
        return self.logged != "no"

    @property
    def is_transient(self) -> bool:
        """Whether to ask again."""
        if self.code in HOPELESS:
            return False
        return self.code in TRANSIENT or not self.reason or self.retry_after_s is not None


_CLASSES: Final[dict[grpc.StatusCode, type[Fault]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: NotAdmitted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def fault_of(told: Told, *, outcome_unknown: bool, attempts: int = 1) -> Fault:
    """Return the exception for what was told, a new one each time: it collects a traceback of its own."""
    kind = _CLASSES.get(told.code, Fault)
    if kind is InvalidRequest and told.item is not None:
        kind = InvalidItem
    if kind is NotAdmitted and outcome_unknown:
        kind = Unavailable  # an attempt before it may have been logged
    return kind(told, outcome_unknown=outcome_unknown, attempts=attempts)


def told_by(status: Status) -> Told:
    """Read a status."""
    info, retry_after_s = ErrorInfo(), None
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(RetryInfo.DESCRIPTOR):
            retry_after_s = _seconds(detail.value)
    code = CODES.get(status.code, UNKNOWN)
    if info.domain != DOMAIN:
        return Told(code, status.message, retry_after_s=retry_after_s)
    item = info.metadata.get("item", "")
    return Told(
        code,
        status.message,
        info.reason,
        info.metadata.get("logged", "unknown"),
        int(item) if item.isdecimal() else None,
        info.metadata.get("field", ""),
        retry_after_s,
    )


def told_by_error(error: grpc.aio.AioRpcError) -> Told:
    """Read the status of a failed call: its details, else what gRPC itself says."""
    metadata = dict(error.trailing_metadata() or ())
    details = metadata.get(DETAILS_KEY)
    told = Told(error.code(), error.details() or "")
    if isinstance(details, bytes):
        told = told_by(Status.FromString(details))
    pushback = metadata.get(PUSHBACK_KEY)
    if isinstance(pushback, str) and pushback.isdecimal():
        told = told._replace(retry_after_s=int(pushback) / 1000)
    return told


def _seconds(packed_retry_info: bytes) -> float:
    delay: Duration = RetryInfo.FromString(packed_retry_info).retry_delay
    return max(0.0, delay.seconds + delay.nanos / 1e9)
