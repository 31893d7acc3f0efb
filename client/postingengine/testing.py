"""An engine for your own tests, real to the last fsync: one replica and a router in a temporary folder.

    with Engine() as engine:
        client = engine.client()
        client.create_account(Account(alice, ledger=engine.ledger("EUR")))

It runs the `posting-engine` executable of the package `posting-engine`, which must be installed beside this one. With
pytest, the fixture `posting_engine` is such an engine, shared by a session.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from postingengine.aio import TIMEOUT_S, AsyncClient
from postingengine.sync import Client

COMMAND: Final = "posting-engine"
LEDGERS: Final = ("EUR:2", "USD:2")
START_S_MAX: Final = 120.0
"""The first start on a machine compiles the engine's kernel."""
STOP_S_MAX: Final = 60.0
"""More than `up` may take: its routers, then its nodes, each have their time to drain and ten seconds."""
LOOK_S: Final = 0.02
LOG_TAIL_CHARACTERS: Final = 2000


class EngineNotStarted(RuntimeError):
    """The engine did not start; the text ends with what it said."""


class Engine:
    """A running engine. `ledgers`: CODE:SCALE each, numbered from 1. `groups`: shard groups, of `replicas` each."""

    def __init__(self, *, ledgers: Sequence[str] = LEDGERS, replicas: int = 1, groups: int = 1) -> None:
        self._ledgers, self._replicas, self._groups = tuple(ledgers), replicas, groups
        self._clients: list[Client] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """host:port of its router, once started."""
        self.node_process_ids: tuple[int, ...] = ()
        """Of its nodes as they were started; one that you kill is started again."""

    def __enter__(self) -> "Engine":
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until it serves; raises `EngineNotStarted`."""
        self._folder = tempfile.TemporaryDirectory(prefix="posting-engine-")
        try:
            self._run(Path(self._folder.name))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the clients it gave, stop it and remove its folder. Idempotent."""
        while self._clients:
            self._clients.pop().close()
        process, self._process = self._process, None
        if process is not None:
            _stop(process)
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def client(self, *, timeout_s: float = TIMEOUT_S) -> Client:
        """Return a client of this engine; it is closed with the engine."""
        client = Client(self.address, timeout_s=timeout_s)
        self._clients.append(client)
        return client

    def async_client(self, *, timeout_s: float = TIMEOUT_S) -> AsyncClient:
        """Return an asyncio client of this engine, to be used as a context manager."""
        return AsyncClient(self.address, timeout_s=timeout_s)

    def ledger(self, code: str) -> int:
        """Return the number of a ledger by its code; raises ValueError."""
        codes = [ledger.split(":")[0] for ledger in self._ledgers]
        if code not in codes:
            raise ValueError(
                f"the engine has no ledger {code}, only {', '.join(codes)}: name all in Engine(ledgers=...)"
            )
        return codes.index(code) + 1

    def _run(self, folder: Path) -> None:
        ready, log = folder / "ready.json", folder / "log.txt"
        options = [option for ledger in self._ledgers for option in ("--ledger", ledger)]
        places = ["--folder", str(folder / "cluster"), "--ready-file", str(ready)]
        size = ["--groups", str(self._groups), "--replicas", str(self._replicas)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [executable(), "up", *size, *places, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline_s = time.monotonic() + START_S_MAX
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise EngineNotStarted(f"the engine did not start: {log.read_text()[-LOG_TAIL_CHARACTERS:]}")
            time.sleep(LOOK_S)
        told = json.loads(ready.read_text())
        self.address = str(told["router"])
        self.node_process_ids = tuple(int(node["pid"]) for node in told["nodes"])


def executable() -> str:
    """Return the path of `posting-engine`: beside this interpreter, or on the PATH; raises `EngineNotStarted`."""
    beside = Path(sys.executable).parent / COMMAND
    found = str(beside) if beside.exists() else shutil.which(COMMAND)
    if found is None:
        raise EngineNotStarted(f"there is no {COMMAND} on the PATH: install the package posting-engine")
    return found


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to stop; end it hard only if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
