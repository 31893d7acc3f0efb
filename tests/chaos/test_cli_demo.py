"""The demonstration, run as a user runs it."""

import re

from tests.chaos.processes import run

DEMO_S_MAX = 400


def test_the_demonstration_holds_on_three_replicas_whose_hashes_are_equal() -> None:
    done = run("demo", timeout_s=DEMO_S_MAX)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(r"DEMO OK: (\d+) transfers, (\d+) accounts, 0 differences, failover \d+ ms", last)
    assert found, last
    assert int(found[1]) > 1_000
    assert f"all {found[1]} transfers REPLAYED" in done.stdout
