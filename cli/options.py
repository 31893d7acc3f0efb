"""Options and parameter types that several commands share."""

from pathlib import Path
from typing import Any, Final

import click

from cli.cluster_file import LEDGER_PATTERN, REPLICA_NAMES
from cli.ids import parse_id

REPLICAS_DEFAULT: Final = 1
FOLDER_DEFAULT: Final = "data"


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


class LedgerType(click.ParamType[str]):
    """A new ledger, CODE:SCALE."""

    name = "code:scale"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form only."""
        if not LEDGER_PATTERN.fullmatch(value):
            self.fail(f"{value!r} is not CODE:SCALE, such as EUR:2", param, ctx)
        return str(value)


ID: Final = IdType()

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER_DEFAULT,
    show_default=True,
    help="The cluster's folder: its cluster.yml, data and logs.",
)
replicas_option = click.option(
    "--replicas",
    type=click.IntRange(1, len(REPLICA_NAMES)),
    default=REPLICAS_DEFAULT,
    show_default=True,
    help="Replicas of the group, where a new cluster.yml is written.",
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
