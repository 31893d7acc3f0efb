"""The views of one replica: a thread that follows the journal, and the questions that any thread may ask."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from engine.core.book import Book
from engine.core.kernel.tables import find_rows
from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.store import MAP_BYTES_MAX, Store
from engine.storage.views.answers import Asked, Basis, Covered, Page, Posted, Resume, Seen
from engine.storage.views.run import Sections, build_run
from engine.storage.views.run_store import Manifest, RunInfo, ViewStore
from engine.storage.views.statements import Statements
from engine.storage.views.tail import RUN_ROWS, Movements, Tail

PACE_S: Final = 0.05
"""Between two looks at the journal while nobody waits: many blocks at a time cost less than each by itself."""
IDLE_S: Final = 1.0
BLOCKS_PER_STEP: Final = 256
"""Blocks indexed in one read transaction, which holds old pages while it lasts."""
ENTRIES_MAX: Final = 8190
"""Lines of one page."""
_RETRIES_MAX: Final = 100


class Views:
    """Statements and as-of balances. `start` begins to follow the journal; see the methods for threads."""

    def __init__(
        self, folder: Path, store: Store, book: Book, *, map_bytes_max: int = MAP_BYTES_MAX, run_rows: int = RUN_ROWS
    ) -> None:
        """Open the views in `folder`; runs of another journal are dropped. Raises `EngineStopped`."""
        self._journal, self._book, self._run_rows = store.journal, book, run_rows
        self._store = ViewStore(folder, map_bytes_max=map_bytes_max)
        self._manifest = self._store.manifest_for(store.journal)
        last_ns = self._manifest.runs[-1].last_ns if self._manifest.runs else 0
        self._covered = Covered(self._manifest.log_index, self._manifest.end_position, last_ns)
        self._tail = Tail(self._manifest.end_position, run_rows)
        self._last_hash = self._manifest.hash
        self._changed = threading.Condition()
        self._waiting = 0
        self._saved = threading.Event()
        self._urgent = threading.Event()
        self._stopping = False
        self._retries = 0
        self.failure: EngineStopped | None = None
        self._thread = threading.Thread(target=self._run, name="views", daemon=True)

    # -- for the owner

    def start(self) -> None:
        """Begin to follow the journal."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close; the store must still be open."""
        self._stopping = True
        self._saved.set()
        self._urgent.set()
        if self._thread.is_alive():
            self._thread.join()
        self._store.close()

    def wake(self) -> None:
        """The store saved blocks. Any thread; returns at once."""
        self._saved.set()

    # -- for anyone

    @property
    def covered(self) -> Covered:
        """How far the views are."""
        return self._covered

    def wait(self, log_index: int, deadline_s: float) -> bool:
        """Wait until the views cover what the store had saved of `log_index`, or the deadline (`time.monotonic`) has
        passed: then False. Raises what ended the thread."""
        with self._changed:
            self._waiting += 1
            self._urgent.set()
            self._saved.set()
            try:
                while self._covered.log_index < log_index and self.failure is None:
                    if not self._changed.wait(max(0.0, deadline_s - time.monotonic())):
                        return self._covered.log_index >= log_index
            finally:
                self._waiting -= 1
        self._require_sound()
        return True

    def balance_at(self, account_id: bytes, basis: Basis, time_ns: int) -> tuple[Posted, Covered] | None:
        """Return what was posted to an account up to and including `time_ns`; None if there is no such account."""
        account = self._account(account_id)
        if account is None:
            return None
        with self._statements() as (statements, seen):
            return statements.balance_before(account, basis, time_ns + 1), seen.covered

    def list_entries(
        self, account_id: bytes, basis: Basis, from_ns: int, to_ns: int, limit: int, resume: Resume | None = None
    ) -> Page | None:
        """Return lines of a statement from `from_ns` to before `to_ns`, at most `limit`; None if there is no such
        account. `resume` is the one of the page before, of the same statement."""
        account = self._account(account_id)
        if account is None:
            return None
        with self._statements() as (statements, _):
            return statements.page(Asked(account, basis, from_ns, to_ns, min(limit, ENTRIES_MAX), resume))

    @contextlib.contextmanager
    def _statements(self) -> Iterator[tuple[Statements, Seen]]:
        self._require_sound()
        with self._changed:
            seen = Seen(self._manifest.runs, self._tail.seen(), self._tail.first_position, self._covered)
        with self._store.reading() as reader:
            yield Statements(seen, reader, self._journal), seen

    def _account(self, account_id: bytes) -> int | None:
        tables = self._book.tables  # once: the apply thread replaces it as a whole when tables grow
        ids, found = np.frombuffer(account_id, np.uint64).reshape(1, 2).copy(), np.empty(1, np.int64)
        find_rows(tables.account_slots, tables.accounts, ids, np.uint64(self._book.hash_seed), found)
        return None if found[0] < 0 else int(found[0])

    def _require_sound(self) -> None:
        if self.failure is not None:
            raise self.failure

    # -- on the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._saved.clear()
                while self._step() and not self._stopping:
                    pass
                self._saved.wait(IDLE_S)
                if not self._waiting:
                    self._urgent.clear()
                    self._urgent.wait(PACE_S)
        except EngineStopped as stopped:
            self._fail(stopped)
        except Exception as error:  # of no kind foreseen: the views end, money goes on moving
            self._fail(EngineStopped(ExitCode.FAILED, f"the views failed ({error!r}): report this, then restart"))

    def _fail(self, failure: EngineStopped) -> None:
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def _step(self) -> bool:
        """Index some blocks; return whether there may be more."""
        covered, number = self._covered, 0
        with contextlib.closing(self._journal.blocks_after(covered.position, covered.log_index)) as blocks:
            for block in blocks:
                if not self._tail.append(block, self._book):
                    self._retry(block.header.first_position)
                    return False
                number += 1
                last_ns = int(block.rows[-1, 13]) if len(block.rows) else self._covered.timestamp_ns
                self._last_hash = block.header.hash
                self._publish(Covered(block.header.log_index, block.header.end_position, last_ns))
                if number >= BLOCKS_PER_STEP or self._is_full or self._stopping:
                    break
        if self._is_full:
            self._make_run()
        return number > 0

    @property
    def _is_full(self) -> bool:
        return self._tail.end_position - self._tail.first_position >= self._run_rows

    def _publish(self, covered: Covered) -> None:
        with self._changed:
            self._covered = covered
            self._retries = 0
            if self._waiting:
                self._changed.notify_all()

    def _retry(self, position: int) -> None:
        """An account of the block is not visible to this thread yet: look again soon, but not for ever."""
        self._retries += 1
        if self._retries > _RETRIES_MAX:
            raise EngineStopped(
                ExitCode.DATA_DAMAGED,
                f"the block at position {position} names an account that the book lacks: run `verify` on this replica",
            )
        time.sleep(PACE_S)

    def _make_run(self) -> None:
        info, sections = make_run(
            self._tail.seen(), self._tail.first_position, self._tail.end_position, self._covered.timestamp_ns
        )
        manifest = Manifest((*self._manifest.runs, info), self._covered.log_index, self._last_hash)
        self._store.add(manifest, sections)
        with self._changed:
            self._manifest, self._tail = manifest, Tail(self._tail.end_position, self._run_rows)


def make_run(movements: Movements, first_position: int, end_position: int, last_ns: int) -> tuple[RunInfo, Sections]:
    """Make a run of the movements of the rows from `first_position` to before `end_position`."""
    times = movements.value_ns
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    return RunInfo(first_position, end_position, first, last, last_ns), build_run(movements)
