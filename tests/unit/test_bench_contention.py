"""The contention workloads: what they send, how they judge what comes back, and the page that they draw."""

import argparse
import asyncio
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.contention.__main__ import MIXES, _workloads
from bench.contention.accounts import BANK, EMPLOYER, FEES, NAMED, PAYER, PURSE, Cast
from bench.contention.checks import Moved
from bench.contention.drain import drain
from bench.contention.figures import payroll_figures, ratio_figures
from bench.contention.journals import JournalRows, rows_of
from bench.contention.mixes import Mix, Shares
from bench.contention.page import page
from bench.contention.payroll import WARM_UP_S, Payroll, PayrollOptions, PayrollRun, Sample
from bench.contention.plots import Axes, Band, Line, plot
from bench.contention.ratios import Ratios
from bench.contention.sending import Outcomes, Slice
from engine.core.outcomes import Outcome
from engine.core.records import Kind, Words, as_records
from engine.core.validation import faults_of

PEOPLE = 400
SHARES = Shares(crossing=0.25, hot_crossing=-1, holds=0, zipf_exponent=1.1)


def cast(groups: int = 2) -> Cast:
    rng = np.random.default_rng(5)
    count = NAMED + 3 * PEOPLE
    ids = rng.integers(1, 1 << 63, (count, 2), dtype=np.uint64)
    at = [NAMED, NAMED + PEOPLE, NAMED + 2 * PEOPLE, count]
    return Cast(ids, rng.integers(0, groups, count).astype(np.uint16), *map(range, at, at[1:]))


def mix(shares: Shares = SHARES, groups: int = 2, seed: int = 1) -> Mix:
    return Mix(cast(groups), shares, np.random.default_rng(seed))


def crossing_share(people: Cast, batches: list[Words]) -> float:
    """The part of the rows whose accounts lie in different groups."""
    sides = [np.concatenate([batch[:, first : first + 2] for batch in batches]) for first in (2, 4)]
    debit, credit = (people.numbers_of(side) for side in sides)
    return float((people.groups[debit] != people.groups[credit]).mean())


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_is_valid_has_no_id_twice_and_is_the_same_for_the_same_seed(name: str) -> None:
    first, second, other = mix(), mix(), mix(seed=2)
    batches = [first.batch(name, 500) for _ in range(3)]
    assert all((one == second.batch(name, 500)).all() for one in batches)
    assert (other.batch(name, 500) != batches[0]).any()
    rows = np.concatenate(batches)
    assert not faults_of(rows).any()
    assert len(np.unique(rows[:, :2], axis=0)) == 1500


@pytest.mark.parametrize(("share", "groups", "expected"), [(0, 2, 0), (0.25, 2, 0.25), (1, 2, 1), (1, 1, 0)])
@pytest.mark.parametrize("name", ["uniform", "zipf"])
def test_the_share_that_crosses_groups_is_as_asked_for(name: str, share: float, groups: int, expected: float) -> None:
    made = mix(SHARES._replace(crossing=share), groups)
    assert crossing_share(cast(groups), [made.batch(name, 4000)]) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("share", "expected"), [(-1, 0.5), (0.1, 0.1)])
def test_a_hot_account_meets_accounts_of_other_groups_as_they_lie_or_as_asked_for(
    share: float, expected: float
) -> None:
    made = mix(SHARES._replace(hot_crossing=share))
    for name in ("hot-credit", "hot-debit-limited"):
        assert crossing_share(cast(), [made.batch(name, 4000)]) == pytest.approx(expected, abs=0.08)


def test_the_hot_account_is_in_every_transfer_on_its_side() -> None:
    ids = cast().ids
    assert (mix().batch("hot-credit", 100)[:, 4:6] == ids[FEES]).all()
    assert (mix().batch("hot-debit-limited", 100)[:, 2:4] == ids[PAYER]).all()


def test_in_the_zipf_mix_few_accounts_pay_much() -> None:
    debits = mix().batch("zipf", 8000)[:, 2]
    counts = np.sort(np.unique(debits, return_counts=True)[1])[::-1]
    assert counts[:4].sum() > 0.25 * 8000
    assert len(counts) > PEOPLE / 2


def test_a_hold_is_a_reservation_and_its_commit_as_neighbours_within_the_size_of_a_batch() -> None:
    words = mix(SHARES._replace(holds=0.5, crossing=0)).batch("uniform", 900)
    rows = as_records(words)
    reserves = np.flatnonzero(rows["kind"] == Kind.RESERVE)
    assert len(words) <= 900
    assert 200 < len(reserves) < 400
    assert (rows["kind"][reserves + 1] == Kind.COMMIT).all()
    assert (words[reserves, 0:2] == words[reserves + 1, 8:10]).all()
    assert not faults_of(words).any()


def test_only_what_was_answered_as_posted_moves_money_and_reservations_move_none() -> None:
    made, people = mix(SHARES._replace(holds=1, crossing=0)), cast()
    hold = made.batch("uniform", 2)
    plain = made.between(np.array([[BANK, FEES], [BANK, FEES]]), np.array([7, 9]))
    moved = Moved(people.ids)
    moved.add([hold, plain], [posted(2), np.array([Outcome.POSTED, Outcome.INSUFFICIENT_FUNDS], np.uint16)])
    payer, payee = people.numbers_of(hold[:1, 2:4])[0], people.numbers_of(hold[:1, 4:6])[0]
    amount = int(hold[0, 6])
    assert {int(n): int(moved.change[n]) for n in np.flatnonzero(moved.change)} == {
        BANK: -7,
        FEES: 7,
        int(payer): -amount,
        int(payee): amount,
    }
    assert moved.refused == 1


def posted(count: int) -> Outcomes:
    return np.full(count, Outcome.POSTED, np.uint16)


class Purse:
    """An engine with one limited account, which may be faulty."""

    def __init__(self, *, refuses_at: int | None = None, gives_more: int = 0) -> None:
        self.money, self.refuses_at, self.gives_more, self.asked = 0, refuses_at, gives_more, 0
        self.sent_again = 0

    async def post(self, packed: bytes) -> Outcomes:
        row = as_records(np.frombuffer(packed, "<u8").reshape(-1, 16))[0]
        await asyncio.sleep(0)
        if bytes(row["credit"]) == cast().ids[PURSE].tobytes():
            self.money = int(row["amount_low"]) + self.gives_more
            return posted(1)
        self.asked += 1
        if self.money and self.asked != self.refuses_at:
            self.money -= 1
            return posted(1)
        return np.array([Outcome.INSUFFICIENT_FUNDS], np.uint16)


async def drained_of(purse: Purse) -> tuple[int, int, int]:
    seen = await drain(purse, cast(), mix(), Moved(cast().ids), money=500)  # type: ignore[arg-type]
    assert seen.posted == 500 + purse.gives_more
    return seen.false_refusals, seen.overdrafts, seen.left


async def test_the_drain_tells_false_refusals_and_overdrafts_from_an_account_that_is_spent() -> None:
    assert await drained_of(Purse()) == (0, 0, 0)
    assert await drained_of(Purse(refuses_at=100)) == (1, 0, 0)
    assert await drained_of(Purse(gives_more=3)) == (0, 3, 0)


def live_rows(cards: float) -> tuple[Words, list[float]]:
    options = PayrollOptions(1000, 1000, 2, 3, cards, 0.2, 0.5, 4)
    run = PayrollRun(None, cast(), mix(), Moved(cast().ids), options, seed=1)  # type: ignore[arg-type]
    live = run._live(WARM_UP_S + 7)
    for one in live:
        if one.after is not None:
            (first,) = (other for other in live if other.number == one.after)
            assert one.at_s == first.at_s + 0.5
            assert (one.row[0, 8:10] == first.row[0, 0:2]).all()
    return np.concatenate([one.row for one in live]), [one.at_s for one in live]


@pytest.mark.parametrize("cards", [0, 0.5, 1])
def test_live_payments_are_due_at_the_rate_that_is_wanted_and_captures_follow_their_reservations(cards: float) -> None:
    words, at_s = live_rows(cards)
    kinds = as_records(words)["kind"]
    assert not faults_of(words).any()
    assert at_s == sorted(at_s)
    assert len(words) == pytest.approx(1000 * (WARM_UP_S + 7), rel=0.02)
    assert (kinds == Kind.RESERVE).sum() == (kinds == Kind.COMMIT).sum()
    assert crossing_share(cast(), [words]) == pytest.approx(0.2, abs=0.03)
    assert (kinds == Kind.RESERVE).mean() == pytest.approx(cards / (1 + cards), abs=0.03)


def test_wages_are_paid_by_the_employer_to_all_employees_in_turn() -> None:
    options = PayrollOptions(1000, 1000, 2, 3, 0.5, 0, 0.5, 4)
    wages = np.concatenate(PayrollRun(None, cast(), mix(), Moved(cast().ids), options, 1)._wages())  # type: ignore[arg-type]
    assert len(wages) == 3000
    assert (wages[:, 2:4] == cast().ids[EMPLOYER]).all()
    assert len(np.unique(wages[:PEOPLE, 4])) == PEOPLE


RATIOS = Ratios(
    {"uniform": [100.0, 200.0, 100.0], "hot-credit": [50.0, 160.0, 90.0]},
    {"uniform": 0.0, "hot-credit": 0.5},
    Slice(100, 2.0, []),
    Slice(100, 1.0, []),
    3,
    7,
)
SAMPLES = [Sample(number / 10, 1.0 + number) for number in range(100)]
PAYROLL = Payroll(
    {"before": SAMPLES, "during": [Sample(10 + due, 3 * ms) for due, ms in SAMPLES], "after": SAMPLES},
    (10.0, 20.0),
    Slice(1000, 2.0, []),
    0.1,
    1.0,
    0,
)


def test_ratios_are_medians_of_the_same_rounds_and_what_had_no_buckets_is_named_so() -> None:
    figures = ratio_figures(RATIOS)
    assert figures["hot_credit_vs_uniform_without_buckets"] == 0.8
    assert figures["hot_credit_vs_uniform_range_without_buckets"] == [0.5, 0.9]
    assert figures["hot_credit_cross_share_without_buckets"] == 0.5
    assert figures["hot_debit_limited_last_stretch_vs_uniform_without_buckets"] == 0.5
    assert not {"hot_credit_vs_uniform", "hot_debit_limited_vs_uniform", "hot_credit_cross_share"} & set(figures)


def test_the_price_of_a_payroll_is_the_quotient_of_the_p99s() -> None:
    figures = payroll_figures(PAYROLL)
    assert figures["payroll_p99_during_over_before"] == 3.0
    assert figures["payroll_live_samples_during"] == 100


def test_a_plot_is_well_formed_and_draws_every_line_within_its_frame() -> None:
    lines = [Line("<a>", [(0, 1), (5, 1000)]), Line("b", [(1, 3), (2, 20), (4, 7)])]
    svg = ElementTree.fromstring(plot(lines, Axes("s", "ms", log_y=True, bands=[Band("x", 1, 2)])))
    drawn = [one.attrib["points"].split() for one in svg.iter("polyline")]
    assert [len(points) for points in drawn] == [2, 3]
    width, height = (float(one) for one in svg.attrib["viewBox"].split()[2:])
    for point in (point for points in drawn for point in points):
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height
    assert plot([Line("none", [])], Axes("s", "ms"))


@pytest.mark.parametrize("differences", [0, 4])
def test_the_page_loads_nothing_and_says_whether_its_figures_count(differences: int) -> None:
    figures = {"a_figure": 12.5, "differences": differences, "books_balanced": True}
    text = page(figures, {"seed": 1}, RATIOS, PAYROLL)
    assert text.count("<svg") == 4
    assert not {"http:", "https:", "<script", "<link", "src=", "url("} & set(text.split('"') + text.split())
    assert ("are void" in text) == bool(differences)


def test_an_unknown_workload_is_refused() -> None:
    assert _workloads("uniform,drain") == ("uniform", "drain")
    with pytest.raises(argparse.ArgumentTypeError, match="no workload unifrom"):
        _workloads("unifrom")


METRICS = """\
# TYPE posting_engine_is_leader gauge
posting_engine_is_leader {leads}
# TYPE posting_engine_journal_rows_total counter
posting_engine_journal_rows_total{{kind="post",outcome="posted",step="local"}} 90
posting_engine_journal_rows_total{{kind="post",outcome="insufficient_funds",step="local"}} 5
posting_engine_journal_rows_total{{kind="create_account",outcome="account_created",step="local"}} 1000
posting_engine_journal_rows_total{{kind="post",outcome="secured",step="reserve"}} 7
posting_engine_journal_rows_total{{kind="post",outcome="posted",step="decide"}} 5
posting_engine_journal_rows_total{{kind="post",outcome="posted",step="commit"}} 7
"""


def test_what_crossed_groups_is_what_deciders_journals_say_and_leaders_alone_are_asked() -> None:
    assert rows_of(METRICS.format(leads=1.0)) == JournalRows(local=95, crossing=5)
    assert rows_of(METRICS.format(leads=1.0)).crossing_share == 0.05
    assert rows_of(METRICS.format(leads=0.0)) == JournalRows() and JournalRows().crossing_share == 0
    assert JournalRows(3, 1) + JournalRows(1, 1) - JournalRows(2, 0) == JournalRows(2, 2)
