"""`posting-engine errors`: what outcomes, faults and exit codes there are."""

import ast
import inspect
import itertools
from enum import IntEnum

import click

from cli.output import json_option, print_json, print_table
from engine.core.outcomes import Outcome
from engine.exit_codes import ExitCode


@click.command()
@click.argument("what", type=click.Choice(["all", "outcomes", "exit-codes"]), default="all")
@json_option
def errors(what: str, as_json: bool) -> None:
    """List the outcomes of requests and the exit codes of processes, with what to do about them."""
    wanted = {"outcomes": Outcome, "exit-codes": ExitCode}
    chosen: dict[str, type[IntEnum]] = {name: one for name, one in wanted.items() if what in ("all", name)}
    if as_json:
        print_json({name: _rows(one) for name, one in chosen.items()})
        return
    for name, one in chosen.items():
        click.echo(f"{name}:")
        print_table(
            ["number", "name", "meaning"],
            [(str(row["number"]), str(row["name"]), str(row["meaning"])) for row in _rows(one)],
            numbers=["number"],
        )


def _rows(members: type[IntEnum]) -> list[dict[str, object]]:
    meanings = member_sentences(members)
    return [
        {"number": int(one), "name": one.name, "meaning": meanings.get(one.name, one.name.replace("_", " ").lower())}
        for one in members
        if one.name != "UNSPECIFIED"
    ]


def member_sentences(members: type[IntEnum]) -> dict[str, str]:
    """Return the sentences that stand below members in the source, by name: the one place where they are written."""
    (definition,) = ast.parse(inspect.getsource(members)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    sentences = {}
    for member, below in itertools.pairwise(body):
        match member, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                sentences[name] = " ".join(text.split())
    return sentences
