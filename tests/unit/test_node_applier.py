"""What the apply thread has behind it, as `describe` tells it."""

import asyncio

from engine.service.applier import Applier

HANDED = 5


class Machine:
    """Applies nothing: the thread is never started."""

    applied_index = 3
    state_hash = bytes(32)


def applier(machine: Machine) -> Applier:
    loop = asyncio.get_running_loop()
    return Applier(machine, loop, answered=list, failed=print, group_records_max=1)  # type: ignore[arg-type]


async def test_no_ops_that_the_log_kept_to_itself_are_no_lag():
    assert applier(Machine()).applied_through(HANDED) == HANDED


async def test_a_record_that_waits_is_lag():
    machine = Machine()
    waiting = applier(machine)
    waiting.put(4, 1, b"record")
    assert waiting.applied_through(HANDED) == 3
    machine.applied_index = 4
    assert waiting.applied_through(HANDED) == HANDED


async def test_what_a_snapshot_brought_is_told_before_the_log_counts_it():
    machine = Machine()
    installed = applier(machine)
    installed.jumped_to(9)
    machine.applied_index = 9
    assert installed.applied_through(HANDED) == 9
