"""`posting-engine errors`: what outcomes, faults and exit codes there are."""

from enum import Enum, IntEnum
from typing import Final

import click

from cli.meanings import member_sentences
from cli.output import json_option, print_json, print_table
from engine.core.chains.plan import ChainFault
from engine.core.faults import FAULT_TEXTS
from engine.exit_codes import ExitCode
from engine.rpc.faults import Reason
from postingengine.v1.outcomes import Outcome

Row = dict[str, object]

KINDS: Final = ("outcomes", "faults", "exit-codes")


@click.command()
@click.argument("what", type=click.Choice(["all", *KINDS]), default="all")
@json_option
def errors(what: str, as_json: bool) -> None:
    """List the outcomes of requests, the faults of items and calls, and the exit codes of processes.

    An outcome is final, for ever. A fault is not: after it the outcome is unknown, or nothing was logged.
    """
    tables = {"outcomes": _numbered(Outcome), "faults": _faults(), "exit-codes": _numbered(ExitCode)}
    chosen = {name: rows for name, rows in tables.items() if what in ("all", name)}
    if as_json:
        print_json(chosen)
        return
    for name, rows in chosen.items():
        columns = list(rows[0])
        click.echo(f"{name}:")
        print_table(columns, [[str(row[column]) for column in columns] for row in rows], numbers=["number"])


def _numbered(members: type[IntEnum]) -> list[Row]:
    meanings = member_sentences(members)
    return [
        {"number": int(one), "name": one.name, "meaning": meanings.get(one.name, _words(one.name))}
        for one in members
        if one.name != "UNSPECIFIED"
    ]


def _faults() -> list[Row]:
    """Return the reasons that ErrorInfo may give: those of an item's field first."""
    of_items: list[Row] = [
        {"reason": fault.name, "field": field, "meaning": message} for fault, (field, message) in FAULT_TEXTS.items()
    ]
    return of_items + [
        {"reason": name, "field": "", "meaning": meaning}
        for members in (ChainFault, Reason)
        for name, meaning in _meanings(members).items()
    ]


def _meanings(members: type[Enum]) -> dict[str, str]:
    sentences = member_sentences(members)
    return {one.name: sentences.get(one.name, _words(one.name)) for one in members}


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."
