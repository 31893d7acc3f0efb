"""Compares this replica's running state hash with its leader's at the same log index (invariant I12)."""

from collections import OrderedDict

from engine.exit_codes import EngineStopped, ExitCode


class StateHashes:
    """The newest pairs of this replica, and the leader's that wait until this replica is as far. Both bounded."""

    def __init__(self, pairs_max: int) -> None:
        """Keep at most `pairs_max` pairs of either side; the oldest go first."""
        self._pairs_max = pairs_max
        self._own: OrderedDict[int, bytes] = OrderedDict()
        self._leaders: OrderedDict[int, bytes] = OrderedDict()

    def newest(self) -> tuple[int, bytes]:
        """What a leader attaches to its heartbeats; (0, b"") before there is any."""
        return next(reversed(self._own.items())) if self._own else (0, b"")

    def note(self, log_index: int, state_hash: bytes) -> None:
        """The store is at `log_index` with this hash. Raises `EngineStopped(HASH_DIVERGED)`."""
        self._keep(self._own, log_index, state_hash)
        expected = self._leaders.pop(log_index, None)
        if expected is not None:
            _compare(log_index, state_hash, expected)

    def expect(self, log_index: int, state_hash: bytes) -> None:
        """The leader has this hash at `log_index`. Raises `EngineStopped(HASH_DIVERGED)`."""
        own = self._own.get(log_index)
        if own is not None:
            _compare(log_index, own, state_hash)
        elif log_index > self.newest()[0]:
            self._keep(self._leaders, log_index, state_hash)

    def forget(self) -> None:
        """A snapshot replaced the store."""
        self._own.clear()
        self._leaders.clear()

    def _keep(self, pairs: OrderedDict[int, bytes], log_index: int, state_hash: bytes) -> None:
        pairs[log_index] = state_hash
        if len(pairs) > self._pairs_max:
            pairs.popitem(last=False)


def _compare(log_index: int, own: bytes, leaders: bytes) -> None:
    if own != leaders:
        raise EngineStopped(
            ExitCode.HASH_DIVERGED,
            f"this replica's state differs from its leader's at log index {log_index} ({own.hex()[:16]} here, "
            f"{leaders.hex()[:16]} there): keep its folder for the inquiry, run `verify` on both, and replace it",
        )
