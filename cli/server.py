"""One connection from a command to a router or node: asks, asks again where that can help, and says what went wrong."""

import time
from functools import cached_property
from types import TracebackType
from typing import Final, NamedTuple, TypeVar

import grpc
from google.rpc.status_pb2 import Status

from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2_grpc import AdminServiceStub
from postingengine.v1.posting_service_pb2 import ListLedgersRequest
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub
from postingengine.v1.types_pb2 import Int128, Uint128

Request = TypeVar("Request")
Response = TypeVar("Response")

MESSAGE_BYTES_MAX: Final = 16 << 20
RETRY_PAUSE_S: Final = 0.1
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)
ASK_AGAIN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""Every request of ours gives the same outcome when it is asked again: ids make it so."""
NOT_ANSWERED: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class LedgerInfo(NamedTuple):
    """A ledger as the cluster has it."""

    number: int
    code: str
    scale: int


class Server:
    """A connection, used in a `with` statement. Every failure is an `EngineStopped` with one sentence."""

    def __init__(self, address: str, deadline_s: float) -> None:
        """Connect to host:port; each request gets `deadline_s` seconds, repetitions included."""
        self.address = address
        self.deadline_s = deadline_s
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.posting = PostingServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)

    def __enter__(self) -> "Server":
        """Use the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connection."""
        self._channel.close()

    def ask(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """Call a method; ask again within the deadline where a server says that this can help."""
        deadline = time.monotonic() + self.deadline_s
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001), wait_for_ready=True)
            except grpc.RpcError as error:
                status = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
                if status not in ASK_AGAIN or time.monotonic() + RETRY_PAUSE_S > deadline:
                    raise self._failure(error, status) from error
                time.sleep(RETRY_PAUSE_S)

    @cached_property
    def ledgers(self) -> dict[int, LedgerInfo]:
        """The cluster's ledgers by number."""
        ledgers: dict[int, LedgerInfo] = {}
        request = ListLedgersRequest()
        while True:
            page = self.ask(self.posting.ListLedgers, request)
            ledgers |= {one.ledger: LedgerInfo(one.ledger, one.code, one.scale) for one in page.ledgers}
            if not page.next_page_token:
                return ledgers
            request = ListLedgersRequest(page_token=page.next_page_token)

    def ledger(self, code_or_number: str) -> LedgerInfo:
        """Return the ledger of a code, or of a number; raises `EngineStopped` where there is none."""
        for one in self.ledgers.values():
            if code_or_number in (one.code, str(one.number)):
                return one
        known = ", ".join(one.code for one in self.ledgers.values())
        raise EngineStopped(ExitCode.USAGE, f"the cluster has no ledger {code_or_number}; it has {known}")

    def scale(self, ledger: int) -> int:
        """Return the decimal places of a ledger's unit; 0 where the ledger is not known (yet) at this server."""
        return self.ledgers[ledger].scale if ledger in self.ledgers else 0

    def code(self, ledger: int) -> str:
        """Return a ledger's code, or its number where it is not known."""
        return self.ledgers[ledger].code if ledger in self.ledgers else str(ledger)

    def _failure(self, error: grpc.RpcError, status: grpc.StatusCode) -> EngineStopped:
        words = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
        if status in NOT_ANSWERED:
            sentence = f"{self.address} gave no answer within {self.deadline_s:g} s ({words}); is the cluster up?"
            return EngineStopped(ExitCode.UNREACHABLE, sentence)
        return EngineStopped(ExitCode.REFUSED, f"{self.address} refused: {words} ({status.name})")


def fault_sentence(fault: Status) -> str:
    """Return what a fault says, with the name of its code."""
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return f"{fault.message} ({names.get(fault.code, fault.code)})"


def to_uint128(value: int) -> Uint128:
    """Split a number from 0 to 2^128 - 1."""
    return Uint128(low=value & ((1 << 64) - 1), high=value >> 64)


def from_uint128(value: Uint128) -> int:
    """Join a number from 0 to 2^128 - 1."""
    return value.low | value.high << 64


def from_int128(value: Int128) -> int:
    """Join a signed number from its two's complement."""
    joined = value.low | value.high << 64
    return joined - (1 << 128) if joined >> 127 else joined
