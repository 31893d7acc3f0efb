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
    MakeBuckets: grpc.UnaryUnaryMultiCallable[messages.MakeBucketsRequest, messages.MakeBucketsResponse]
    ReadBuckets: grpc.UnaryUnaryMultiCallable[messages.ReadBucketsRequest, messages.ReadBucketsResponse]

@type_check_only
class PeerServiceAsyncStub:
    Step: grpc.aio.UnaryUnaryMultiCallable[messages.StepRequest, messages.StepResponse]
    MakeBuckets: grpc.aio.UnaryUnaryMultiCallable[messages.MakeBucketsRequest, messages.MakeBucketsResponse]
    ReadBuckets: grpc.aio.UnaryUnaryMultiCallable[messages.ReadBucketsRequest, messages.ReadBucketsResponse]

class PeerServiceServicer:
    def Step(
        self, request: messages.StepRequest, context: grpc.aio.ServicerContext[messages.StepRequest, messages.StepResponse]
    ) -> Awaitable[messages.StepResponse]: ...
    def MakeBuckets(
        self, request: messages.MakeBucketsRequest, context: grpc.aio.ServicerContext[messages.MakeBucketsRequest, messages.MakeBucketsResponse]
    ) -> Awaitable[messages.MakeBucketsResponse]: ...
    def ReadBuckets(
        self, request: messages.ReadBucketsRequest, context: grpc.aio.ServicerContext[messages.ReadBucketsRequest, messages.ReadBucketsResponse]
    ) -> Awaitable[messages.ReadBucketsResponse]: ...

def add_PeerServiceServicer_to_server(
    servicer: PeerServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None: ...
