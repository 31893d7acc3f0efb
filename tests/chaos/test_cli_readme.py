"""What the README tells its reader to type works, against a real cluster."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from postingengine.testing import Engine
from postingengine.v1.posting_service_pb2 import PostTransfersRequest

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
COMMAND_S_MAX: Final = 180
EXAMPLE_ADDRESS: Final = "127.0.0.1:7000"


def block(mark: str) -> str:
    """Return the fenced lines below a comment that begins with `mark`."""
    found = re.search(rf"<!-- {mark}:.*?-->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no {mark}"
    return found[1]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as running:
        yield running


def run(command: list[str], engine: Engine) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        stdin=subprocess.DEVNULL,
        check=False,
        env={"POSTING_ENGINE_SERVER": engine.address, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
    return done.stdout


def test_the_tour_of_commands_works_line_by_line(engine: Engine) -> None:
    lines = block("tour").splitlines()
    assert len(lines) >= 8
    told = {line: run([sys.executable, "-m", "cli", *shlex.split(line)[1:]], engine) for line in lines}
    (balances,) = (text for line, text in told.items() if " balance " in line)
    assert "67.50" in balances  # 100.00 - 12.50 - 20.00: the rest of the reservation was released
    assert "32.50" in balances
    (statement,) = (text for line, text in told.items() if " statement " in line)
    assert len(statement.splitlines()) == 4


def test_the_python_example_posts_one_transfer(engine: Engine) -> None:
    program = block("python").replace(EXAMPLE_ADDRESS, engine.address)
    assert run([sys.executable, "-c", program], engine) == "POSTED 12.50\n"


def test_the_grpc_example_is_a_request_of_the_contract() -> None:
    from google.protobuf import json_format  # noqa: PLC0415

    found = re.search(r"grpcurl .*?-d '(.*?)' *\\\n +\S+ (\S+)", README, re.DOTALL)
    assert found
    request = json_format.Parse(found[1], PostTransfersRequest())
    assert [len(one.id) for one in request.transfers] == [16]
    assert request.transfers[0].amount.low == 1250
    assert found[2] == "postingengine.v1.PostingService/PostTransfers"


def test_the_make_targets_of_the_readme_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= targets
