"""`posting-engine import`: bring a ledger from another program."""

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.beancount.importing import Report, run_import
from cli.beancount.plan import needed_scales
from cli.beancount.posting import Pace, Tally
from cli.beancount.source import Source, read_source
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server
from engine.core.limits import BATCH_TRANSFERS_MAX


@click.group(name="import")
def import_ledger() -> None:
    """Bring a ledger from another program."""


@import_ledger.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--batch",
    type=click.IntRange(1, BATCH_TRANSFERS_MAX),
    default=Pace().batch_transfers,
    show_default=True,
    help="Transfers a batch.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 256),
    default=Pace().in_flight_batches,
    show_default=True,
    help="Batches that may wait for their answers at a time.",
)
@click.option("--rate", type=float, default=0.0, help="Transfers a second at most; 0: as fast as answers come.")
@json_option
@with_server
def beancount(server: Server, file: Path, batch: int, in_flight: int, rate: float, as_json: bool) -> None:
    """Import the Beancount ledger FILE.

    Each commodity is a ledger of that code. Transactions become chains of transfers on accounts named
    ACCOUNT:COMMODITY (look at one with `balance name:Assets:Cash:USD`); what is exchanged for another commodity passes
    through Trading:COMMODITY. The date is the business date. Balance assertions are checked at their dates. Ids come
    from the content, so an import that is repeated, or was interrupted, posts only what is missing.

    Beancount runs as a program of its own: pip install posting-engine[beancount].
    """
    source = read_source(file)
    pace = Pace(batch_transfers=batch, in_flight_batches=in_flight, transfers_per_s=rate)
    report = _run(server.address, file, source, pace)
    if as_json:
        print_json(_json(report))
    else:
        print_table(["", "count"], [(name.replace("_", " "), str(count)) for name, count in _counts(report).items()])
    report.require_clean()


@import_ledger.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def beancount_ledgers(file: Path) -> None:
    """Print the --ledger options with which `init` or `up` makes a cluster that holds the Beancount ledger FILE."""
    click.echo(" ".join(f"--ledger {code}:{scale}" for code, scale in needed_scales(read_source(file)).items()))


def _run(address: str, file: Path, source: Source, pace: Pace) -> Report:
    with progress_bar("posting") as bar:
        task = bar.add_task("posting", total=None)

        def progress(tally: Tally) -> None:
            bar.update(task, completed=tally.acknowledged)

        return asyncio.run(run_import(source, file, address, pace, progress))


def progress_bar(words: str) -> Progress:
    """Return a progress bar on standard error; only a terminal shows it."""
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TextColumn("transfers"), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _counts(report: Report) -> dict[str, int]:
    """Return the report's numbers; a list counts its members."""
    counts = {name: len(value) if isinstance(value, list) else value for name, value in report._asdict().items()}
    return {name: value for name, value in counts.items() if isinstance(value, int) and name != "refusals"}


def _json(report: Report) -> dict[str, object]:
    return report._asdict() | {"assertions_failed": [one._asdict() for one in report.assertions_failed]}
