"""Every command explains itself, and every mistake ends in one sentence."""

import json
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, posting_engine


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = list(commands(posting_engine))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_a_command_and_each_of_its_options_has_help(path: tuple[str, ...], command: click.Command) -> None:
    shown = CliRunner().invoke(posting_engine, [*path, "--help"])
    assert shown.exit_code == 0
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{parameter.name} has no help"


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = "up node router init accounts post balance statement describe audit verify ledgers open import demo errors"
    assert set(wanted.split()) <= set(COMMANDS)


READING = ("ledgers", "accounts show", "balance", "statement", "open", "describe", "hot", "audit", "verify", "errors")


@pytest.mark.parametrize("name", READING)
def test_a_command_that_reads_speaks_json(name: str) -> None:
    (command,) = (command for path, command in ALL if " ".join(path) == name)
    assert "--json" in {text for parameter in command.params for text in parameter.opts}


def test_every_outcome_fault_and_exit_code_has_a_sentence() -> None:
    shown = CliRunner().invoke(posting_engine, ["errors", "--json"])
    tables = json.loads(shown.output)
    assert set(tables) == {"outcomes", "faults", "exit-codes"}
    for rows in tables.values():
        for row in rows:
            name = row.get("name") or row["reason"]
            assert row["meaning"].lower() != f"{name.replace('_', ' ').lower()}.", f"{name} has no sentence of its own"
