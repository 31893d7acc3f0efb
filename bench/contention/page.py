"""The report as one HTML page: figures, plots and options in a file of its own, with nothing to load."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from bench.contention.payroll import PHASES, Payroll, Sample
from bench.contention.plots import Axes, Band, Line, number_text, plot
from bench.contention.ratios import Ratios

QUANTILES: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95)
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1f2937; }
svg { width: 100%; max-width: 800px; } svg text { font-size: 12px; fill: #374151; }
.grid { stroke: #e5e7eb; } .band { fill: #f3f4f6; stroke: #d1d5db; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } .void { color: #b91c1c; font-weight: bold; }
"""


def page(
    figures: Mapping[str, object], options: Mapping[str, object], ratios: Ratios | None, payroll: Payroll | None
) -> str:
    """Return the whole document."""
    sound = figures["differences"] == 0 and figures["books_balanced"]
    verdict = (
        "Every balance is what the answers add up to, and every group's books balance."
        if sound
        else "Balances differ from the answers: the figures are void."
    )
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>What contention costs</title>",
        f"<style>{STYLE}</style></head><body><h1>What contention costs</h1>",
        f"<p class='{'sound' if sound else 'void'}'>{verdict}</p>",
        *(_ratios_part(ratios) if ratios else ()),
        *(_payroll_part(payroll) if payroll else ()),
        "<h2>Figures</h2>",
        _table(figures),
        "<h2>Options</h2>",
        _table(options),
        "</body></html>",
    ]
    return "\n".join(parts)


def _table(rows: Mapping[str, object]) -> str:
    cells = (
        f"<tr><td>{escape(name)}</td><td class='number'>{escape(_text(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return number_text(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _ratios_part(ratios: Ratios) -> list[str]:
    rates = [Line(mix, [(number, rate) for number, rate in enumerate(per_s, 1)]) for mix, per_s in ratios.per_s.items()]
    quotients = [
        Line(mix, [(number, ratio) for number, ratio in enumerate(ratios.of_rounds(mix), 1)]) for mix in ratios.per_s
    ]
    return [
        "<h2>Rates of the mixes</h2><p>Each round has one slice of every mix, in another order each time.</p>",
        plot(rates, Axes("round", "transfers a second")),
        "<p>The same as ratios to the uniform mix of the same round; the figures are their medians.</p>",
        plot(quotients, Axes("round", "rate / uniform rate")),
    ]


def _payroll_part(payroll: Payroll) -> list[str]:
    samples = [sample for phase in PHASES for sample in payroll.samples[phase]]
    seconds = [
        Line(name, _by_second(samples, percent)) for name, percent in (("p50", 50), ("p99", 99), ("highest", 100))
    ]
    quantiles = [Line(phase, _quantiles(payroll.samples[phase])) for phase in PHASES]
    band = Band("payrolls", *payroll.bounds_s)
    return [
        "<h2>Live payments beside payrolls</h2><p>Latency from the moment at which a payment was due, by second.</p>",
        plot(seconds, Axes("seconds", "milliseconds", log_y=True, bands=[band])),
        "<p>Its distribution in each phase: at 1 nine, 90 % of the payments were faster; at 2 nines, 99 %.</p>",
        plot(quantiles, Axes("nines", "milliseconds", log_y=True)),
    ]


def _by_second(samples: Sequence[Sample], percent: float) -> list[tuple[float, float]]:
    due, latency = np.array([one.due_s for one in samples]), np.array([one.latency_ms for one in samples])
    seconds = np.floor(due)
    return [
        (float(second), float(np.percentile(latency[seconds == second], percent, method="higher")))
        for second in np.unique(seconds)
    ]


def _quantiles(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    latency = [one.latency_ms for one in samples]
    return [
        (-math.log10(1 - percent / 100), float(np.percentile(latency, percent, method="higher")))
        for percent in QUANTILES
    ]
