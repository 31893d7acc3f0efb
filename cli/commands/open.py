"""`posting-engine open`: what holds funds: chains that wait for the group that decides them, and reservations."""

from typing import Final, NamedTuple

import click

from cli.amounts import amount_text
from cli.ids import id_text
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, from_uint128
from cli.times import NS_PER_S, time_text
from postingengine.v1.admin_service_pb2 import ListOpenRequest, OpenChain, OpenReservation
from postingengine.v1.transfer_pb2 import TransferKind

RESERVATION_COLUMNS: Final = ("reservation", "debit", "credit", "ledger", "amount", "left", "age s", "expires")
CHAIN_COLUMNS: Final = ("chain", "legs", "open in group", "groups", "decider", "waits for", "age s", "may abort")
PAGE_MAX: Final = 8190


class Listed(NamedTuple):
    """What is open, by group, oldest first."""

    chains: list[OpenChain]
    reservations: list[OpenReservation]


@click.command(name="open")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Entries at most.")
@json_option
@with_server
def open_reservations(server: Server, limit: int, as_json: bool) -> None:
    """List what is open, oldest first: chains on their way between groups, reservations with what is left of them."""
    found = listed(server, limit)
    if as_json:
        print_json([*map(_chain_json, found.chains), *map(_json, found.reservations)])
        return
    if found.chains:
        print_table(CHAIN_COLUMNS, [_chain_row(one) for one in found.chains], numbers=["legs", "age s"])
    if found.reservations:
        rows = [_row(server, one) for one in found.reservations]
        print_table(RESERVATION_COLUMNS, rows, numbers=["amount", "left", "age s"])
    if not found.chains and not found.reservations:
        click.echo("Nothing is open.")


def listed(server: Server, limit: int) -> Listed:
    """Read up to `limit` entries over as many pages as it takes."""
    found = Listed([], [])
    request = ListOpenRequest(page_size=min(limit, PAGE_MAX))
    while limit > 0:
        page = server.ask(server.admin.ListOpen, request)
        found.chains.extend(page.chains[:limit])
        found.reservations.extend(page.reservations[: max(0, limit - len(page.chains))])
        limit -= len(page.chains) + len(page.reservations)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    return found


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


def _chain_row(one: OpenChain) -> list[str]:
    return [
        id_text(one.id),
        str(len(one.legs)),
        str(one.group),
        ", ".join(map(str, one.groups)),
        str(one.decider),
        ", ".join(map(str, one.waits_for)),
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
        "decider": one.decider,
        "position": one.position,
    }


def _chain_json(one: OpenChain) -> dict[str, object]:
    return {
        "chain": id_text(one.id),
        "group": one.group,
        "decider": one.decider,
        "groups": list(one.groups),
        "waits_for": list(one.waits_for),
        "timestamp": time_text(one.timestamp),
        "deadline": time_text(one.deadline),
        "age_ns": one.age_ns,
        "position": one.position,
        "legs": [
            {
                "id": id_text(leg.id),
                "kind": TransferKind.Name(leg.kind).removeprefix("TRANSFER_KIND_"),
                "debit_account": id_text(leg.debit_account),
                "credit_account": id_text(leg.credit_account),
                "ledger": leg.ledger,
                "amount": from_uint128(leg.amount),
                "debit_group": leg.debit_group,
                "credit_group": leg.credit_group,
            }
            for leg in one.legs
        ],
    }
