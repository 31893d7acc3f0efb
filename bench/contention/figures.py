"""The figures of the one JSON line. What was measured without buckets has an ending that says so."""

import statistics
from typing import Final

from bench.contention.drain import Drained
from bench.contention.payroll import PHASES, Payroll
from bench.contention.ratios import UNIFORM, Ratios

WITHOUT: Final = "_without_buckets"
HOT: Final = ("hot-credit", "hot-debit-limited")
DIGITS: Final = 3


def ratio_figures(ratios: Ratios, *, without: bool = True) -> dict[str, object]:
    """Rates, and ratios to the uniform rate of the same round: the median, the lowest and the highest of the rounds."""
    figures: dict[str, object] = {}
    of_hot = WITHOUT if without else ""
    for mix, per_s in ratios.per_s.items():
        name = mix.replace("-", "_")
        ending = of_hot if mix in HOT else ""
        if mix != UNIFORM or without:
            figures[f"{name}_transfers_per_s{ending}"] = round(statistics.median(per_s))
        if mix == UNIFORM:
            continue
        of_rounds = ratios.of_rounds(mix)
        figures[f"{name}_vs_uniform{ending}"] = round(ratios.ratio(mix), DIGITS)
        figures[f"{name}_vs_uniform_range{ending}"] = [round(min(of_rounds), DIGITS), round(max(of_rounds), DIGITS)]
        figures[f"{name}_cross_share{ending}"] = round(ratios.crossing[mix], DIGITS)
    if ratios.last_stretch is not None and ratios.last_uniform is not None:
        last = ratios.last_stretch.per_s / ratios.last_uniform.per_s
        figures[f"hot_debit_limited_last_stretch_vs_uniform{of_hot}"] = round(last, DIGITS)
        figures[f"hot_debit_limited_last_stretch_refused{of_hot}"] = ratios.refused
        figures[f"hot_debit_limited_last_stretch_left{of_hot}"] = ratios.left
    return figures


def payroll_figures(payroll: Payroll) -> dict[str, object]:
    """Latencies of live payments before, during and after, milliseconds."""
    figures: dict[str, object] = {"payroll_p99_during_over_before": round(payroll.p99_during_over_before, DIGITS)}
    for phase in PHASES:
        figures[f"payroll_p50_ms_{phase}"] = round(payroll.percentile_ms(phase, 50), 2)
        figures[f"payroll_p99_ms_{phase}"] = round(payroll.percentile_ms(phase, 99), 2)
        figures[f"payroll_live_samples_{phase}"] = len(payroll.samples[phase])
    figures["payroll_runs"] = round(payroll.payrolls, 1)
    figures["payroll_wages_per_s"] = round(payroll.paid.per_s)
    figures["payroll_last_batch_late_s"] = round(payroll.late_s, 2)
    figures["payroll_sent_again"] = payroll.sent_again
    return figures


def drain_figures(drained: Drained, *, without: bool = True) -> dict[str, object]:
    """What the drain saw."""
    ending = WITHOUT if without else ""
    return {
        f"drain_false_refusals{ending}": drained.false_refusals,
        f"drain_overdrafts{ending}": drained.overdrafts,
        f"drain_left{ending}": drained.left,
        f"drain_posted{ending}": drained.posted,
        f"drain_refused{ending}": drained.refused,
        f"drain_transfers_per_s{ending}": round(drained.posted / drained.seconds),
    }
