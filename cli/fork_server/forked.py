"""One process that the fork server has made, as a supervisor awaits it."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from cli.fork_server.client import ForkServer
from cli.fork_server.request import Request

LOOK_S: Final = 0.02
GONE_S_MAX: Final = 60.0
FORKED_S_MAX: Final = 300.0
"""The first fork waits until everything is loaded, and compiled if it never was."""
_NOT_STARTED: Final = "the fork server started no process: see fork-server.log"


class Forked:
    """As much of `asyncio.subprocess.Process` as a supervisor needs. `returncode` is None until `wait` has returned."""

    def __init__(self, pid: int, told: asyncio.StreamReader, connection: asyncio.StreamWriter) -> None:
        """`told` brings the exit status, or ends where the fork server ended."""
        self.pid = pid
        self.returncode: int | None = None
        self._told, self._connection = told, connection

    async def wait(self) -> int:
        """Return the exit status; negative: the signal that ended it."""
        line = await self._told.readline()
        if not line:
            await _until_gone(self.pid)
        self.returncode = int(line) if line else -signal.SIGTERM
        self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if the process has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


async def fork(server: ForkServer, arguments: list[str], output: Path) -> Forked:
    """Have `posting-engine` run with these arguments, its output added to a file.

    Raises `ConnectionError` if the fork server ends before it has forked, or takes too long: why is in its own output.
    """
    request = Request(arguments, str(output.absolute()))
    try:
        asked = server.ask(request)
    except OSError as error:
        raise ConnectionError(_NOT_STARTED) from error
    told, connection = await asyncio.open_connection(sock=asked)
    line = b""
    with contextlib.suppress(TimeoutError):
        line = await asyncio.wait_for(told.readline(), FORKED_S_MAX)
    if not line:
        connection.close()
        raise ConnectionError(_NOT_STARTED)
    return Forked(int(line), told, connection)


async def _until_gone(pid: int) -> None:
    """Wait for the end of a process that is not ours, and end it at the deadline: its folder must be free again."""
    for _ in range(round(GONE_S_MAX / LOOK_S)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(LOOK_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
