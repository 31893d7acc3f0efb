"""What commands print: tables and sentences for people, JSON for programs, failures on standard error."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table

Command = TypeVar("Command", bound=Callable[..., Any])

LINE_CHARACTERS_PLAIN: Final = 250


def console() -> Console:
    """Return a console on standard output as it is now; what is not a terminal gets plain text in long lines."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=LINE_CHARACTERS_PLAIN)


def json_option(command: Command) -> Command:
    """Add `--json` to a command that reads."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, not a table.")(command)


def print_json(value: object) -> None:
    """Print one JSON document; numbers of minor units stay whole, however large."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print rows under their columns; those named in `numbers` are set flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)
