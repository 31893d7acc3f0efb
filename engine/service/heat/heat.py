"""The heat of one replica's group: fed on the apply thread with what is applied while this replica leads, and read
there."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from engine.config import HotAccountsConfig, HotAccountsPolicy
from engine.core.book import Book
from engine.core.records import AccountFlag, Words
from engine.service.heat.advice import Advice, advise, hot_accounts
from engine.service.heat.sketch import Sketch
from engine.service.heat.window import NS_PER_S, Window, read_window

TOGETHER_ROWS: Final = 64
"""Rows of small records are put aside, and counted so many at a time: somebody may wait for what comes after."""
LIMITED: Final = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS | AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS


class Report(NamedTuple):
    """What the last full window says; before there is one, what was counted so far."""

    window: Window
    advice: tuple[Advice, ...]
    """One for each account of the window, in its order."""


class Heat:
    """On the apply thread only."""

    def __init__(
        self,
        policy: HotAccountsConfig,
        book: Callable[[], Book],
        is_leader: Callable[[], bool],
        *,
        groups: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Count nothing before the first record that is applied while `is_leader`; `groups` is how many there are."""
        self.policy, self._book, self._is_leader, self._groups = policy, book, is_leader, groups
        self._clock_ns = clock_ns
        self._sketch = Sketch()
        self._aside: list[Words] = []
        self._aside_rows = 0
        self._began_ns: int | None = None
        """None: not counting."""
        self._last: Window | None = None
        self._windows_hot: dict[bytes, int] = {}

    @property
    def is_on(self) -> bool:
        """Whether heat is measured at all."""
        return self.policy.policy is not HotAccountsPolicy.OFF

    def note(self, rows: Words) -> None:
        """Count the journal rows of one log record."""
        if not self.is_on or not self._counts():
            return
        if len(rows) < TOGETHER_ROWS:
            rows = rows.copy()
        self._aside.append(rows)
        self._aside_rows += len(rows)
        if self._aside_rows >= TOGETHER_ROWS:
            self._count()

    def report(self, accounts_max: int) -> Report:
        """Tell about the `accounts_max` hottest accounts."""
        window = (self._counts() and self._last) or self._running()
        told = window._replace(accounts=window.accounts[:accounts_max])
        return Report(told, advise(told, self._windows_hot, self._limited(told), self._groups, self.policy))

    def _counts(self) -> bool:
        """Whether this replica leads; begins to count, closes windows that are over, or forgets what it counted."""
        if not self._is_leader():
            if self._began_ns is not None:
                self._aside, self._aside_rows = [], 0
                self._sketch.clear()
                self._began_ns, self._last, self._windows_hot = None, None, {}
            return False
        now_ns = self._clock_ns()
        if self._began_ns is None:
            self._began_ns = now_ns
        elif now_ns - self._began_ns >= self.policy.window_s * NS_PER_S:
            self._close(now_ns - self._began_ns)
            self._began_ns = now_ns
        return True

    def _count(self) -> None:
        """Count what was put aside."""
        book = self._book()
        for rows in self._aside:
            self._sketch.note(rows, book.tables.slot_is_ours, book.hash_seed)
        self._aside, self._aside_rows = [], 0

    def _close(self, length_ns: int) -> None:
        self._count()
        self._last = read_window(self._sketch, length_ns)
        self._sketch.clear()
        before = self._windows_hot
        self._windows_hot = {one: before.get(one, 0) + 1 for one in hot_accounts(self._last, self.policy)}

    def _running(self) -> Window:
        """Return the window that is not over yet."""
        began_ns = self._clock_ns() if self._began_ns is None else self._began_ns
        self._count()
        return read_window(self._sketch, self._clock_ns() - began_ns)

    def _limited(self, window: Window) -> frozenset[bytes]:
        found = ((one.account, self._book().account(one.account)) for one in window.accounts)
        return frozenset(account for account, row in found if row is not None and int(row["flags"][0]) & LIMITED)
