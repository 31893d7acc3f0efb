"""Waiting until nothing is on its way between groups: a posted transfer's debit may follow its answer by a moment."""

import asyncio
from typing import Final

import grpc

from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2 import AuditRequest
from postingengine.v1.admin_service_pb2_grpc import AdminServiceStub

SETTLED_S_MAX: Final = 60.0
PAUSE_S: Final = 0.05
READ_S_MAX: Final = 30.0


async def until_settled(channel: grpc.aio.Channel) -> None:
    """Return once no group has a chain open; raises `EngineStopped` if some still are after `SETTLED_S_MAX`."""
    stub, loop = AdminServiceStub(channel), asyncio.get_running_loop()
    until_s = loop.time() + SETTLED_S_MAX
    while True:
        answer = await stub.Audit(AuditRequest(), timeout=READ_S_MAX, wait_for_ready=True)
        silent = [group for group in answer.groups if group.HasField("fault")]
        opened = sum(group.open_chains for group in answer.groups)
        if not opened and not silent:
            return
        if loop.time() > until_s:
            words = f"{opened} chains are open still, after {SETTLED_S_MAX:g} s; see `posting-engine open`"
            raise EngineStopped(ExitCode.FAILED, words)
        await asyncio.sleep(PAUSE_S)
