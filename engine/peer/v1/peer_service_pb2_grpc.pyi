# Generated from the contract by proto/contract.py: do not edit.
from collections.abc import AsyncIterator, Awaitable
from typing import overload, type_check_only

import grpc
import grpc.aio

from engine.peer.v1 import peer_service_pb2 as messages

class PeerServiceStub:
    @overload  # type: ignore[misc]
    def __new__(cls, channel: grpc.Channel) -> PeerServiceStub: ...
    @overload
    def __new__(cls, channel: grpc.aio.Channel) -> PeerServiceAsyncStub: ...
    Step: grpc.UnaryUnaryMultiCallable[messages.StepRequest, messages.StepResponse]

@type_check_only
class PeerServiceAsyncStub:
    Step: grpc.aio.UnaryUnaryMultiCallable[messages.StepRequest, messages.StepResponse]

class PeerServiceServicer:
    def Step(
        self, request: messages.StepRequest, context: grpc.aio.ServicerContext[messages.StepRequest, messages.StepResponse]
    ) -> Awaitable[messages.StepResponse]: ...

def add_PeerServiceServicer_to_server(
    servicer: PeerServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None: ...
