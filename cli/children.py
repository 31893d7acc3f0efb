"""One process of a cluster on this machine: started with its environment, again when it falls, and stopped clean."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from engine.exit_codes import ExitCode

MALLOC_ENVIRONMENT: Final = {
    # glibc would map and unmap every message of 1 MiB; kept in the heap, a gRPC call costs half.
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
BACK_OFF_S_MIN: Final = 0.1
BACK_OFF_S_MAX: Final = 10.0
STEADY_S: Final = 30.0
"""A process that ran this long starts again without the back-off of earlier falls."""

STAYS_DOWN: Final = frozenset(
    {
        ExitCode.USAGE,
        ExitCode.CONFIG_INVALID,
        ExitCode.CLUSTER_MISMATCH,
        ExitCode.DATA_DAMAGED,
        ExitCode.DATA_MISSING,
        ExitCode.DISK_FULL,
        ExitCode.SYNC_FAILED,
        ExitCode.APPLY_FAILED,
        ExitCode.HASH_DIVERGED,
        ExitCode.FOLDER_IN_USE,
        ExitCode.MAP_FULL,
    }
)
"""Another start would end the same way or make it worse: these need an operator."""


class Process(Protocol):
    """A process that runs, as `asyncio` has it: `returncode` is None until it has ended."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def returncode(self) -> int | None:
        """The exit status; negative: the signal that ended it."""

    async def wait(self) -> int:
        """Return the exit status once it has ended."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""


Launch = Callable[[list[str], Path], Awaitable[Process]]
"""Starts a command whose output is added to a file; raises `OSError` where that is not possible now."""

Report = Callable[["Child", int], None]
"""Called when a process has ended unasked, with its exit status (negative: the signal that killed it)."""
Started = Callable[[], None]
"""Called each time the process has been started: it has another `pid`."""


class Child:
    """A supervised process. `pid` is None while it does not run; `gave_up` is set once it will not be started again."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        group: int | None,
        address: str,
        log: Path,
        metrics: str | None = None,
        launch: Launch | None = None,
    ) -> None:
        """Describe one process; `group` is None for a router, `address` is where it serves the API, `metrics` where it
        tells of itself. `launch` starts `command`: as a program if it is not given."""
        self.name = name
        self.command = command
        self.group = group
        self.address, self.metrics = address, metrics
        self.log = log
        self.restarts = 0
        self.gave_up: ExitCode | None = None
        self._launch = launch or execute
        self._process: Process | None = None
        self._status = int(ExitCode.OK)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    def start(self, fell: Report, started: Started = lambda: None) -> None:
        """Start it, and again whenever it falls, with growing pauses, until it is stopped or given up."""
        self._task = asyncio.create_task(self._keep_running(fell, started), name=self.name)

    async def stop(self, deadline_s: float) -> bool:
        """Ask it to stop and wait; kill it at the deadline. Return whether it ended by itself, and well."""
        self._stopping.set()
        if self._task is None:
            return True
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._task}, timeout=deadline_s)
        if not done:
            self._signal(signal.SIGKILL)
            await self._task
        # A process that was just starting has no handler yet, and nothing to finish.
        return self._status in (ExitCode.OK, -signal.SIGTERM)

    async def _keep_running(self, fell: Report, started: Started) -> None:
        pause_s = BACK_OFF_S_MIN
        while not self._stopping.is_set():
            began = time.monotonic()
            self._status = await self._run_once(started)
            if self._stopping.is_set():
                return
            if self._status in STAYS_DOWN:
                self.gave_up = ExitCode(self._status)
            fell(self, self._status)
            if self.gave_up is not None:
                return
            pause_s = BACK_OFF_S_MIN if time.monotonic() - began > STEADY_S else min(2 * pause_s, BACK_OFF_S_MAX)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            self.restarts += 1

    async def _run_once(self, started: Started) -> int:
        """Start the process and return its exit status; negative: the signal that ended it."""
        try:
            self._process = await self._launch(self.command, self.log)
        except OSError as error:
            with self.log.open("a") as log:
                log.write(f"{error}\n")
            return int(ExitCode.FAILED)
        started()
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        return await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def last_words(self) -> str:
        """Return the last line of its log, for a report of why it fell."""
        try:
            lines = self.log.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


async def execute(command: list[str], log: Path) -> Process:
    """Start a program, its output added to `log`."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**MALLOC_ENVIRONMENT, **os.environ},
            # Ctrl-C in a terminal goes to every process of its session: only the supervisor shall act on it.
            start_new_session=True,
        )
