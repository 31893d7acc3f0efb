"""`posting-engine warm-up`: compile the kernels once, before several processes start and would each compile them."""

import importlib
import pkgutil

import click

import engine


@click.command(name="warm-up")
def warm_up() -> None:
    """Compile the kernels into their cache.

    A process compiles what is missing when it starts, which takes about a minute; this command does it beforehand.
    """
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        importlib.import_module(module.name)
    click.echo("The kernels are compiled.")
