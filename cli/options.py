"""Options and parameter types that several commands share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.cluster_file import FILE_NAME, LEDGER_PATTERN, REPLICA_NAMES
from cli.ids import parse_id
from cli.server import Server
from cli.times import parse_time
from engine.config import ROUTERS_MAX, load_config
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.types_pb2 import Basis

Command = TypeVar("Command", bound=Callable[..., Any])

GROUPS_DEFAULT: Final = 2
GROUPS_MAX: Final = 64
"""On one machine: each replica has two ports of its own."""
REPLICAS_DEFAULT: Final = 3
PORT_MAX: Final = 65_535
FOLDER_DEFAULT: Final = "data"
SERVER_VARIABLE: Final = "POSTING_ENGINE_SERVER"
DEADLINE_S_DEFAULT: Final = 15.0


class IdType(click.ParamType[bytes]):
    """An id on the command line; the value is its 16 bytes."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read the text, or fail with its sentence."""
        if isinstance(value, bytes):
            return value
        try:
            return parse_id(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class TimeType(click.ParamType[int]):
    """A date or time on the command line; the value is nanoseconds since 1970, UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the text, or fail with its sentence."""
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LedgerType(click.ParamType[str]):
    """A new ledger, CODE:SCALE."""

    name = "code:scale"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form only."""
        if not LEDGER_PATTERN.fullmatch(value):
            self.fail(f"{value!r} is not CODE:SCALE, such as EUR:2", param, ctx)
        return str(value)


ID: Final = IdType()
TIME: Final = TimeType()

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER_DEFAULT,
    show_default=True,
    help="The cluster's folder: its cluster.yml, data and logs.",
)
groups_option = click.option(
    "--groups",
    type=click.IntRange(1, GROUPS_MAX),
    default=GROUPS_DEFAULT,
    show_default=True,
    help="Shard groups, where a new cluster.yml is written.",
)
replicas_option = click.option(
    "--replicas",
    type=click.IntRange(1, len(REPLICA_NAMES)),
    default=REPLICAS_DEFAULT,
    show_default=True,
    help="Replicas of each group, where a new cluster.yml is written.",
)
routers_option = click.option(
    "--routers",
    type=click.IntRange(1, ROUTERS_MAX),
    default=1,
    show_default=True,
    help="Routers, where a new cluster.yml is written.",
)
port_option = click.option(
    "--port",
    type=click.IntRange(1, PORT_MAX),
    help="The first router's port, where a new cluster.yml is written; without it, any that is free.",
)
ledger_option = click.option(
    "--ledger",
    "ledgers",
    type=LedgerType(),
    multiple=True,
    help="A ledger of a new cluster.yml, CODE:SCALE, such as EUR:2; repeat it for more.",
)
config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The cluster's file.",
)


process_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="cluster.yml",
    show_default=True,
    help="The cluster's file.",
)
BASES: Final = {"booked": Basis.BASIS_BOOKED, "value": Basis.BASIS_VALUE}
basis_option = click.option(
    "--basis",
    type=click.Choice(list(BASES)),
    default="booked",
    show_default=True,
    help="The clock: when the engine booked it, or the business date.",
)


def with_server(command: Command) -> Command:
    """Give a command a connection as its first argument, of `--server`, the environment, or cluster.yml."""

    @click.option("--server", envvar=SERVER_VARIABLE, help=f"host:port of a router or node. [env: {SERVER_VARIABLE}]")
    @click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=FOLDER_DEFAULT,
        show_default=True,
        help="Without --server: ask the router of this folder's cluster.yml.",
    )
    @click.option("--deadline", type=float, default=DEADLINE_S_DEFAULT, show_default=True, help="Seconds to wait.")
    @functools.wraps(command)
    def connected(*, server: str | None, folder: Path, deadline: float, **arguments: Any) -> Any:
        with Server(server or router_of(folder), deadline) as connection:
            return command(connection, **arguments)

    return connected  # type: ignore[return-value]


def router_of(folder: Path) -> str:
    """Return the address of the first router, or without one of the first node, of a folder's cluster.yml."""
    path = folder / FILE_NAME
    if not path.exists():
        raise EngineStopped(
            ExitCode.USAGE, f"{path} is not there: say where the cluster serves with --server, or name its --folder"
        )
    config = load_config(path)
    return config.routers[0].grpc if config.routers else config.groups[0].replicas[0].grpc
