"""`posting-engine warm-up`: compile the kernels once, before several processes start and would each compile them."""

import importlib
import multiprocessing
import os
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import click

import engine

_LONGEST_FIRST: Final = (
    "engine.core.kernel.steps",
    "engine.core.kernel.apply",
    "engine.core.kernel.step_replay",
    "engine.core.kernel.replay",
)
"""The modules whose entry points take nearly all of the time, each compiled in a process of its own."""


@click.command(name="warm-up")
def warm_up() -> None:
    """Compile the kernels into their cache.

    A process compiles what is missing when it starts, which takes about a minute; this command does it beforehand, on
    all processors.
    """
    workers = min(os.cpu_count() or 1, len(_LONGEST_FIRST))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_compile, _LONGEST_FIRST))
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        importlib.import_module(module.name)
    click.echo("The kernels are compiled.")


def _compile(module: str) -> None:
    importlib.import_module(module)
