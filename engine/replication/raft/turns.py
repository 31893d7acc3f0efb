"""Turns of one replica's log: what arrives asks for one, the clock gives the others, and an error ends them all."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.settings import TICK_S

STALL_TICKS: Final = 4
"""A turn later than this many ticks means that this process stood still, not that its leader is dead."""

log = logging.getLogger(__name__)


class Turns:
    """Runs `advance` once a tick, and soon after whatever asks for it, however often that is."""

    def __init__(
        self, advance: Callable[[], None], stop_process: Callable[[EngineStopped], None], now: Callable[[], float]
    ) -> None:
        """`now` is the monotonic clock, in seconds."""
        self._advance, self._stop_process, self._now = advance, stop_process, now
        self.running = False
        """Whether turns are taken: after `begin`, until the log stops or is halted."""
        self._halted = self._due = self._tick_is_due = False
        self._turned_at_s = now()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Take the turns that are asked for, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self.running = True

    def tick(self) -> None:
        """Ask for a turn now and at every tick."""
        self._timer = self._loop.call_later(TICK_S, self.tick)
        self._tick_is_due = True
        self.soon()

    def soon(self) -> None:
        """Ask for a turn."""
        if not self._due and self.running:
            self._due = True
            self._loop.call_soon(self._turn)

    def call_later(self, seconds: float, callback: Callable[[int], None], log_index: int) -> None:
        """Call `callback(log_index)` in so many seconds."""
        self._loop.call_later(seconds, callback, log_index)

    def end(self) -> None:
        """Take no more turns."""
        self.running = False
        if self._timer is not None:
            self._timer.cancel()

    def take_tick(self) -> bool:
        """Return whether a tick is due, once for each."""
        due, self._tick_is_due = self._tick_is_due, False
        return due

    def stalled(self) -> bool:
        """Return whether the last call was so long ago that this process must have stood still. Once a tick."""
        now = self._now()
        late = now - self._turned_at_s > STALL_TICKS * TICK_S
        self._turned_at_s = now
        return late

    def halt(self, stopped: EngineStopped) -> None:
        """Nothing more is sent, written or applied by this log; the first reason is the one that is told."""
        self.running = False
        if not self._halted:
            self._halted = True
            log.critical("%s", stopped)
            self._stop_process(stopped)

    def halt_for(self, error: Exception) -> None:
        """Halt for what no state of a group explains."""
        words = f"the replicated log met a state it cannot be in ({error!r}): report this"
        self.halt(EngineStopped(ExitCode.FAILED, words))

    def _turn(self) -> None:
        self._due = False
        if not self.running:
            return
        try:
            self._advance()
        except EngineStopped as stopped:
            self.halt(stopped)
        except Exception as error:
            self.halt_for(error)
            raise
