"""What one replica tells Prometheus of itself: the log, the queues, the apply thread and the books (DESIGN §12).

All of it since the process started, of this replica alone: followers apply what the leader does, and count it, too.
What must see the book at rest runs as a job on the apply thread.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from engine.core.book import Book
from engine.replication.interface import Role
from engine.rpc.metrics import PREFIX, counter, gauge
from engine.service.heat.window import Window
from engine.service.metrics.disk import TimedDisk
from engine.service.metrics.histogram import Histogram
from engine.service.metrics.tally import Sort, Tally
from engine.service.replica import Replica
from engine.service.statements import Statements
from engine.service.transit import are_transit

PACKAGE: Final = "posting-engine"
HOT_ACCOUNTS_MAX: Final = 5
"""Labels are kept for ever by whoever collects them: no more accounts than that at a time."""
BOOK_S_MAX: Final = 4.0
NS_PER_S: Final = 10**9


class BookFigures(NamedTuple):
    """What was read of the book, all at one log index."""

    rows: dict[Sort, int]
    replays: int
    conflicts: int
    accounts: int
    reservations: int
    chains: int
    oldest_chain_ns: int
    """When the oldest open chain was secured here; 0: none is open."""
    oldest_reservation_ns: int
    """When the oldest open reservation was made; 0: none is open."""
    transit: int
    transit_not_zero: int
    window: Window | None
    """The heat of the last window; None: not measured here."""


class NodeMetrics:
    """Collects them."""

    def __init__(self, replica: Replica, statements: Statements, tally: Tally, disk: TimedDisk) -> None:
        self._replica, self._statements, self._tally, self._disk = replica, statements, tally, disk
        self._transit = _TransitRows()

    async def collect(self) -> Iterable[Metric]:
        """Return every metric of this replica; raises TimeoutError where the apply thread is too busy."""
        async with asyncio.timeout(BOOK_S_MAX):
            book = await self._replica.applier.run(self._read_book)
        return [*self._of_process(), *self._of_log(), *self._of_queues(), *self._of_books(book), *_of_heat(book.window)]

    def _read_book(self) -> BookFigures:
        """On the apply thread."""
        machine, tally, heat = self._replica.machine, self._tally, self._replica.heat
        oldest, transit = machine.open_chains(-1, 1), self._transit.balances(machine.book)
        return BookFigures(
            rows=tally.rows(),
            replays=tally.replays,
            conflicts=tally.conflicts,
            accounts=machine.book.account_count,
            reservations=machine.book.open_reservation_count,
            chains=machine.book.open_chain_count,
            oldest_chain_ns=oldest[0].word.timestamp_ns if oldest else 0,
            oldest_reservation_ns=machine.book.oldest_reservation_ns(),
            transit=len(transit),
            transit_not_zero=int(np.count_nonzero(transit)),
            window=heat.report(HOT_ACCOUNTS_MAX).window if heat.is_on and self._replica.is_leader else None,
        )

    def _of_process(self) -> Iterator[Metric]:
        place = self._replica.place
        labels = {
            "cluster": place.config.cluster_id,
            "group": str(place.group),
            "replica": place.replica.id,
            "version": version(PACKAGE),
        }
        info = GaugeMetricFamily(PREFIX + "replica", "Which replica this is.", labels=tuple(labels))
        info.add_metric(tuple(labels.values()), 1)
        yield info
        yield gauge("uptime_seconds", "Since this replica began to serve.", self._replica.uptime_ms() / 1000)

    def _of_log(self) -> Iterator[Metric]:
        status = self._replica.log.status()
        yield gauge("is_leader", "1 while this replica leads its group.", float(status.role is Role.LEADER))
        yield gauge("leader_known", "1 while this replica knows who leads.", float(status.leader is not None))
        yield gauge("term", "Raft's term: it grows with every election.", status.term)
        yield counter("leader_changes", "How often this replica began or ceased to lead.", self._replica.leader_changes)
        yield gauge("last_index", "Last log index in this replica's log.", status.last_index)
        yield gauge("durable_index", "Last log index that its disk has.", status.durable_index)
        yield gauge("commit_index", "Last log index that a quorum has.", status.commit_index)
        yield gauge("applied_index", "Last log index applied here.", self._replica.machine.applied_index)
        yield gauge("log_bytes", "Bytes of log segments.", status.log_bytes)
        yield _histogram("sync_seconds", "How long the log's syncs of its disk took.", self._disk.sync_times)
        yield _histogram("apply_seconds", "How long log records took to be applied.", self._tally.apply_times)

    def _of_queues(self) -> Iterator[Metric]:
        batcher = self._replica.batcher
        yield gauge("queue_rows", "Transfers that wait to be logged.", batcher.waiting_rows)
        yield gauge("queue_age_seconds", "How long the oldest of them has waited.", batcher.queue_age_s)
        yield gauge("step_queue_bytes", "Bytes of steps of chains that wait to be logged.", batcher.steps.waiting_bytes)
        yield gauge("step_queue_age_seconds", "How long the oldest of them has waited.", batcher.steps.age_s)
        yield gauge("records_in_flight", "Log records proposed and not yet answered.", batcher.in_flight)
        yield counter("refused_by_admission", "Transfers told to come later, nothing logged.", batcher.refused_rows)
        refuses = float(batcher.refusal is not None)
        yield gauge("writes_refused", "1 while writes are refused: the disk is nearly full, or it stops.", refuses)

    def _of_books(self, book: BookFigures) -> Iterator[Metric]:
        rows = CounterMetricFamily(
            PREFIX + "journal_rows", "Journal rows by kind, step of a chain over groups, outcome.", labels=Sort._fields
        )
        for sort, count in book.rows.items():
            rows.add_metric(sort, count)
        yield rows
        yield counter("replays", "Items and steps answered from the record.", book.replays)
        yield counter("conflicts", "Items whose id is taken by another body.", book.conflicts)
        yield gauge("accounts", "Account rows, the engine's own among them.", book.accounts)
        yield gauge("open_reservations", "Reservations of callers that are open.", book.reservations)
        age_s = _age_s(book.oldest_reservation_ns)
        yield gauge("oldest_open_reservation_seconds", "Age of the oldest of them; 0 without any.", age_s)
        yield gauge("open_chains", "Chains secured here that wait for their decider.", book.chains)
        age_s = _age_s(book.oldest_chain_ns)
        yield gauge("oldest_open_chain_seconds", "Age of the oldest of them; 0 without any.", age_s)
        yield gauge("transit_accounts", "Transit accounts: one for each other group and ledger.", book.transit)
        yield gauge("transit_accounts_not_zero", "Of these, the ones with a balance.", book.transit_not_zero)
        yield gauge("read_models_lag_rows", "Journal rows that statements lack.", self._statements.lag())


class _TransitRows:
    """Finds a book's transit accounts without looking at every account each time. On the apply thread."""

    def __init__(self) -> None:
        self._book: Book | None = None
        self._seen = 0
        self._found: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def balances(self, book: Book) -> npt.NDArray[np.bool_]:
        """Return, for each transit account, whether what was posted leaves a balance."""
        rows = book.account_rows()
        if book is not self._book or len(rows) < self._seen:
            self._book, self._seen, self._found = book, 0, np.empty(0, np.int64)
        fresh = np.flatnonzero(are_transit(rows[self._seen :])) + self._seen
        self._found = np.concatenate((self._found, fresh))
        self._seen = len(rows)
        own = rows[self._found]
        own = own[are_transit(own)]  # those made for a step that left no trace are taken back
        differs: npt.NDArray[np.bool_] = (own[:, 2:4] != own[:, 4:6]).any(axis=1)
        return differs


def _age_s(timestamp_ns: int) -> float:
    """Return how long ago a timestamp was, seconds; 0 for that of nothing."""
    return max(0.0, (time.time_ns() - timestamp_ns) / NS_PER_S) if timestamp_ns else 0.0


def _of_heat(window: Window | None) -> Iterator[Metric]:
    share = GaugeMetricFamily(
        PREFIX + "hot_account_share", "Part of this group's transfers that a hot account is in.", labels=("account",)
    )
    rate = GaugeMetricFamily(PREFIX + "hot_account_per_second", "Its transfers a second.", labels=("account",))
    if window is not None:
        for one in window.accounts:
            share.add_metric((one.account.hex(),), window.share_percent(one) / 100)
            rate.add_metric((one.account.hex(),), window.per_s(one.entries))
    yield from (share, rate)


def _histogram(name: str, help_text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(PREFIX + name, help_text, buckets=histogram.cumulative(), sum_value=histogram.sum_s)
