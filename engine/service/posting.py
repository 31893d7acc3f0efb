"""PostingService of a node: translate, submit, translate (STYLE 9)."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from engine.core.records import Words
from engine.rpc.answers import account_results, log_indexes, post_response
from engine.rpc.batch import attempt_of, read_batch, require_count
from engine.rpc.checks import refuse_commands
from engine.rpc.faults import Fault
from engine.rpc.ledgers import list_ledgers
from engine.rpc.server import Context, deadline_s
from engine.rpc.streams import NumberedBatch, Streams
from engine.rpc.typed import words_of_accounts, words_of_updates
from engine.service import accounts, transfers
from engine.service.buckets import missing_buckets
from engine.service.callers import address_of, identity_of, require_placement, sender_of
from engine.service.posts import by_item, item_of, post
from engine.service.replica import Replica
from engine.service.statements import Statements
from engine.service.submission import Caller, Lane
from postingengine.v1.account_pb2 import AccountResult
from postingengine.v1.posting_service_pb2 import (
    CreateAccountsRequest,
    CreateAccountsResponse,
    GetAccountsRequest,
    GetAccountsResponse,
    GetBalanceAtRequest,
    GetBalanceAtResponse,
    GetTransfersRequest,
    GetTransfersResponse,
    ListEntriesRequest,
    ListEntriesResponse,
    ListLedgersRequest,
    ListLedgersResponse,
    UpdateAccountsRequest,
    UpdateAccountsResponse,
)
from postingengine.v1.types_pb2 import GroupLogIndex

RAW_METHODS: Final = frozenset({"PostTransfers"})


class PostingServicer:
    """Serves the accounts of one group."""

    def __init__(self, replica: Replica, statements: Statements, streams: Streams) -> None:
        self._replica, self._statements, self._streams = replica, statements, streams
        limits = replica.place.config.limits
        self._post_s, self._read_s = limits.post_deadline_ms_default / 1000, limits.read_deadline_ms_default / 1000

    def PostTransfers(self, data: bytes, context: Context) -> Awaitable[bytes]:  # noqa: N802 - the contract's name
        """Post one batch, bytes in and out."""
        return self._post_batch(data, context, deadline_s(context, self._post_s), None)

    async def StreamTransfers(self, context: Context) -> None:  # noqa: N802
        """Post batches in a pipeline. Those without a time of their own take the bulk lane, to stay in order."""

        async def post_one(numbered: NumberedBatch) -> bytes:
            until_s = deadline_s(context, self._post_s)
            if not numbered.timeout_ms:
                return await self._post_batch(numbered.batch, context, until_s, Lane.BULK)
            until_s = asyncio.get_running_loop().time() + numbered.timeout_ms / 1000
            return await self._post_batch(numbered.batch, context, until_s, None)

        await self._streams.serve(context, post_one)

    async def CreateAccounts(self, request: CreateAccountsRequest, context: Context) -> CreateAccountsResponse:  # noqa: N802
        """Create accounts through the log."""
        require_count(len(request.accounts), "accounts")
        results, indexes = await self._post_accounts(*words_of_accounts(request.accounts), request.attempt, context)
        return CreateAccountsResponse(results=results, log_indexes=indexes)

    async def UpdateAccounts(self, request: UpdateAccountsRequest, context: Context) -> UpdateAccountsResponse:  # noqa: N802
        """Update accounts through the log."""
        require_count(len(request.updates), "updates")
        results, indexes = await self._post_accounts(*words_of_updates(request.updates), request.attempt, context)
        return UpdateAccountsResponse(results=results, log_indexes=indexes)

    async def GetAccounts(self, request: GetAccountsRequest, context: Context) -> GetAccountsResponse:  # noqa: N802
        """Read accounts and balances from the book."""
        return await accounts.get_accounts(self._replica, request, deadline_s(context, self._read_s))

    async def GetTransfers(self, request: GetTransfersRequest, context: Context) -> GetTransfersResponse:  # noqa: N802
        """Read transfers from the journal."""
        return await transfers.get_transfers(self._replica, request, deadline_s(context, self._read_s))

    async def ListEntries(self, request: ListEntriesRequest, context: Context) -> ListEntriesResponse:  # noqa: N802
        """Read a statement from the views."""
        return await self._statements.list_entries(request, deadline_s(context, self._read_s))

    async def GetBalanceAt(self, request: GetBalanceAtRequest, context: Context) -> GetBalanceAtResponse:  # noqa: N802
        """Read a balance of the past from the views."""
        return await self._statements.balance_at(request, deadline_s(context, self._read_s))

    async def ListLedgers(self, request: ListLedgersRequest, context: Context) -> ListLedgersResponse:  # noqa: N802
        """Read the ledgers from the settings."""
        return list_ledgers(self._replica.settings(), request)

    async def _post_batch(self, data: bytes, context: Context, until_s: float, lane: Lane | None) -> bytes:
        sender = sender_of(context)
        require_placement(sender, self._replica)
        batch = read_batch(data)
        refuse_commands(batch.words)
        faults = batch.faults
        if sender.uses_directory:
            missing = missing_buckets(self._replica.machine.book, batch.words)
            faults = sorted({**by_item(missing), **by_item(faults)}.values(), key=item_of)
        caller = Caller(sender.identity or address_of(context), batch.attempt, lane)
        answered = await post(self._replica, batch.words, faults, caller, until_s)
        return post_response(answered, is_packed=batch.is_packed)

    async def _post_accounts(
        self, words: Words, faults: list[Fault], attempt: int, context: Context
    ) -> tuple[list[AccountResult], list[GroupLogIndex]]:
        require_placement(sender_of(context), self._replica)
        caller = Caller(identity_of(context), attempt_of(attempt))
        answered = await post(self._replica, words, faults, caller, deadline_s(context, self._post_s))
        return account_results(answered), log_indexes(answered.log_indexes)
