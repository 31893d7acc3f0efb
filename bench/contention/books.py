"""What the groups say of their own books: whether they add up, and whether money is still on its way between them."""

import asyncio
import time
from typing import Final

from bench.bulk import CALL_S_MAX, open_stub
from postingengine.v1 import admin_service_pb2_grpc
from postingengine.v1.admin_service_pb2 import AuditRequest, ListOpenRequest

SETTLE_S_MAX: Final = 60.0
SETTLE_PAUSE_S: Final = 0.01


class Books:
    """Asks through a router."""

    def __init__(self, address: str, groups: int) -> None:
        """`groups` is how many the cluster has: within one nothing is ever on its way."""
        self._channel, _ = open_stub(address)
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self._groups = groups

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def balanced(self) -> bool:
        """Return whether every group's books add up; raises RuntimeError as `until_settled`."""
        await self.until_settled()
        groups = (await self._admin.Audit(AuditRequest(), timeout=CALL_S_MAX)).groups
        return all(group.balanced and not group.HasField("fault") for group in groups)

    async def until_settled(self) -> None:
        """Wait until no chain is open: COMMITs follow their callers' answers. Raises RuntimeError if it takes long."""
        until_s = time.monotonic() + SETTLE_S_MAX
        for group in range(self._groups if self._groups > 1 else 0):
            while await self._has_open_chains(group):
                if time.monotonic() > until_s:
                    raise RuntimeError(f"group {group} still has open chains after {SETTLE_S_MAX:g} s")
                await asyncio.sleep(SETTLE_PAUSE_S)

    async def _has_open_chains(self, group: int) -> bool:
        """Look at the oldest one only: an audit would look at all of them, and hold the group up."""
        page = await self._admin.ListOpen(ListOpenRequest(groups=[group], page_size=1), timeout=CALL_S_MAX)
        return bool(page.chains)
