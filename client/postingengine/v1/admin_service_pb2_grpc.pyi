# Generated from the contract by proto/contract.py: do not edit.
from collections.abc import AsyncIterator, Awaitable
from typing import overload, type_check_only

import grpc
import grpc.aio

from postingengine.v1 import admin_service_pb2 as messages

class AdminServiceStub:
    @overload  # type: ignore[misc]
    def __new__(cls, channel: grpc.Channel) -> AdminServiceStub: ...
    @overload
    def __new__(cls, channel: grpc.aio.Channel) -> AdminServiceAsyncStub: ...
    DescribeCluster: grpc.UnaryUnaryMultiCallable[messages.DescribeClusterRequest, messages.DescribeClusterResponse]
    ListOpen: grpc.UnaryUnaryMultiCallable[messages.ListOpenRequest, messages.ListOpenResponse]
    Audit: grpc.UnaryUnaryMultiCallable[messages.AuditRequest, messages.AuditResponse]
    ReportHeat: grpc.UnaryUnaryMultiCallable[messages.ReportHeatRequest, messages.ReportHeatResponse]
    SplitAccount: grpc.UnaryUnaryMultiCallable[messages.SplitAccountRequest, messages.SplitAccountResponse]
    MergeAccount: grpc.UnaryUnaryMultiCallable[messages.MergeAccountRequest, messages.MergeAccountResponse]
    TransferLeadership: grpc.UnaryUnaryMultiCallable[messages.TransferLeadershipRequest, messages.TransferLeadershipResponse]

@type_check_only
class AdminServiceAsyncStub:
    DescribeCluster: grpc.aio.UnaryUnaryMultiCallable[messages.DescribeClusterRequest, messages.DescribeClusterResponse]
    ListOpen: grpc.aio.UnaryUnaryMultiCallable[messages.ListOpenRequest, messages.ListOpenResponse]
    Audit: grpc.aio.UnaryUnaryMultiCallable[messages.AuditRequest, messages.AuditResponse]
    ReportHeat: grpc.aio.UnaryUnaryMultiCallable[messages.ReportHeatRequest, messages.ReportHeatResponse]
    SplitAccount: grpc.aio.UnaryUnaryMultiCallable[messages.SplitAccountRequest, messages.SplitAccountResponse]
    MergeAccount: grpc.aio.UnaryUnaryMultiCallable[messages.MergeAccountRequest, messages.MergeAccountResponse]
    TransferLeadership: grpc.aio.UnaryUnaryMultiCallable[messages.TransferLeadershipRequest, messages.TransferLeadershipResponse]

class AdminServiceServicer:
    def DescribeCluster(
        self, request: messages.DescribeClusterRequest, context: grpc.aio.ServicerContext[messages.DescribeClusterRequest, messages.DescribeClusterResponse]
    ) -> Awaitable[messages.DescribeClusterResponse]: ...
    def ListOpen(
        self, request: messages.ListOpenRequest, context: grpc.aio.ServicerContext[messages.ListOpenRequest, messages.ListOpenResponse]
    ) -> Awaitable[messages.ListOpenResponse]: ...
    def Audit(
        self, request: messages.AuditRequest, context: grpc.aio.ServicerContext[messages.AuditRequest, messages.AuditResponse]
    ) -> Awaitable[messages.AuditResponse]: ...
    def ReportHeat(
        self, request: messages.ReportHeatRequest, context: grpc.aio.ServicerContext[messages.ReportHeatRequest, messages.ReportHeatResponse]
    ) -> Awaitable[messages.ReportHeatResponse]: ...
    def SplitAccount(
        self, request: messages.SplitAccountRequest, context: grpc.aio.ServicerContext[messages.SplitAccountRequest, messages.SplitAccountResponse]
    ) -> Awaitable[messages.SplitAccountResponse]: ...
    def MergeAccount(
        self, request: messages.MergeAccountRequest, context: grpc.aio.ServicerContext[messages.MergeAccountRequest, messages.MergeAccountResponse]
    ) -> Awaitable[messages.MergeAccountResponse]: ...
    def TransferLeadership(
        self, request: messages.TransferLeadershipRequest, context: grpc.aio.ServicerContext[messages.TransferLeadershipRequest, messages.TransferLeadershipResponse]
    ) -> Awaitable[messages.TransferLeadershipResponse]: ...

def add_AdminServiceServicer_to_server(
    servicer: AdminServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None: ...
