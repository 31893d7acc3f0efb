"""Accounts as commands show them: amounts in units of their ledger, flags by name."""

from collections.abc import Iterable
from typing import Final

import click

from cli.amounts import amount_text
from cli.ids import id_text
from cli.output import print_json, print_table
from cli.server import Server, fault_sentence, from_int128, from_uint128
from cli.times import time_text
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.account_pb2 import AccountAnswer, AccountFlag, AccountState, BucketState
from postingengine.v1.posting_service_pb2 import GetAccountsRequest
from postingengine.v1.types_pb2 import Consistency

STALE: Final = Consistency(stale=Consistency.Stale())
FLAG_PREFIX: Final = "ACCOUNT_FLAG_"
COLUMNS: Final = ("account", "ledger", "balance", "available", "debits", "credits", "reserved", "limits", "version")
BUCKET_COLUMNS: Final = ("bucket of", "group", "balance", "available", "reserved", "moved in", "moving out")
NUMBERS: Final = ("balance", "available", "debits", "credits", "reserved", "version")


def read_accounts(
    server: Server, ids: Iterable[bytes], *, stale: bool = False, buckets: bool = False
) -> list[AccountAnswer]:
    """Read accounts, linearizable unless a stale answer will do; `EngineStopped` for the first that is missing."""
    request = GetAccountsRequest(ids=ids, consistency=STALE if stale else None, with_buckets=buckets)
    answers = list(server.ask(server.posting.GetAccounts, request).accounts)
    for wanted, answer in zip(request.ids, answers, strict=True):
        if answer.HasField("fault"):
            raise EngineStopped(ExitCode.REFUSED, f"account {id_text(wanted)}: {fault_sentence(answer.fault)}")
    return answers


def ledger_of(server: Server, account: bytes) -> int:
    """Return the number of an account's ledger."""
    (answer,) = read_accounts(server, [account], stale=False)
    return answer.state.account.ledger


def print_accounts(server: Server, answers: Iterable[AccountAnswer], *, as_json: bool) -> None:
    """Print accounts as a table, or as JSON with whole minor units."""
    if as_json:
        print_json([account_json(server, answer) for answer in answers])
        return
    shown = list(answers)
    print_table(COLUMNS, [_row(server, answer.state) for answer in shown], numbers=NUMBERS)
    rows = [_bucket_row(server, answer, one) for answer in shown for one in answer.buckets]
    if rows:
        print_table(BUCKET_COLUMNS, rows, numbers=BUCKET_COLUMNS[1:])
    ages = [answer.read_at.stale_ms for answer in shown if answer.read_at.HasField("stale_ms")]
    if ages:
        click.echo(f"stale: at most {max(ages)} ms old")


def account_json(server: Server, answer: AccountAnswer) -> dict[str, object]:
    """Return everything about an account; amounts are minor units."""
    state, balances = answer.state, answer.state.balances
    return {
        "id": id_text(state.account.id),
        "ledger": state.account.ledger,
        "ledger_code": server.code(state.account.ledger),
        "scale": server.scale(state.account.ledger),
        "code": state.account.code,
        "flags": flag_names(state.account.flags),
        "overdraft_limit": from_uint128(state.account.overdraft_limit),
        "reference": state.account.reference.hex(),
        "version": state.version,
        "created_at": time_text(state.created_at),
        "debits_posted": from_uint128(balances.debits_posted),
        "credits_posted": from_uint128(balances.credits_posted),
        "debits_reserved": from_uint128(balances.debits_reserved),
        "credits_reserved": from_uint128(balances.credits_reserved),
        "balance": from_int128(balances.balance),
        "available": from_int128(balances.available),
        "buckets": [_bucket_json(one) for one in answer.buckets],
        "read_at": {
            "group": answer.read_at.group,
            "log_index": answer.read_at.log_index,
            "as_of": time_text(answer.read_at.as_of),
            "stale_ms": answer.read_at.stale_ms if answer.read_at.HasField("stale_ms") else None,
        },
    }


def flag_names(flags: Iterable[AccountFlag]) -> list[str]:
    """Return flags as words: `debits-must-not-exceed-credits`."""
    return [AccountFlag.Name(flag).removeprefix(FLAG_PREFIX).lower().replace("_", "-") for flag in flags]


def _bucket_row(server: Server, answer: AccountAnswer, one: BucketState) -> list[str]:
    scale = server.scale(answer.state.account.ledger)
    reserved = from_uint128(one.balances.debits_reserved) + from_uint128(one.balances.credits_reserved)
    amounts = (
        from_int128(one.balances.balance),
        from_int128(one.balances.available),
        reserved,
        from_int128(one.moved_in),
        from_uint128(one.moving_out),
    )
    return [id_text(answer.state.account.id), str(one.group), *(amount_text(amount, scale) for amount in amounts)]


def _bucket_json(one: BucketState) -> dict[str, object]:
    return {
        "group": one.group,
        "balance": from_int128(one.balances.balance),
        "available": from_int128(one.balances.available),
        "debits_posted": from_uint128(one.balances.debits_posted),
        "credits_posted": from_uint128(one.balances.credits_posted),
        "debits_reserved": from_uint128(one.balances.debits_reserved),
        "credits_reserved": from_uint128(one.balances.credits_reserved),
        "moved_in": from_int128(one.moved_in),
        "moving_out": from_uint128(one.moving_out),
        "log_index": one.log_index,
    }


def _row(server: Server, state: AccountState) -> list[str]:
    scale, balances = server.scale(state.account.ledger), state.balances
    reserved = from_uint128(balances.debits_reserved) + from_uint128(balances.credits_reserved)
    limit = from_uint128(state.account.overdraft_limit)
    limits = [*flag_names(state.account.flags), *([f"overdraft {amount_text(limit, scale)}"] if limit else [])]
    return [
        id_text(state.account.id),
        server.code(state.account.ledger),
        amount_text(from_int128(balances.balance), scale),
        amount_text(from_int128(balances.available), scale),
        amount_text(from_uint128(balances.debits_posted), scale),
        amount_text(from_uint128(balances.credits_posted), scale),
        amount_text(reserved, scale),
        ", ".join(limits),
        str(state.version),
    ]
