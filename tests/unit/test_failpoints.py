import os
import signal
import subprocess
import sys

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.failpoints import VARIABLE, Failpoint, arm

PASSES = """
from engine.failpoints import Failpoint, arm, reach
import os
arm()
for number in range(4):
    print(number, flush=True)
    reach(Failpoint.NODE_AFTER_DECIDE_LOGGED)
    reach(Failpoint.ROUTER_BEFORE_REPLY)
print(os.environ.get("POSTING_ENGINE_FAILPOINT"))
"""


def run(failpoint: str | None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **({VARIABLE: failpoint} if failpoint else {})}
    return subprocess.run(
        [sys.executable, "-c", PASSES], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_process_dies_by_sigkill_when_it_comes_there() -> None:
    done = run("node-after-decide-logged")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0"])


def test_a_count_lets_it_pass_until_then() -> None:
    done = run("router-before-reply:3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1", "2"])


def test_without_one_nothing_happens() -> None:
    done = run(None)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "None")


@pytest.mark.parametrize("asked", ["nowhere", "router-before-reply:0", "router-before-reply:x", ":1"])
def test_another_name_or_count_ends_the_process_with_the_names_there_are(asked: str) -> None:
    with pytest.raises(EngineStopped) as stopped:
        arm({VARIABLE: asked})
    assert stopped.value.code == ExitCode.CONFIG_INVALID
    assert Failpoint.ROUTER_BEFORE_REPLY in str(stopped.value)
