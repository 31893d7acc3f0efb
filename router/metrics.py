"""What one router tells Prometheus of itself: what it drives, and what it does for split accounts (DESIGN §12)."""

from collections.abc import Iterable
from typing import Final

from prometheus_client.metrics_core import Metric

from engine.rpc.metrics import counter, gauge
from router.calls import Calls
from router.chains.behind import Behind
from router.split.buckets import Buckets
from router.split.rebalancing import Rebalancing

_BEHIND: Final = "Transfers whose last steps are on their way behind their callers' answers."
_LEFT: Final = "Transfers whose last steps were left to the couriers."


class RouterMetrics:
    """Collects them."""

    def __init__(self, calls: Calls, behind: Behind, buckets: Buckets, rebalancing: Rebalancing) -> None:
        self._calls, self._behind, self._buckets, self._rebalancing = calls, behind, buckets, rebalancing

    async def collect(self) -> Iterable[Metric]:
        """Return every metric of this router."""
        funds = self._buckets.funds
        return [
            gauge("router_calls", "Calls being served.", self._calls.running),
            counter("router_calls_refused", "Calls told to come later, as too many were served.", self._calls.refused),
            gauge("router_behind", _BEHIND, self._behind.rows),
            counter("router_left_to_couriers", _LEFT, self._behind.left_to_couriers),
            gauge("router_split_accounts", "Accounts ever split that this router knows.", len(self._buckets.map)),
            counter("router_relief_rounds", "Rounds in which buckets were read for callers short there.", funds.rounds),
            counter("router_pulls", "Moves between buckets for callers who waited.", funds.pulls),
            counter("router_rebalancing_moves", "Moves that keep buckets near the demand.", self._rebalancing.moves),
            counter("router_splits", "Accounts split by policy.", self._rebalancing.splits),
        ]
