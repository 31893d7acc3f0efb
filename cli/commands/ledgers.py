"""`posting-engine ledgers`: the cluster's currencies and assets."""

import click

from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server


@click.command()
@json_option
@with_server
def ledgers(server: Server, as_json: bool) -> None:
    """List the ledgers with their code and scale."""
    known = sorted(server.ledgers.values())
    if as_json:
        print_json([{"ledger": one.number, "code": one.code, "scale": one.scale} for one in known])
        return
    rows = [(str(one.number), one.code, str(one.scale)) for one in known]
    print_table(["ledger", "code", "scale"], rows, numbers=["ledger", "scale"])
