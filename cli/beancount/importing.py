"""The whole import: check the ledgers, create the accounts, post the transfers, check the assertions, report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from cli.beancount.assertions import Failed, Reader
from cli.beancount.plan import Plan, PlannedAccount, make_plan, needed_scales
from cli.beancount.posting import Pace, Poster, Progress, connect
from cli.beancount.settling import until_settled
from cli.beancount.source import Source
from cli.server import LedgerInfo
from engine.core.limits import BATCH_TRANSFERS_MAX
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.account_pb2 import Account
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import CreateAccountsRequest, ListLedgersRequest
from postingengine.v1.posting_service_pb2_grpc import PostingServiceStub

CALL_S_MAX: Final = 30.0


class Report(NamedTuple):
    """What an import did; `posting-engine import --json` prints it."""

    file: str
    transactions: int
    empty_transactions: int
    zero_postings_skipped: int
    accounts: int
    accounts_created: int
    transfers: int
    posted: int
    replayed: int
    refused: int
    refusals: list[tuple[str, str]]
    unknown_then_asked_again: int
    assertions: int
    assertions_failed: list[Failed]

    def require_clean(self) -> None:
        """Raise `EngineStopped` where a transfer was refused or an assertion does not hold."""
        if self.refused:
            transfer, outcome = self.refusals[0]
            words = f"{self.refused} transfers were refused, the first is {transfer}: {outcome}"
            raise EngineStopped(ExitCode.REFUSED, words)
        if self.assertions_failed:
            one = self.assertions_failed[0]
            words = f"line {one.line}: {one.account} has {one.found} {one.commodity}, not {one.expected}, on {one.date}"
            more = f", and {len(self.assertions_failed) - 1} other assertions fail" * (len(self.assertions_failed) > 1)
            raise EngineStopped(ExitCode.CHECK_FAILED, words + more)


class Import:
    """One import through one connection; `plan` is made once the cluster's ledgers are known."""

    def __init__(self, source: Source, path: Path, channel: grpc.aio.Channel, ledgers: Sequence[LedgerInfo]) -> None:
        """Plan the import; raises `EngineStopped` where the cluster's ledgers cannot hold it."""
        self.source = source
        self._path = path
        self._channel = channel
        self._ledgers = matching_ledgers(source, ledgers)
        self._scales = {code: one.scale for code, one in self._ledgers.items()}
        self.plan: Plan = make_plan(source, self._scales)
        self.reader = Reader(channel, self.plan.accounts, self._scales)

    async def run(self, pace: Pace, progress: Progress) -> Report:
        """Do it all; raises `EngineStopped` where the cluster does not answer. Look at the report for refusals."""
        numbers = {code: one.number for code, one in self._ledgers.items()}
        created = await self._create_accounts(self.plan.accounts, numbers)
        tally = await Poster(self._channel, numbers, pace, progress).post(self.plan.chains)
        await until_settled(self._channel)
        return Report(
            file=str(self._path),
            transactions=self.plan.transactions,
            empty_transactions=self.plan.empty_transactions,
            zero_postings_skipped=self.plan.zero_postings,
            accounts=len(self.plan.accounts),
            accounts_created=created,
            transfers=sum(map(len, self.plan.chains)),
            posted=tally.posted,
            replayed=tally.replayed,
            refused=tally.refused,
            refusals=tally.refusals,
            unknown_then_asked_again=tally.unknown,
            assertions=len(self.source.assertions),
            assertions_failed=await self.reader.failed(self.source.assertions),
        )

    async def _create_accounts(self, accounts: Sequence[PlannedAccount], numbers: Mapping[str, int]) -> int:
        """Create the accounts that are not there yet; return how many are new."""
        stub, new = PostingServiceStub(self._channel), 0
        for first in range(0, len(accounts), BATCH_TRANSFERS_MAX):
            asked = accounts[first : first + BATCH_TRANSFERS_MAX]
            messages = [Account(id=one.id, ledger=numbers[one.key.commodity], code=one.code) for one in asked]
            answer = await stub.CreateAccounts(
                CreateAccountsRequest(accounts=messages), timeout=CALL_S_MAX, wait_for_ready=True
            )
            for account, result in zip(asked, answer.results, strict=True):
                if result.outcome != Outcome.OUTCOME_ACCOUNT_CREATED:
                    words = result.fault.message if result.HasField("fault") else Outcome.Name(result.outcome)
                    raise EngineStopped(ExitCode.REFUSED, f"account {account.key.name} was not created: {words}")
                new += not result.replayed
        return new


async def run_import(source: Source, path: Path, address: str, pace: Pace, progress: Progress) -> Report:
    """Import a ledger that was read before; every failure is an `EngineStopped`."""
    async with connect(address) as channel:
        return await Import(source, path, channel, await read_ledgers(channel)).run(pace, progress)


async def read_ledgers(channel: grpc.aio.Channel) -> list[LedgerInfo]:
    """Return the cluster's ledgers."""
    stub, request = PostingServiceStub(channel), ListLedgersRequest()
    ledgers: list[LedgerInfo] = []
    while True:
        page = await stub.ListLedgers(request, timeout=CALL_S_MAX, wait_for_ready=True)
        ledgers += [LedgerInfo(one.ledger, one.code, one.scale) for one in page.ledgers]
        if not page.next_page_token:
            return ledgers
        request = ListLedgersRequest(page_token=page.next_page_token)


def matching_ledgers(source: Source, ledgers: Sequence[LedgerInfo]) -> dict[str, LedgerInfo]:
    """Return the ledger of each commodity; raises `EngineStopped` where one is missing or too coarse."""
    by_code = {one.code: one for one in ledgers}
    needed = needed_scales(source)
    missing = [f"{code}:{scale}" for code, scale in needed.items() if code not in by_code]
    if missing:
        words = f"the cluster has no ledger for {', '.join(missing)} (commodity:scale): declare them in cluster.yml"
        raise EngineStopped(ExitCode.USAGE, f"{words} before the cluster first starts")
    for code, scale in needed.items():
        if by_code[code].scale < scale:
            words = f"ledger {code} has {by_code[code].scale} decimal places, and the file needs {scale}"
            raise EngineStopped(ExitCode.USAGE, f"{words}: import it into a cluster with a finer ledger")
    return {code: by_code[code] for code in needed}
