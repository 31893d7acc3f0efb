"""What the machine gave a benchmark: two runs compare only where this does, too."""

import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

LOOP_TURNS: Final = 200_000
LOOP_SAMPLES: Final = 15


class Processors(NamedTuple):
    """Ticks of all processors since the start of this machine (proc(5))."""

    ticks: int
    stolen: int
    """While something was to be run here, and the host ran something else."""

    def stolen_share_since(self, before: "Processors") -> float:
        """Return the part of the time from `before` to now that the host took, 0 to 1."""
        return round((self.stolen - before.stolen) / max(self.ticks - before.ticks, 1), 3)


def processors() -> Processors:
    """Read what the processors have done so far."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return Processors(sum(ticks), ticks[-1])


class MachineRun:
    """From its making to `figures`: one run of a benchmark."""

    def __init__(self) -> None:
        self._load_before, self._fixed_loop_ms_before = os.getloadavg()[0], fixed_loop_ms()
        self._before = processors()

    def figures(self) -> dict[str, object]:
        """Return the interpreter, the load before, what a fixed loop took then and takes now, and the stolen share."""
        return {
            "python": f"{platform.python_version()} of {sys.base_prefix}",
            "load_before": round(self._load_before, 2),
            "fixed_loop_ms": self._fixed_loop_ms_before,
            "fixed_loop_ms_after": fixed_loop_ms(),
            "stolen_share": processors().stolen_share_since(self._before),
        }


def fixed_loop_ms() -> float:
    """Return the median time of the same loop, milliseconds: on a shared host it may double within a second."""
    return round(statistics.median(_loop_s() for _ in range(LOOP_SAMPLES)) * 1e3, 1)


def _loop_s() -> float:
    began_s, total = time.perf_counter(), 0
    for turn in range(LOOP_TURNS):
        total += turn & 7
    return time.perf_counter() - began_s
