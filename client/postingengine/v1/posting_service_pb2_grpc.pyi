# Generated from the contract by proto/contract.py: do not edit.
from collections.abc import AsyncIterator, Awaitable
from typing import overload, type_check_only

import grpc
import grpc.aio

from postingengine.v1 import posting_service_pb2 as messages

class PostingServiceStub:
    @overload  # type: ignore[misc]
    def __new__(cls, channel: grpc.Channel) -> PostingServiceStub: ...
    @overload
    def __new__(cls, channel: grpc.aio.Channel) -> PostingServiceAsyncStub: ...
    CreateAccounts: grpc.UnaryUnaryMultiCallable[messages.CreateAccountsRequest, messages.CreateAccountsResponse]
    UpdateAccounts: grpc.UnaryUnaryMultiCallable[messages.UpdateAccountsRequest, messages.UpdateAccountsResponse]
    PostTransfers: grpc.UnaryUnaryMultiCallable[messages.PostTransfersRequest, messages.PostTransfersResponse]
    StreamTransfers: grpc.StreamStreamMultiCallable[messages.StreamTransfersRequest, messages.StreamTransfersResponse]
    GetAccounts: grpc.UnaryUnaryMultiCallable[messages.GetAccountsRequest, messages.GetAccountsResponse]
    GetTransfers: grpc.UnaryUnaryMultiCallable[messages.GetTransfersRequest, messages.GetTransfersResponse]
    ListEntries: grpc.UnaryUnaryMultiCallable[messages.ListEntriesRequest, messages.ListEntriesResponse]
    GetBalanceAt: grpc.UnaryUnaryMultiCallable[messages.GetBalanceAtRequest, messages.GetBalanceAtResponse]
    ListLedgers: grpc.UnaryUnaryMultiCallable[messages.ListLedgersRequest, messages.ListLedgersResponse]

@type_check_only
class PostingServiceAsyncStub:
    CreateAccounts: grpc.aio.UnaryUnaryMultiCallable[messages.CreateAccountsRequest, messages.CreateAccountsResponse]
    UpdateAccounts: grpc.aio.UnaryUnaryMultiCallable[messages.UpdateAccountsRequest, messages.UpdateAccountsResponse]
    PostTransfers: grpc.aio.UnaryUnaryMultiCallable[messages.PostTransfersRequest, messages.PostTransfersResponse]
    StreamTransfers: grpc.aio.StreamStreamMultiCallable[messages.StreamTransfersRequest, messages.StreamTransfersResponse]
    GetAccounts: grpc.aio.UnaryUnaryMultiCallable[messages.GetAccountsRequest, messages.GetAccountsResponse]
    GetTransfers: grpc.aio.UnaryUnaryMultiCallable[messages.GetTransfersRequest, messages.GetTransfersResponse]
    ListEntries: grpc.aio.UnaryUnaryMultiCallable[messages.ListEntriesRequest, messages.ListEntriesResponse]
    GetBalanceAt: grpc.aio.UnaryUnaryMultiCallable[messages.GetBalanceAtRequest, messages.GetBalanceAtResponse]
    ListLedgers: grpc.aio.UnaryUnaryMultiCallable[messages.ListLedgersRequest, messages.ListLedgersResponse]

class PostingServiceServicer:
    def CreateAccounts(
        self, request: messages.CreateAccountsRequest, context: grpc.aio.ServicerContext[messages.CreateAccountsRequest, messages.CreateAccountsResponse]
    ) -> Awaitable[messages.CreateAccountsResponse]: ...
    def UpdateAccounts(
        self, request: messages.UpdateAccountsRequest, context: grpc.aio.ServicerContext[messages.UpdateAccountsRequest, messages.UpdateAccountsResponse]
    ) -> Awaitable[messages.UpdateAccountsResponse]: ...
    def PostTransfers(
        self, request: messages.PostTransfersRequest, context: grpc.aio.ServicerContext[messages.PostTransfersRequest, messages.PostTransfersResponse]
    ) -> Awaitable[messages.PostTransfersResponse]: ...
    def StreamTransfers(
        self, request_iterator: AsyncIterator[messages.StreamTransfersRequest], context: grpc.aio.ServicerContext[messages.StreamTransfersRequest, messages.StreamTransfersResponse]
    ) -> AsyncIterator[messages.StreamTransfersResponse]: ...
    def GetAccounts(
        self, request: messages.GetAccountsRequest, context: grpc.aio.ServicerContext[messages.GetAccountsRequest, messages.GetAccountsResponse]
    ) -> Awaitable[messages.GetAccountsResponse]: ...
    def GetTransfers(
        self, request: messages.GetTransfersRequest, context: grpc.aio.ServicerContext[messages.GetTransfersRequest, messages.GetTransfersResponse]
    ) -> Awaitable[messages.GetTransfersResponse]: ...
    def ListEntries(
        self, request: messages.ListEntriesRequest, context: grpc.aio.ServicerContext[messages.ListEntriesRequest, messages.ListEntriesResponse]
    ) -> Awaitable[messages.ListEntriesResponse]: ...
    def GetBalanceAt(
        self, request: messages.GetBalanceAtRequest, context: grpc.aio.ServicerContext[messages.GetBalanceAtRequest, messages.GetBalanceAtResponse]
    ) -> Awaitable[messages.GetBalanceAtResponse]: ...
    def ListLedgers(
        self, request: messages.ListLedgersRequest, context: grpc.aio.ServicerContext[messages.ListLedgersRequest, messages.ListLedgersResponse]
    ) -> Awaitable[messages.ListLedgersResponse]: ...

def add_PostingServiceServicer_to_server(
    servicer: PostingServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None: ...
