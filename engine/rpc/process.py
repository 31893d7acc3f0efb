"""A server process: its interpreter's tuning, its signals, and its end with a named exit code."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Final, NoReturn

import uvloop

from engine import failpoints
from engine.exit_codes import EngineStopped, ExitCode

LOG: Final = logging.getLogger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread keeps the interpreter while another one waits for it: the default of 5 ms is a whole post."""


class Lifetime:
    """When a process is to end: at a signal, or at a failure that ends it."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def watch_signals(self) -> None:
        """End at SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)

    def end(self) -> None:
        """End well."""
        if not self._ended.done():
            self._ended.set_result(None)

    def fail(self, stopped: EngineStopped) -> None:
        """End with a failure; the first one counts."""
        LOG.critical("%s", stopped)
        if not self._ended.done():
            self._ended.set_exception(stopped)

    async def over(self) -> None:
        """Return when the process is to end; raises `EngineStopped` where it failed."""
        await self._ended


def settle_memory() -> None:
    """After start-up: leave everything that lives as long as the process out of every later collection."""
    gc.collect()
    gc.freeze()


def run_process(main: Coroutine[object, object, None]) -> NoReturn:
    """Run a server to its end and exit: 0, or the code of what ended it after one sentence on stderr.

    A failure exits at once, without another write: what failed may be the disk, or the state itself.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        failpoints.arm()
        uvloop.run(main)
    except EngineStopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        sys.stderr.flush()
        os._exit(stopped.code)
    sys.exit(ExitCode.OK)
