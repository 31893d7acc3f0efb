"""How old a follower's state is at most: what a stale read says about itself (DESIGN §9)."""

from collections.abc import Callable


class Freshness:
    """Seconds since this replica had applied all that a leader had then committed."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Nothing is known yet."""
        self._now = now
        self._fresh_at_s: float | None = None
        self._target: tuple[int, float] | None = None

    def heard(self, commit_index: int) -> None:
        """A leader says that all up to `commit_index` is committed. One target at a time."""
        if self._target is None:
            self._target = commit_index, self._now()

    def applied(self, log_index: int) -> None:
        """All up to `log_index` was handed over."""
        if self._target is not None and log_index >= self._target[0]:
            self._fresh_at_s, self._target = self._target[1], None

    def age_s(self) -> float | None:
        """None before any leader was heard."""
        return None if self._fresh_at_s is None else self._now() - self._fresh_at_s
