"""`posting-engine open`: reservations that hold funds."""

from collections.abc import Iterator
from typing import Final

import click

from cli.amounts import amount_text
from cli.ids import id_text
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, from_uint128
from cli.times import NS_PER_S, time_text
from postingengine.v1.admin_service_pb2 import ListOpenRequest, OpenReservation

COLUMNS: Final = ("reservation", "debit", "credit", "ledger", "amount", "left", "age s", "expires")


@click.command(name="open")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Reservations at most.")
@json_option
@with_server
def open_reservations(server: Server, limit: int, as_json: bool) -> None:
    """List open reservations, oldest first, with what is left of them."""
    found = list(_reservations(server, limit))
    if as_json:
        print_json([_json(one) for one in found])
        return
    print_table(COLUMNS, [_row(server, one) for one in found], numbers=["amount", "left", "age s"])


def _reservations(server: Server, limit: int) -> Iterator[OpenReservation]:
    """Yield up to `limit` reservations over as many pages as it takes."""
    request = ListOpenRequest(page_size=limit)
    while limit > 0:
        page = server.ask(server.admin.ListOpen, request)
        yield from page.reservations[:limit]
        limit -= len(page.reservations)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _row(server: Server, one: OpenReservation) -> list[str]:
    scale = server.scale(one.ledger)
    return [
        id_text(one.id),
        id_text(one.debit_account),
        id_text(one.credit_account),
        server.code(one.ledger),
        amount_text(from_uint128(one.amount), scale),
        amount_text(from_uint128(one.remaining), scale),
        str(one.age_ns // NS_PER_S),
        time_text(one.deadline) or "never",
    ]


def _json(one: OpenReservation) -> dict[str, object]:
    return {
        "id": id_text(one.id),
        "debit_account": id_text(one.debit_account),
        "credit_account": id_text(one.credit_account),
        "ledger": one.ledger,
        "amount": from_uint128(one.amount),
        "remaining": from_uint128(one.remaining),
        "timestamp": time_text(one.timestamp),
        "deadline": time_text(one.deadline),
        "age_ns": one.age_ns,
        "group": one.group,
        "position": one.position,
    }
