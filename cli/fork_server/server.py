"""The fork server: loads what nodes and routers need, once, then forks one for each request and tells how it ended.

It has one thread and no connection but its own, so that a fork is a whole process: what runs threads or gRPC is
imported here, and started in the forks only.
"""

import gc
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
from setproctitle import setproctitle

from cli.fork_server.request import REQUEST_BYTES_MAX, Request
from cli.with_parent import end_with_parent
from engine.exit_codes import ExitCode, require

THREADS: Final = Path("/proc/self/task")


def serve(parent: int) -> bool:
    """Fork processes until the parent closes its socket. True in a fork, whose request is then in `sys.argv`."""
    end_with_parent(parent)
    setproctitle("posting-engine fork-server")
    _load()
    server = _Server(socket.socket(fileno=0))
    return server.run()


def _load() -> None:
    """Import what processes would import, and leave it out of their collections, which would copy its pages."""
    import cli.commands.node  # noqa: PLC0415
    import cli.commands.router  # noqa: F401, PLC0415
    import engine.service.node  # noqa: F401, PLC0415
    import router.server  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()
    one = not THREADS.exists() or len(list(THREADS.iterdir())) == 1
    require(one, ExitCode.FAILED, "the fork server has threads, which its forks would lack: report this as a defect")


class _Server:
    def __init__(self, control: socket.socket) -> None:
        """`control` brings requests, each with the socket on which its process is told of."""
        self._control, self._pid = control, os.getpid()
        self._told: dict[int, socket.socket] = {}
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._fork)
        self._selector.register(self._awake, selectors.EVENT_READ, self._reap)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def run(self) -> bool:
        """Serve. True in a fork, False when the parent is gone."""
        while True:
            for key, _ in self._selector.select():
                is_fork = key.data()
                if is_fork is not None:
                    return bool(is_fork)

    def _fork(self) -> bool | None:
        """Fork for one request. True in the fork; False if there is nobody to ask any more."""
        message, sockets, _, _ = socket.recv_fds(self._control, REQUEST_BYTES_MAX, 1)
        if not message:
            return False
        request, told = msgspec.json.decode(message, type=Request), socket.socket(fileno=sockets[0])
        pid = os.fork()
        if pid == 0:
            told.close()
            self._become(request)
            return True
        self._told[pid] = told
        _tell(told, pid)
        return None

    def _reap(self) -> None:
        """Tell how each process ended that has ended."""
        self._awake.recv(4096)
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._told.pop(pid) as told:
                _tell(told, os.waitstatus_to_exitcode(status))

    def _become(self, request: Request) -> None:
        """Leave the fork server behind: its sockets, its signals, its session and its output."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._awake, self._waker, *self._told.values()):
            one.close()
        os.setsid()
        # Descriptor 0 is the fork server's socket: its object must not close what stands there from now on.
        self._control.detach()
        for number, path in enumerate((os.devnull, request.output, request.errors or request.output)):
            opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.update(request.environment)
        sys.argv = ["posting-engine", *request.arguments]
        setproctitle(" ".join(sys.argv))
        end_with_parent(self._pid)


def _tell(told: socket.socket, number: int) -> None:
    """Write one line; whoever started the process may be gone by now."""
    try:
        told.sendall(b"%d\n" % number)
    except OSError:
        return
