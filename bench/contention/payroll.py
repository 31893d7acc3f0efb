"""The payroll: one employer credits 60,000 employees, again and again, while card and instant payments run on the same
groups.

Open loop: every live payment has a moment at which it is due, fixed beforehand, and its latency counts from there,
whatever became of those before it. So a server that stalls cannot slow the load down and hide it. Live payments are
single calls, as upstream services make them: instant transfers, and card reservations that are captured a little later.
"""

import asyncio
import gc
import time
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from bench.batches import AMOUNT_MAX
from bench.contention.accounts import BANK, EMPLOYER, Cast
from bench.contention.checks import Moved
from bench.contention.mixes import Mix, reserving
from bench.contention.sending import Outcomes, Sender, Slice, post_all
from engine.core.outcomes import Outcome
from engine.core.records import Words

BATCH_ROWS: Final = 2048
BATCHES_IN_FLIGHT_MAX: Final = 8
EMPLOYEE_FUNDS: Final = 1_000_000
WAGE_MAX: Final = 100
WARM_UP_S: Final = 3.0
PHASES: Final = ("before", "during", "after")


class PayrollOptions(NamedTuple):
    """How much is measured."""

    live_per_s: float
    """Live payments, captures included."""
    payroll_per_s: float
    """Wages, while a payroll runs; it begins anew when all employees have been paid."""
    phase_s: float
    """Length of the phases before and after."""
    during_s: float
    cards: float
    """The part of the payers who pay by card: a reservation and its capture, two live payments."""
    crossing: float
    """The part of live payments whose accounts live in two groups; wages cross as the employees happen to lie."""
    capture_s: float
    """A reservation is captured so long after it was due."""
    in_flight: int


class Sample(NamedTuple):
    """One live payment."""

    due_s: float
    """From the start of the phase before."""
    latency_ms: float


class Payroll(NamedTuple):
    """What was seen."""

    samples: dict[str, list[Sample]]
    """Of each phase, in order of their due time."""
    bounds_s: tuple[float, float]
    """When the payrolls began, and when their last batch was due."""
    paid: Slice
    late_s: float
    """How long after its due time the last batch of wages was answered."""
    payrolls: float
    """How often all employees were paid."""
    sent_again: int

    def percentile_ms(self, phase: str, percent: float) -> float:
        """A percentile of the latency of a phase's live payments."""
        return float(np.percentile([one.latency_ms for one in self.samples[phase]], percent, method="higher"))

    @property
    def p99_during_over_before(self) -> float:
        """What the payroll costs the live traffic."""
        return self.percentile_ms("during", 99) / self.percentile_ms("before", 99)


class _Due(NamedTuple):
    """A live payment to be made."""

    at_s: float
    row: Words
    """Shape (1, 16)."""
    number: int
    after: int | None
    """The number of the reservation that it captures."""


class PayrollRun:
    """One measurement, on funded employees."""

    def __init__(self, sender: Sender, cast: Cast, mix: Mix, moved: Moved, options: PayrollOptions, seed: int) -> None:
        self._sender, self._cast, self._mix, self._moved, self._options = sender, cast, mix, moved, options
        self._rng = np.random.default_rng([seed, 2])
        self._many_groups = len(set(cast.groups.tolist())) > 1
        self._ended: dict[int, asyncio.Future[None]] = {}
        self._samples: list[Sample] = []
        self._rows: list[Words] = []
        self._outcomes: list[Outcomes] = []

    async def run(self) -> Payroll:
        """Fund, warm up, and measure before, during and after; raises RuntimeError if a payment is refused."""
        options = self._options
        wages = self._wages()
        await self._fund(wages)
        starts_s, ends_s = options.phase_s, options.phase_s + options.during_s
        live = self._live(WARM_UP_S + ends_s + options.phase_s)
        sent_again = self._sender.sent_again
        started = time.perf_counter() + WARM_UP_S
        _, (paid, late_s) = await asyncio.gather(self._serve(live, started), self._pay(wages, started + starts_s))
        self._moved.add([np.concatenate(self._rows)], [np.concatenate(self._outcomes)])
        ordered = sorted(self._samples)
        bounds = {"before": (0.0, starts_s), "during": (starts_s, ends_s), "after": (ends_s, ends_s + options.phase_s)}
        samples = {name: [one for one in ordered if begin <= one.due_s < end] for name, (begin, end) in bounds.items()}
        times = paid.rows / len(self._cast.employees)
        return Payroll(samples, (starts_s, ends_s), paid, late_s, times, self._sender.sent_again - sent_again)

    async def _fund(self, wages: list[Words]) -> None:
        """Give every employee something to spend, and the employer the wages."""
        employees = np.array(self._cast.employees)
        pairs = np.stack((np.full(len(employees), BANK), employees), axis=1)
        batches = [
            self._mix.between(part, np.full(len(part), EMPLOYEE_FUNDS))
            for part in np.array_split(pairs, -(-len(pairs) // BATCH_ROWS))
        ]
        money = sum(int(batch[:, 6].sum()) for batch in wages)
        batches.append(self._mix.between(np.array([[BANK, EMPLOYER]]), np.array([money])))
        done = await post_all(self._sender, batches, in_flight=self._options.in_flight)
        require_posted(done.outcomes)
        self._moved.add(batches, done.outcomes)

    def _wages(self) -> list[Words]:
        """Make the wages of as many payrolls as fit in the phase."""
        count = int(self._options.payroll_per_s * self._options.during_s)
        employees = np.resize(np.array(self._cast.employees), count)
        pairs = np.stack((np.full(count, EMPLOYER), employees), axis=1)
        return [
            self._mix.between(part, self._rng.integers(1, WAGE_MAX + 1, len(part)))
            for part in np.array_split(pairs, -(-count // BATCH_ROWS))
        ]

    async def _pay(self, wages: list[Words], start: float) -> tuple[Slice, float]:
        """Pay, batch after batch at its time; return with how late the last answer was."""
        await asyncio.sleep(start - time.perf_counter())
        rate = self._options.payroll_per_s
        paid = await post_all(self._sender, wages, in_flight=BATCHES_IN_FLIGHT_MAX, rate=rate)
        require_posted(paid.outcomes)
        self._moved.add(wages, paid.outcomes)
        return paid, paid.seconds - (paid.rows - len(wages[-1])) / rate

    # -- live payments

    def _live(self, length_s: float) -> list[_Due]:
        """Make all live payments, by due time: arrivals at random, at the rate that is wanted."""
        options = self._options
        count = int(options.live_per_s * length_s / (1 + options.cards))
        at_s = np.sort(self._rng.random(count) * length_s) - WARM_UP_S
        by_card = self._rng.random(count) < options.cards
        found: list[_Due] = []
        for number in range(count):
            payment = _Due(float(at_s[number]), self._payment(card=bool(by_card[number])), number, None)
            found.append(payment)
            if by_card[number]:
                captured_s = payment.at_s + options.capture_s
                found.append(_Due(captured_s, self._mix.committing(payment.row), count + number, number))
        return sorted(found, key=lambda one: (one.at_s, one.number))

    def _payment(self, *, card: bool) -> Words:
        """Let an employee pay another one, or reserve money for a merchant."""
        groups, payers = self._cast.groups, self._cast.employees
        payees = self._cast.merchants if card else payers
        crosses = self._many_groups and self._rng.random() < self._options.crossing
        payer = payee = int(self._rng.integers(payers.start, payers.stop))
        while payee == payer or (groups[payer] != groups[payee]) != crosses:
            payee = int(self._rng.integers(payees.start, payees.stop))
        row = self._mix.between(np.array([[payer, payee]]), self._rng.integers(1, AMOUNT_MAX + 1, 1))
        return reserving(row) if card else row

    async def _serve(self, live: list[_Due], started: float) -> None:
        """Begin every payment when it is due, and wait for all of them."""
        loop = asyncio.get_running_loop()
        self._ended = {one.number: loop.create_future() for one in live}
        gc.freeze()  # a pause of the caller, of 50 ms and more, would count as the engine's
        running: set[asyncio.Task[None]] = set()
        for one in live:
            wait_s = started + one.at_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(self._make(one, started))
            running.add(task)
            task.add_done_callback(partial(self._made, running))
        await asyncio.gather(*running)

    @staticmethod
    def _made(running: "set[asyncio.Task[None]]", task: "asyncio.Task[None]") -> None:
        """Forget a payment that was made: what is kept is what a collection of garbage goes through. One that failed
        stays, to be raised."""
        if not task.cancelled() and task.exception() is None:
            running.discard(task)

    async def _make(self, one: _Due, started: float) -> None:
        due = started + one.at_s
        if one.after is not None and not self._ended[one.after].done():
            await self._ended[one.after]
            due = max(due, time.perf_counter())
        outcomes = await self._sender.post(one.row.tobytes())
        self._samples.append(Sample(one.at_s, (time.perf_counter() - due) * 1e3))
        self._rows.append(one.row)
        self._outcomes.append(outcomes)
        require_posted([outcomes])
        self._ended[one.number].set_result(None)


def require_posted(outcomes: Iterable[Outcomes]) -> None:
    """Raise RuntimeError unless everything was posted."""
    for of_rows in outcomes:
        wrong = of_rows[of_rows != Outcome.POSTED]
        if len(wrong):
            raise RuntimeError(f"{len(wrong)} transfers were not posted: outcomes {np.unique(wrong).tolist()}")
