"""What a benchmark says of the machine that it ran on."""

import platform
import sys
from pathlib import Path

import pytest

from bench.machine import MachineRun, Processors, fixed_loop_ms, processors


def test_figures_name_the_interpreter_that_measured_them() -> None:
    assert MachineRun().figures()["python"] == f"{platform.python_version()} of {sys.base_prefix}"


def test_the_fixed_loop_is_told_by_its_median_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 0.009, 1.0, 1.007, 2.0, 2.5))
    monkeypatch.setattr("bench.machine.LOOP_SAMPLES", 3)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert fixed_loop_ms() == 9.0


def test_what_the_host_took_is_a_share_of_all_processors_time() -> None:
    assert Processors(ticks=1400, stolen=110).stolen_share_since(Processors(ticks=1000, stolen=10)) == 0.25
    assert 0 <= processors().stolen_share_since(Processors(0, 0)) < 1


def test_stolen_ticks_are_the_eighth_of_all_processors_and_guests_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
    assert processors() == Processors(ticks=36, stolen=8)
