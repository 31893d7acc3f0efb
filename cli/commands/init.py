"""`posting-engine init`: write a cluster.yml."""

from pathlib import Path

import click

from cli.cluster_file import DEFAULT_LEDGERS, FILE_NAME, Shape, parse_ledgers, write_new_cluster
from cli.options import folder_option, groups_option, ledger_option, port_option, replicas_option, routers_option


@click.command()
@folder_option
@groups_option
@replicas_option
@routers_option
@port_option
@ledger_option
def init(folder: Path, groups: int, replicas: int, routers: int, port: int | None, ledgers: tuple[str, ...]) -> None:
    """Write a cluster.yml for this machine: free ports, a cluster id of its own, the ledgers asked for.

    Nothing is overwritten. Start the cluster with `posting-engine up --folder FOLDER`.
    """
    write_new_cluster(folder, parse_ledgers(ledgers) or DEFAULT_LEDGERS, Shape(groups, replicas, routers, port))
    click.echo(f"Wrote {folder / FILE_NAME}. Start it with: posting-engine up --folder {folder}")
