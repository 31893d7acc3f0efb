"""`posting-engine demo`: a real ledger through a cluster that is killed half-way."""

import shutil
import tempfile
from pathlib import Path

import click

from cli.cluster_file import Shape
from cli.options import groups_option, replicas_option


@click.command()
@groups_option
@replicas_option
@click.option("--keep", is_flag=True, help="Keep the temporary folder afterwards.")
def demo(groups: int, replicas: int, keep: bool) -> None:
    """Import a real ledger, kill leaders half-way, and compare every balance with Beancount's own.

    Makes a ledger with Beancount's bean-example, imports it into a fresh cluster, kills each group's leader with
    batches in flight, lets the import finish, imports it all a second time, compares, audits, and verifies the data
    folders. The last line says DEMO OK; anything that does not hold ends it with one sentence and an exit code.
    """
    # Imported here: `--help` must not wait for all of this.
    from cli.demo.run import demonstrate  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="posting-engine-demo-"))
    try:
        last_line = demonstrate(folder, Shape(groups, replicas), click.echo)
    except BaseException:
        click.echo(f"Everything is kept in {folder}", err=True)
        raise
    if keep:
        click.echo(f"Everything is kept in {folder}")
    else:
        shutil.rmtree(folder)
    click.echo(last_line)
