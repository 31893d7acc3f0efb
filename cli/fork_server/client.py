"""The fork server as those see it who want processes of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from cli.children import MALLOC_ENVIRONMENT
from cli.fork_server.request import REQUEST_BYTES_MAX, Request
from engine.exit_codes import ExitCode, require

ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's linear algebra would start threads when it is imported; the engine has none."""
ASK_S_MAX: Final = 10.0
"""The fork server takes so long to make room for a request only if it has been stopped."""
END_S_MAX: Final = 10.0


class ForkServer:
    """Starts `python -m cli.fork_server` when it is first asked, and again should it have ended."""

    def __init__(self, output: Path) -> None:
        """`output`: the file that gets the last words of the fork server itself."""
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def ask(self, request: Request) -> socket.socket:
        """Ask for a process. Returns the socket on which a line with its id comes, then one with its exit status.

        Both lines are missing if the fork server itself ends: then so does the process, by SIGTERM.
        """
        message = msgspec.json.encode(request)
        require(len(message) <= REQUEST_BYTES_MAX, ExitCode.USAGE, "the paths of a process are too long: shorten them")
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._send(message, theirs)
            except OSError:
                ours.close()
                raise
        return ours

    def _send(self, message: bytes, theirs: socket.socket) -> None:
        """Send a request; to a new fork server if the one that was there has ended, or takes nothing any more."""
        try:
            socket.send_fds(self._running(), [message], [theirs.fileno()])
        except OSError:
            self.close()
            socket.send_fds(self._running(), [message], [theirs.fileno()])

    def close(self) -> None:
        """End the fork server; what it forked gets SIGTERM, if it still runs."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            _end(self._process)
        self._control = self._process = None

    def _running(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control.settimeout(ASK_S_MAX)
            with theirs, self._output.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "cli.fork_server", str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=output,
                    stderr=output,
                    env={**MALLOC_ENVIRONMENT, **ONE_THREAD, **os.environ},
                    # Ctrl-C in a terminal goes to every process of its session: only the supervisor shall act on it.
                    start_new_session=True,
                )
        return self._control


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a fork server whose socket is closed; it may still be loading."""
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
