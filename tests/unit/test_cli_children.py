"""Supervised processes: which are started again, and how they stop."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from cli.children import Child
from cli.supervisor import until_settled
from engine.exit_codes import ExitCode

WAITS_FOR_SIGTERM = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True)\n"
)
WAITS = WAITS_FOR_SIGTERM + "while True: signal.pause()"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
WAITS_S_MAX = 20


def child(script: str, folder: Path) -> Child:
    return Child("node", [sys.executable, "-c", script], group=0, address="", log=folder / "node.log")


async def until_up(one: Child, starts: int) -> None:
    async with asyncio.timeout(WAITS_S_MAX):
        while not one.log.exists() or one.log.read_text().count("up") < starts:
            await asyncio.sleep(0.01)


async def test_a_killed_process_is_started_again_and_stops_clean(tmp_path: Path) -> None:
    statuses: list[int] = []
    one = child(WAITS, tmp_path)
    one.start(lambda _, status: statuses.append(status))
    await until_up(one, starts=1)
    assert one.pid is not None
    os.kill(one.pid, signal.SIGKILL)
    await until_up(one, starts=2)
    assert statuses == [-signal.SIGKILL]
    assert one.restarts == 1
    assert await one.stop(WAITS_S_MAX)
    assert one.pid is None


async def test_a_process_whose_data_is_damaged_stays_down(tmp_path: Path) -> None:
    fell = asyncio.Event()
    one = child(f"print('the log is damaged'); raise SystemExit({ExitCode.DATA_DAMAGED:d})", tmp_path)
    one.start(lambda *_: fell.set())
    await asyncio.wait_for(fell.wait(), WAITS_S_MAX)
    assert one.gave_up == ExitCode.DATA_DAMAGED
    assert one.last_words() == "the log is damaged"
    assert not await one.stop(WAITS_S_MAX)


async def test_a_cluster_does_not_wait_for_a_process_that_stays_down(tmp_path: Path) -> None:
    script = f"raise SystemExit({ExitCode.DATA_MISSING:d})"
    one = Child("node", [sys.executable, "-c", script], group=0, address="127.0.0.1:1", log=tmp_path / "node.log")
    one.start(lambda *_: None)
    await asyncio.wait_for(until_settled(one), WAITS_S_MAX)
    assert one.gave_up == ExitCode.DATA_MISSING


async def test_a_process_that_does_not_stop_is_killed_at_the_deadline(tmp_path: Path) -> None:
    one = child(IGNORES_SIGTERM + "while True: signal.pause()", tmp_path)
    one.start(lambda *_: None)
    await until_up(one, starts=1)
    assert not await one.stop(deadline_s=0.1)
    assert one.pid is None


async def test_a_process_that_waits_to_start_again_can_be_stopped(tmp_path: Path) -> None:
    fell = asyncio.Event()
    one = child("raise SystemExit(1)", tmp_path)
    one.start(lambda *_: fell.set())
    await asyncio.wait_for(fell.wait(), WAITS_S_MAX)
    await one.stop(WAITS_S_MAX)
    assert one.pid is None
