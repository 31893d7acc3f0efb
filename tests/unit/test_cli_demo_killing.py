"""When the demonstration kills a leader: in the middle of its import, however long it takes to find out who leads."""

import asyncio
import os
import signal
import threading
import time

import pytest

from cli.beancount.posting import Tally
from cli.demo.run import Killing

PID = 7


async def test_the_import_waits_for_the_leaders_and_the_first_is_killed_when_they_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed, found, tally = list[tuple[int, int]](), threading.Event(), Tally()
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))

    def leader_pids() -> list[int]:
        found.wait()
        return [PID]

    killing = Killing(leader_pids, transfers=100)
    tally.posted, tally.in_flight = 39, 2
    assert killing(tally) is None
    tally.posted = 50
    waits = [killing(tally), killing(tally)]
    assert None not in waits and killed == []
    found.set()
    assert await asyncio.gather(*waits) == [[PID], [PID]]  # type: ignore[arg-type]
    assert killing(tally) is None and killed == [(PID, signal.SIGKILL)]
    assert not killing.is_over
    tally.asked_at_s = time.monotonic()
    assert killing(tally) is None and killing.is_over
