"""Failpoints: named places in the life of a cross-group chain at which a process kills itself, for tests of crashes.

`POSTING_ENGINE_FAILPOINT=name[:count]` in a process's environment arms one of them: the process sends itself SIGKILL
when it comes there for the `count`-th time (1 unless given), so that nothing of it is flushed, closed or answered.
Without the variable nothing happens. A started process takes its failpoint out of its own environment, so that what it
starts does not inherit it.
"""

import os
import signal
from collections.abc import MutableMapping
from enum import StrEnum
from typing import Final

from engine.exit_codes import EngineStopped, ExitCode

VARIABLE: Final = "POSTING_ENGINE_FAILPOINT"


class Failpoint(StrEnum):
    """Where a process may be told to die.

    NODE: before a record with such a step is proposed; once it is applied, before it is answered. ROUTER and COURIER:
    before such steps are sent; once they are answered.
    """

    NODE_BEFORE_RESERVE_LOGGED = "node-before-reserve-logged"
    NODE_AFTER_RESERVE_LOGGED = "node-after-reserve-logged"
    NODE_BEFORE_DECIDE_LOGGED = "node-before-decide-logged"
    NODE_AFTER_DECIDE_LOGGED = "node-after-decide-logged"
    NODE_BEFORE_COMMIT_LOGGED = "node-before-commit-logged"
    NODE_AFTER_COMMIT_LOGGED = "node-after-commit-logged"
    NODE_BEFORE_RELEASE_LOGGED = "node-before-release-logged"
    NODE_AFTER_RELEASE_LOGGED = "node-after-release-logged"
    NODE_BEFORE_ABORT_LOGGED = "node-before-abort-logged"
    NODE_AFTER_ABORT_LOGGED = "node-after-abort-logged"
    NODE_BEFORE_HOLD_LOGGED = "node-before-hold-logged"
    NODE_AFTER_HOLD_LOGGED = "node-after-hold-logged"
    NODE_BEFORE_EXPIRE_LOGGED = "node-before-expire-logged"
    NODE_AFTER_EXPIRE_LOGGED = "node-after-expire-logged"
    ROUTER_BEFORE_RESERVE_SENT = "router-before-reserve-sent"
    ROUTER_BEFORE_DECIDE_SENT = "router-before-decide-sent"
    ROUTER_AFTER_DECIDE_SENT = "router-after-decide-sent"
    ROUTER_BEFORE_COMMIT_SENT = "router-before-commit-sent"
    ROUTER_AFTER_COMMIT_SENT = "router-after-commit-sent"
    ROUTER_BEFORE_REPLY = "router-before-reply"
    ROUTER_AFTER_REPLY = "router-after-reply"
    COURIER_BEFORE_SENT = "courier-before-sent"
    COURIER_AFTER_SENT = "courier-after-sent"


class _Armed:
    """What this process is to die at, and how often it may still pass."""

    name: Failpoint | None = None
    passes = 0


def arm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Arm what the environment names, and take it out; raises `EngineStopped` (CONFIG_INVALID) for anything else."""
    asked = environment.pop(VARIABLE, "")
    name, _, count = asked.partition(":")
    if not asked:
        return
    if name not in Failpoint.__members__.values() or not (count or "1").isdecimal() or not int(count or "1"):
        known = ", ".join(Failpoint)
        raise EngineStopped(
            ExitCode.CONFIG_INVALID, f"{VARIABLE}={asked} is not name[:count] with a count from 1 and a name of {known}"
        )
    _Armed.name, _Armed.passes = Failpoint(name), int(count or "1") - 1


def is_armed() -> bool:
    """Whether this process is to die anywhere: spares others what it costs to know where they are."""
    return _Armed.name is not None


def reach(point: Failpoint | None) -> None:
    """Die here, if this process is to; None is no place to die at."""
    if _Armed.name is None or point is not _Armed.name:
        return
    if _Armed.passes:
        _Armed.passes -= 1
        return
    os.kill(os.getpid(), signal.SIGKILL)
