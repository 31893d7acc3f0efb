"""`posting-engine balance`: what accounts hold, now or at a time."""

import click

from cli.accounts import STALE, ledger_of, print_accounts, read_accounts
from cli.amounts import amount_text
from cli.ids import id_text
from cli.options import BASES, ID, TIME, basis_option, with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, from_int128, from_uint128
from cli.times import time_text
from postingengine.v1.posting_service_pb2 import GetBalanceAtRequest
from postingengine.v1.statement_pb2 import PostedBalance


@click.command()
@click.argument("accounts", type=ID, nargs=-1, required=True)
@click.option("--at", "time_ns", type=TIME, help="As of this date (when it begins) or time, UTC; default: now.")
@basis_option
@click.option("--stale", is_flag=True, help="Take whatever the replica asked has applied.")
@click.option("--buckets", is_flag=True, help="Show the buckets of split accounts, too.")
@json_option
@with_server
def balance(
    server: Server,
    accounts: tuple[bytes, ...],
    time_ns: int | None,
    basis: str,
    stale: bool,
    buckets: bool,
    as_json: bool,
) -> None:
    """Show what accounts hold.

    A balance is credits less debits. Available is what a limit check may spend; it counts reservations and overdraft.
    """
    if time_ns is None:
        print_accounts(server, read_accounts(server, accounts, stale=stale, buckets=buckets), as_json=as_json)
        return
    rows = [(account, ledger_of(server, account), _at(server, account, time_ns, basis, stale)) for account in accounts]
    if as_json:
        print_json([_json(account, ledger, posted, time_ns, basis) for account, ledger, posted in rows])
        return
    print_table(
        ["account", "ledger", "at", "balance", "debits", "credits"],
        [
            (
                id_text(account),
                server.code(ledger),
                time_text(time_ns),
                amount_text(from_int128(posted.balance), server.scale(ledger)),
                amount_text(from_uint128(posted.debits_posted), server.scale(ledger)),
                amount_text(from_uint128(posted.credits_posted), server.scale(ledger)),
            )
            for account, ledger, posted in rows
        ],
        numbers=["balance", "debits", "credits"],
    )


def _at(server: Server, account: bytes, time_ns: int, basis: str, stale: bool) -> PostedBalance:
    # The contract includes the time itself; as of a time means before it, so that a date is the state when it begins.
    request = GetBalanceAtRequest(
        account=account, basis=BASES[basis], time=time_ns - 1, consistency=STALE if stale else None
    )
    return server.ask(server.posting.GetBalanceAt, request).balance


def _json(account: bytes, ledger: int, posted: PostedBalance, time_ns: int, basis: str) -> dict[str, object]:
    return {
        "id": id_text(account),
        "ledger": ledger,
        "at": time_text(time_ns),
        "basis": basis,
        "debits_posted": from_uint128(posted.debits_posted),
        "credits_posted": from_uint128(posted.credits_posted),
        "balance": from_int128(posted.balance),
    }
