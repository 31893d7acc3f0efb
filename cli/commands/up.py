"""`posting-engine up`: a whole cluster on this machine, supervised."""

import asyncio
from pathlib import Path
from typing import Final

import click

from cli.cluster_file import DEFAULT_LEDGERS, FILE_NAME, Shape, open_or_make, parse_ledgers
from cli.options import (
    config_option,
    folder_option,
    groups_option,
    ledger_option,
    port_option,
    replicas_option,
    routers_option,
)
from cli.supervisor import Supervisor, run, write_atomically
from engine.config import ClusterConfig, load_config
from engine.exit_codes import EngineStopped, ExitCode

LOGS_FOLDER: Final = "logs"


@click.command()
@folder_option
@config_option
@groups_option
@replicas_option
@routers_option
@port_option
@ledger_option
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write this file (JSON: addresses, process ids) once everything serves, and again at each change.",
)
def up(
    folder: Path,
    config_path: Path | None,
    groups: int,
    replicas: int,
    routers: int,
    port: int | None,
    ledgers: tuple[str, ...],
    ready_file: Path | None,
) -> None:
    """Start every node and router of a cluster on this machine, and keep them running.

    Without --config the folder's cluster.yml is used, or a new one is written. A process that falls is started again,
    unless its exit code says that this needs you (`posting-engine errors`). Ctrl-C or SIGTERM stops the cluster clean.
    """
    path, config = _config(folder, config_path, Shape(groups, replicas, routers, port), ledgers)
    supervisor = Supervisor(config, path, folder / LOGS_FOLDER, lambda sentence: click.echo(sentence, err=True))

    def tell(text: str) -> None:
        if ready_file is not None:
            write_atomically(ready_file, text)

    if not asyncio.run(run(supervisor, tell, lambda: click.echo(_greeting(supervisor, path)))):
        raise EngineStopped(ExitCode.FAILED, f"not every process stopped clean: see {folder / LOGS_FOLDER}")
    click.echo("Stopped clean.")


def _config(
    folder: Path, config_path: Path | None, shape: Shape, ledgers: tuple[str, ...]
) -> tuple[Path, ClusterConfig]:
    if config_path is not None:
        return config_path, load_config(config_path)
    return folder / FILE_NAME, open_or_make(folder, parse_ledgers(ledgers) or DEFAULT_LEDGERS, shape)


def _greeting(supervisor: Supervisor, path: Path) -> str:
    servers = supervisor.routers or supervisor.nodes
    nodes, routers = ([one for one in part if one.gave_up is None] for part in (supervisor.nodes, supervisor.routers))
    counts = f"{_count(len(nodes), 'node')} and {_count(len(routers), 'router')}"
    down = ", ".join(child.name for child in supervisor.children if child.gave_up is not None)
    without = f", without {down}" if down else ""
    return f"Serving at {servers[0].address}: {counts} of {path}{without}. Ctrl-C stops them."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
