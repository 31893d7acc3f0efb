"""Reads and account commands through the router: placed by account, or asked of all groups where ids do not place."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from engine.config import LimitsConfig
from engine.core.outcomes import Outcome
from engine.core.split.buckets import side_of
from engine.rpc import faults
from engine.rpc.faults import CallFailed, Fault, Reason
from engine.rpc.link_frames import Metadata
from postingengine.v1 import account_pb2, posting_service_pb2, transfer_pb2
from postingengine.v1.types_pb2 import Consistency
from router.calls import Handler, ServerContext, caller_of, deadline_of
from router.directory import Directory
from router.placement import Placement
from router.split.buckets import Buckets
from router.split.map import SplitMap
from router.split.reading import Ask, SplitReading
from router.split.updates import SplitUpdates

SERVICE: Final = "/postingengine.v1.PostingService/"
REQUEST_ITEMS_MAX: Final = 8190

M = TypeVar("M", bound=Message)


class Reading:
    """Everything of PostingService but posting."""

    def __init__(self, directory: Directory, limits: LimitsConfig, buckets: Buckets) -> None:
        """Ask the groups of `directory`."""
        self._directory, self._limits, self._buckets = directory, limits, buckets
        self._updates = SplitUpdates(directory, buckets)
        self._split = SplitReading(buckets, lambda: sorted(directory.clients))

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by rpc name."""
        return {
            "CreateAccounts": self.create_accounts,
            "UpdateAccounts": self.update_accounts,
            "GetAccounts": self.get_accounts,
            "GetTransfers": self.get_transfers,
            "ListEntries": self.list_entries,
            "GetBalanceAt": self.get_balance_at,
            "ListLedgers": self.list_ledgers,
        }

    async def create_accounts(self, request: bytes, context: ServerContext) -> bytes:
        """Create each account in its group."""
        whole = _parsed(posting_service_pb2.CreateAccountsRequest, request)
        answer = posting_service_pb2.CreateAccountsResponse()

        def part(items: Sequence[int]) -> posting_service_pb2.CreateAccountsRequest:
            accounts = [whole.accounts[item] for item in items]
            return posting_service_pb2.CreateAccountsRequest(accounts=accounts, attempt=whole.attempt)

        ids = [one.id for one in whole.accounts]
        found = await self._ask("CreateAccounts", ids, part, posting_service_pb2.CreateAccountsResponse, context)
        answer.results.extend(_account_results(answer, len(ids), found))
        return answer.SerializeToString()

    async def update_accounts(self, request: bytes, context: ServerContext) -> bytes:
        """Update each account in its group; of split ones the other buckets, too."""
        whole = _parsed(posting_service_pb2.UpdateAccountsRequest, request)
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        kept_back = await self._updates.before(whole.updates, deadline_s)
        sent = [item for item in range(len(whole.updates)) if item not in kept_back]

        def part(items: Sequence[int]) -> posting_service_pb2.UpdateAccountsRequest:
            updates = [whole.updates[sent[item]] for item in items]
            return posting_service_pb2.UpdateAccountsRequest(updates=updates, attempt=whole.attempt)

        answer = posting_service_pb2.UpdateAccountsResponse()
        results = [account_pb2.AccountResult()] * len(whole.updates)
        if sent or not kept_back:
            ids = [whole.updates[item].account for item in sent]
            found = await self._ask("UpdateAccounts", ids, part, posting_service_pb2.UpdateAccountsResponse, context)
            for at, one in enumerate(_account_results(answer, len(ids), found)):
                results[sent[at]] = _at_item(one, sent[at])
        failed = await self._updates.after(whole.updates, results, deadline_s) | kept_back
        for item, fault in failed.items():
            results[item] = account_pb2.AccountResult(fault=faults.status_of(faults.at_item(fault, item)))
        answer.results.extend(results)
        return answer.SerializeToString()

    async def get_accounts(self, request: bytes, context: ServerContext) -> bytes:
        """Read each account in its group."""
        whole = _parsed(posting_service_pb2.GetAccountsRequest, request)

        def part(items: Sequence[int]) -> posting_service_pb2.GetAccountsRequest:
            chosen = [whole.ids[item] for item in items]
            return posting_service_pb2.GetAccountsRequest(ids=chosen, consistency=whole.consistency)

        found = await self._ask("GetAccounts", whole.ids, part, posting_service_pb2.GetAccountsResponse, context)
        answers: list[account_pb2.AccountAnswer] = [account_pb2.AccountAnswer()] * len(whole.ids)
        for items, one in found:
            for number, item in enumerate(items):
                if isinstance(one, Fault):
                    answers[item] = account_pb2.AccountAnswer(fault=faults.status_of(faults.at_item(one, item)))
                else:
                    answers[item] = one.accounts[number]
        await self._sum_up(whole, answers, context)
        return posting_service_pb2.GetAccountsResponse(accounts=answers).SerializeToString()

    async def _sum_up(
        self,
        whole: posting_service_pb2.GetAccountsRequest,
        answers: list[account_pb2.AccountAnswer],
        context: ServerContext,
    ) -> None:
        """Replace the answers of accounts that were split: their homes know one bucket only."""
        ask, deadline_s = self._asker(context), deadline_of(context, self._limits.read_deadline_ms_default)
        split = [item for item, one in enumerate(answers) if account_pb2.ACCOUNT_FLAG_BUCKET in one.state.account.flags]
        found = await asyncio.gather(
            *(self._split.account(whole.ids[item], whole, ask, deadline_s) for item in split), return_exceptions=True
        )
        for item, one in zip(split, found, strict=True):
            if isinstance(one, CallFailed):
                answers[item] = account_pb2.AccountAnswer(fault=faults.status_of(faults.at_item(one.fault, item)))
            elif isinstance(one, BaseException):
                raise one
            else:
                answers[item] = one

    async def get_transfers(self, request: bytes, context: ServerContext) -> bytes:
        """Ask every group: a transfer's id does not place it. A stored answer beats a missing one."""
        whole = _parsed(posting_service_pb2.GetTransfersRequest, request)
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        placement = self._directory.placement
        groups = placement.groups
        found = await asyncio.gather(
            *(self._send("GetTransfers", group, request, deadline_s, caller_of(context)) for group in groups),
            return_exceptions=True,
        )
        failed = [one.fault for one in found if isinstance(one, CallFailed)]
        answers = [posting_service_pb2.GetTransfersResponse.FromString(one) for one in found if isinstance(one, bytes)]
        if not answers:
            raise CallFailed(failed[0])
        joined = posting_service_pb2.GetTransfersResponse(read_at=[point for one in answers for point in one.read_at])
        for item in range(len(whole.ids)):
            found_of_item = [one.transfers[item] for one in answers]
            joined.transfers.append(best_answer(found_of_item, failed, item, placement, self._buckets.map))
        return joined.SerializeToString()

    async def list_entries(self, request: bytes, context: ServerContext) -> bytes:
        """Ask the account's group."""
        whole = _parsed(posting_service_pb2.ListEntriesRequest, request)
        if await self._is_split(whole.account, context):
            return (await self._split.entries(whole, self._asker(context))).SerializeToString()
        return await self._ask_one("ListEntries", whole.account, request, context)

    async def get_balance_at(self, request: bytes, context: ServerContext) -> bytes:
        """Ask the account's group."""
        whole = _parsed(posting_service_pb2.GetBalanceAtRequest, request)
        if await self._is_split(whole.account, context):
            return (await self._split.balance_at(whole, self._asker(context))).SerializeToString()
        return await self._ask_one("GetBalanceAt", whole.account, request, context)

    async def list_ledgers(self, request: bytes, context: ServerContext) -> bytes:
        """Ask the first group: every group logs the same settings."""
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        group = self._directory.placement.groups[0]
        return await self._send("ListLedgers", group, request, deadline_s, caller_of(context))

    async def _is_split(self, account: bytes, context: ServerContext) -> bool:
        """Whether an account was ever split: its home says so, for this router's map may be a moment old."""
        if self._directory.placement.single is not None or self._split.is_split(account):
            return self._split.is_split(account)
        stale = Consistency(stale=Consistency.Stale())
        request = posting_service_pb2.GetAccountsRequest(ids=[account], consistency=stale)
        group = int(self._directory.placement.groups_of_ids([account])[0])
        try:
            found = await self._asker(context)("GetAccounts", group, request, posting_service_pb2.GetAccountsResponse)
        except CallFailed as failed:
            if failed.fault.code == faults.INVALID_ARGUMENT:
                return False
            raise
        return account_pb2.ACCOUNT_FLAG_BUCKET in found.accounts[0].state.account.flags

    def _asker(self, context: ServerContext) -> Ask:
        """Return what asks one group on behalf of this caller."""
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)

        async def ask(rpc: str, group: int, request: Message, answer: type[Any]) -> Any:
            sent = await self._send(rpc, group, request.SerializeToString(), deadline_s, caller_of(context))
            return answer.FromString(sent)

        return ask

    async def _ask_one(self, rpc: str, account: bytes, request: bytes, context: ServerContext) -> bytes:
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        group = int(self._directory.placement.groups_of_ids([account])[0])
        return await self._send(rpc, group, request, deadline_s, caller_of(context))

    async def _ask(
        self,
        rpc: str,
        ids: Sequence[bytes],
        part: Callable[[Sequence[int]], Message],
        answer: type[M],
        context: ServerContext,
    ) -> list[tuple[list[int], M | Fault]]:
        """Send each group its items; per group: the items' indices, and its answer or the fault it failed with."""
        if len(ids) > REQUEST_ITEMS_MAX:
            message = f"{len(ids)} items in one call are more than {REQUEST_ITEMS_MAX}; send several calls"
            raise CallFailed(faults.invalid(Reason.BATCH_TOO_LARGE, message))
        deadline_s = deadline_of(context, self._limits.read_deadline_ms_default)
        groups = self._directory.placement.groups_of_ids(ids)
        chosen = [(group, (groups == group).nonzero()[0].tolist()) for group in sorted(set(groups.tolist()))]
        chosen = chosen or [(self._directory.placement.groups[0], [])]
        sent = [
            self._sent(rpc, group, part(items).SerializeToString(), answer, deadline_s, caller_of(context))
            for group, items in chosen
        ]
        answers = await asyncio.gather(*sent)
        if len(answers) == 1 and isinstance(answers[0], Fault):
            raise CallFailed(answers[0])
        return [(items, one) for (_, items), one in zip(chosen, answers, strict=True)]

    async def _sent(
        self, rpc: str, group: int, request: bytes, answer: type[M], deadline_s: float, caller: Metadata
    ) -> M | Fault:
        try:
            return answer.FromString(await self._send(rpc, group, request, deadline_s, caller))
        except CallFailed as failed:
            return failed.fault

    async def _send(self, rpc: str, group: int, request: bytes, deadline_s: float, caller: Metadata) -> bytes:
        return await self._directory.client(group).call(SERVICE + rpc, request, deadline_s, caller)


def _parsed(kind: type[M], request: bytes) -> M:
    try:
        return kind.FromString(request)
    except DecodeError as error:
        message = "the request is not a readable protobuf message of this call"
        raise CallFailed(faults.invalid(Reason.BATCH_UNREADABLE, message)) from error


def _account_results(
    answer: posting_service_pb2.CreateAccountsResponse | posting_service_pb2.UpdateAccountsResponse,
    count: int,
    found: Sequence[tuple[list[int], Any]],
) -> list[account_pb2.AccountResult]:
    """Put the groups' results into the order of the items; notes the log indexes in `answer`."""
    results: list[account_pb2.AccountResult] = [account_pb2.AccountResult()] * count
    for items, one in found:
        if not isinstance(one, Fault):
            answer.log_indexes.extend(one.log_indexes)
        for number, item in enumerate(items):
            results[item] = _account_result(one, number, item)
    return results


def _account_result(one: Any, number: int, item: int) -> account_pb2.AccountResult:
    if isinstance(one, Fault):
        return account_pb2.AccountResult(fault=faults.status_of(faults.at_item(one, item)))
    result: account_pb2.AccountResult = one.results[number]
    return _at_item(result, item)


def _at_item(result: account_pb2.AccountResult, item: int) -> account_pb2.AccountResult:
    """Return the same result for the item of that index."""
    fault = faults.fault_of(result.fault) if result.WhichOneof("answer") == "fault" else None
    if fault is None:
        return result
    return account_pb2.AccountResult(fault=faults.status_of(faults.at_item(fault, item)))


def best_answer(
    answers: Sequence[posting_service_pb2.TransferAnswer],
    failed: Sequence[Fault],
    item: int,
    placement: Placement,
    splits: SplitMap = SplitMap(),  # noqa: B008 - never changes
) -> posting_service_pb2.TransferAnswer:
    """Prefer what is stored, and of a transfer over two groups what its decider says, of one with a split account the
    group that it runs in; while a group is out of reach, "not found" elsewhere proves nothing."""
    stored = [one for one in answers if one.WhichOneof("answer") == "stored"]
    if not stored:
        fault = faults.status_of(faults.at_item(failed[0], item)) if failed else None
        return posting_service_pb2.TransferAnswer(fault=fault) if fault is not None else answers[0]
    posted = [one for one in stored if int(one.stored.outcome) == Outcome.POSTED]
    refused = [one for one in stored if int(one.stored.outcome) not in (Outcome.POSTED, Outcome.SECURED)]
    if posted:
        return posted[0]
    transfer = stored[0].stored.transfer
    debit, credit = placement.groups_of_ids([transfer.debit_account, transfer.credit_account]).tolist()
    route = side_of(splits.placed(transfer.debit_account, debit), splits.placed(transfer.credit_account, credit))
    deciders = {credit, route.credit}
    told = [one for one in refused if one.stored.group in deciders]
    if told or (refused and debit == credit):
        return (told or refused)[0]
    return _open(stored[0])


def _open(one: posting_service_pb2.TransferAnswer) -> posting_service_pb2.TransferAnswer:
    """Secured or refused in a group that does not decide: its outcome is not known yet."""
    answer = posting_service_pb2.TransferAnswer()
    answer.CopyFrom(one)
    answer.stored.ClearField("outcome")
    answer.stored.ClearField("moved")
    answer.stored.chain_state = transfer_pb2.CHAIN_STATE_OPEN
    return answer
