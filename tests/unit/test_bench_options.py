"""Options of the benchmarks: named as they are run, with their defaults, and refused before anything starts."""

import subprocess
import sys

import pytest

MODULES = ("bench.contention", "bench.smoke")


def told(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", MODULES)
def test_help_names_the_command_and_every_default(module: str) -> None:
    shown = told(module, "--help").stdout
    assert shown.startswith(f"usage: python -m {module}")
    options = {line.split()[0] for line in shown.splitlines() if line.startswith("  --")}
    assert len(options) == shown.count("(default:") > 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["bench.contention", "--rounds", "0"], "0 is not a whole number from 1 on"),
        (["bench.contention", "--cross-share", "3"], "3 is not a share"),
        (["bench.contention", "--cross-share", "nan"], "nan is not a share"),
        (["bench.contention", "--workloads", "nonsense"], "no workload nonsense"),
        (["bench.smoke", "--replicas", "none"], "none is not a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: list[str], words: str) -> None:
    refused = told(*options)
    assert refused.returncode == 2
    assert words in refused.stderr
