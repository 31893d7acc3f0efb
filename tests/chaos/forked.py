"""Nodes and routers forked from one process that has loaded everything, as `posting-engine up` starts them."""

import atexit
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cli.fork_server.client import ForkServer
from cli.fork_server.request import Request

STARTED_S_MAX: Final = 180.0
_OUTPUT: Final = tempfile.TemporaryDirectory(prefix="posting-engine-forks-")
_SERVER: Final = ForkServer(Path(_OUTPUT.name) / "fork-server.txt")
atexit.register(_SERVER.close)


class Forked:
    """A forked process, with as much of `subprocess.Popen` as clusters need."""

    def __init__(
        self, arguments: Sequence[str], output: Path, environment: Mapping[str, str], errors: Path | None = None
    ) -> None:
        """Start `posting-engine` with these arguments and more in its environment, its output added to files."""
        paths = [str(one.absolute()) for one in (output, errors or output)]
        self._told = _SERVER.ask(Request(list(arguments), *paths, dict(environment)))
        self._lines = b""
        self.returncode: int | None = None
        self._hear(1, time.monotonic() + STARTED_S_MAX)
        self.pid = int(self._lines.split()[0])

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self._hear(2, None if timeout is None else time.monotonic() + timeout)
            self.returncode = int(self._lines.split()[1])
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and that is only not told yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _hear(self, lines: int, deadline: float | None) -> None:
        while self._lines.count(b"\n") < lines:
            wait_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            self._told.settimeout(wait_s)
            try:
                heard = self._told.recv(64)
            except (TimeoutError, BlockingIOError) as late:
                raise subprocess.TimeoutExpired("a fork", wait_s or 0.0) from late
            assert heard, f"the fork server ended: {_OUTPUT.name}"
            self._lines += heard


def run(*arguments: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run one command of `posting-engine` to its end; raises `subprocess.TimeoutExpired`, having killed it."""
    with tempfile.TemporaryDirectory(dir=_OUTPUT.name) as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = Forked(arguments, output, {}, errors)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())
