"""`posting-engine warm-up`: compile the kernels once, before several processes start and would each compile them."""

import compileall
import importlib
import multiprocessing
import os
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import click

import engine

_PACKAGES: Final = ("engine", "router", "cli", "postingengine")
_MODULES: Final = (
    "engine.core.kernel.apply",
    "engine.core.kernel.faults",
    "engine.core.kernel.steps",
    "engine.core.kernel.step_replay",
    "engine.core.kernel.replay",
    "engine.service.heat.sketch",
    "engine.core.chains.digests",
    "engine.storage.ids.known_ids",
    "engine.storage.views.tail",
)
"""The modules whose entry points take nearly all of the time, shared out over processes: what takes long is first, but
`faults`, which needs nothing of the kernel and so leaves the time to make once what `apply` and `steps` both import."""


@click.command(name="warm-up")
def warm_up() -> None:
    """Compile the kernels into their cache, and the Python code into byte code.

    A process compiles what is missing when it starts, which takes about a minute; this command does it beforehand, on
    all processors.
    """
    workers = min(os.cpu_count() or 1, len(_MODULES))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        kernels = pool.map(_compile, _MODULES)
        # Interpreters do not write it where PYTHONDONTWRITEBYTECODE is set: each start would take a quarter longer.
        for package in _PACKAGES:
            for folder in importlib.import_module(package).__path__:
                compileall.compile_dir(folder, quiet=2)
        list(kernels)
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        _compile(module.name)
    click.echo("The kernels are compiled.")


def _compile(module: str) -> None:
    importlib.import_module(module)
