"""How the kernel is compiled: no floats, cached by its sources, ready when it is imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.core.compiled import cache_folder, entries_kept_in
from engine.core.events import warm_up
from engine.core.kernel.apply import apply_batch, scan_batch
from engine.core.kernel.arrays import I64_NUMBER, U64_TYPE
from engine.core.kernel.deadlines import fill_deadlines, sweep_deadlines
from engine.core.kernel.faults import find_faults
from engine.core.kernel.replay import replay
from engine.core.kernel.reservations import expire_due
from engine.core.kernel.step_replay import replay_step_rows
from engine.core.kernel.steps import apply_step_batch, scan_steps
from engine.core.kernel.tables import find_accounts_here, find_rows, index_accounts, index_reservations

ENTRIES = (
    *(apply_batch, scan_batch, fill_deadlines, sweep_deadlines, find_faults, replay, expire_due),
    *(find_accounts_here, find_rows, index_accounts, index_reservations),
    *(scan_steps, apply_step_batch, replay_step_rows),
)


def divide(numbers: Any, other: Any) -> Any:
    numbers[0] = numbers[0] / other
    return 0


def test_code_that_computes_with_floats_is_rejected_every_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="computes with floats"):
            entries_kept_in(tmp_path)((U64_TYPE, I64_NUMBER))(divide)


def test_everything_is_compiled_for_one_signature_when_the_kernel_is_imported() -> None:
    warm_up()
    for function in ENTRIES:
        dispatcher: Any = function
        assert dispatcher.signatures
        assert not dispatcher._can_compile


def test_a_second_process_loads_the_kernel_from_the_cache() -> None:
    code = (
        "from engine.core.events import warm_up; warm_up();"
        "from engine.core.kernel.apply import apply_batch as a; print(sum(a.stats.cache_misses.values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "0"


def test_the_cache_folder_changes_with_the_sources(tmp_path: Path) -> None:
    source = tmp_path / "kernel_new.py"
    source.write_text("ONE = 1\n")
    before = cache_folder(tmp_path, [source])
    assert cache_folder(tmp_path, [source]) == before
    source.write_text("ONE = 2\n")
    assert cache_folder(tmp_path, [source]) != before
