"""`posting-engine split`: spread a hot account over all groups, under load and for ever."""

import click

from cli.ids import id_text
from cli.options import ID, with_server
from cli.output import json_option, print_json
from cli.server import Server
from postingengine.v1.admin_service_pb2 import DescribeClusterRequest, SplitAccountRequest


@click.command()
@click.argument("account", type=ID)
@click.option("--buckets", type=click.IntRange(0), help="One for each group, which is the default.")
@json_option
@with_server
def split(server: Server, account: bytes, buckets: int | None, as_json: bool) -> None:
    """Split an account into one bucket in each group.

    From then on a transfer with it runs wholly in the group of its other account. A split is for ever as far as routes
    go; `merge` brings the money home.
    """
    if buckets is None:
        buckets = len(server.ask(server.admin.DescribeCluster, DescribeClusterRequest()).groups)
    answer = server.ask(server.admin.SplitAccount, SplitAccountRequest(account=account, buckets=buckets))
    if as_json:
        print_json(
            {
                "account": id_text(account),
                "epoch": answer.epoch,
                "home": answer.home,
                "groups": list(answer.groups),
            }
        )
        return
    groups = ", ".join(map(str, answer.groups))
    click.echo(f"{id_text(account)} is split: it has buckets in groups {groups}; its home is group {answer.home}")
