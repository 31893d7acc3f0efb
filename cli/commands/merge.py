"""`posting-engine merge`: bring the money of a split account home."""

import click

from cli.accounts import ledger_of
from cli.amounts import amount_text
from cli.ids import id_text
from cli.options import ID, with_server
from cli.output import json_option, print_json
from cli.server import Server, from_uint128
from postingengine.v1.admin_service_pb2 import MergeAccountRequest


@click.command()
@click.argument("account", type=ID)
@json_option
@with_server
def merge(server: Server, account: bytes, as_json: bool) -> None:
    """Bring home what the other buckets of a split account hold.

    Waits, within the deadline, for what reservations there give back. Routes stay as they are: credits that come later
    stay in the buckets where they come.
    """
    answer = server.ask(server.admin.MergeAccount, MergeAccountRequest(account=account))
    moved = from_uint128(answer.moved)
    if as_json:
        print_json({"account": id_text(account), "home": answer.home, "moved": moved, "moves": answer.moves})
        return
    ledger = ledger_of(server, account)
    text = f"{amount_text(moved, server.scale(ledger))} {server.code(ledger)}"
    click.echo(f"{id_text(account)}: {text} were brought home to group {answer.home} in {answer.moves} moves")
