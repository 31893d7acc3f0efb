"""ListEntries and GetBalanceAt, from the read models."""

from engine.rpc.faults import CallFailed, Reason, unavailable
from postingengine.v1.posting_service_pb2 import (
    GetBalanceAtRequest,
    GetBalanceAtResponse,
    ListEntriesRequest,
    ListEntriesResponse,
)


class Statements:
    """Reads of the past."""

    async def list_entries(self, _: ListEntriesRequest, __: float) -> ListEntriesResponse:
        """Read a page of a statement."""
        raise CallFailed(unavailable(Reason.NOT_READY, "the read models are not open"))

    async def balance_at(self, _: GetBalanceAtRequest, __: float) -> GetBalanceAtResponse:
        """Read a balance of the past."""
        raise CallFailed(unavailable(Reason.NOT_READY, "the read models are not open"))

    def lag(self) -> int:
        """Return how many journal positions the read models are behind."""
        return 0
