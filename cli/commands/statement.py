"""`posting-engine statement`: an account's entries with the running balance."""

from collections.abc import Iterator

import click

from cli.accounts import STALE, ledger_of
from cli.amounts import amount_text
from cli.ids import id_text
from cli.options import BASES, ID, TIME, basis_option, with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, from_int128, from_uint128
from cli.times import time_text
from postingengine.v1.posting_service_pb2 import ListEntriesRequest
from postingengine.v1.statement_pb2 import Entry, EntrySide
from postingengine.v1.transfer_pb2 import TransferKind


@click.command()
@click.argument("account", type=ID)
@basis_option
@click.option("--from", "from_ns", type=TIME, default=0, help="The first date or time shown, UTC.")
@click.option("--to", "to_ns", type=TIME, default=0, help="The first date or time no longer shown, UTC.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Lines at most.")
@click.option("--stale", is_flag=True, help="Take whatever the replica asked has applied.")
@json_option
@with_server
def statement(
    server: Server, account: bytes, basis: str, from_ns: int, to_ns: int, limit: int, stale: bool, as_json: bool
) -> None:
    """Show an account's entries, oldest first, with the running balance (credits less debits)."""
    request = ListEntriesRequest(
        account=account,
        basis=BASES[basis],
        from_time=from_ns,
        to_time=to_ns,
        page_size=limit,
        consistency=STALE if stale else None,
    )
    entries = list(_entries(server, request, limit))
    if as_json:
        print_json([_json(entry) for entry in entries])
        return
    scale = server.scale(ledger_of(server, account))
    print_table(
        ["date" if basis == "value" else "booked", "debit", "credit", "balance", "other account", "kind", "transfer"],
        [_row(entry, scale, basis) for entry in entries],
        numbers=["debit", "credit", "balance"],
    )


def _entries(server: Server, request: ListEntriesRequest, limit: int) -> Iterator[Entry]:
    """Yield up to `limit` entries over as many pages as it takes."""
    while limit > 0:
        page = server.ask(server.posting.ListEntries, request)
        yield from page.entries[:limit]
        limit -= len(page.entries)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _row(entry: Entry, scale: int, basis: str) -> list[str]:
    amount = amount_text(from_uint128(entry.amount), scale)
    is_debit = entry.side == EntrySide.ENTRY_SIDE_DEBIT
    return [
        time_text(entry.effective_at if basis == "value" else entry.timestamp),
        amount if is_debit else "",
        "" if is_debit else amount,
        amount_text(from_int128(entry.running_balance), scale),
        id_text(entry.counter_account),
        TransferKind.Name(entry.kind).removeprefix("TRANSFER_KIND_"),
        id_text(entry.transfer_id),
    ]


def _json(entry: Entry) -> dict[str, object]:
    return {
        "transfer": id_text(entry.transfer_id),
        "kind": TransferKind.Name(entry.kind).removeprefix("TRANSFER_KIND_"),
        "side": EntrySide.Name(entry.side).removeprefix("ENTRY_SIDE_"),
        "amount": from_uint128(entry.amount),
        "running_balance": from_int128(entry.running_balance),
        "counter_account": id_text(entry.counter_account),
        "ledger": entry.ledger,
        "code": entry.code,
        "reference": entry.reference.hex(),
        "followed": entry.followed.hex(),
        "timestamp": time_text(entry.timestamp),
        "effective_at": time_text(entry.effective_at),
        "group": entry.group,
        "position": entry.position,
    }
