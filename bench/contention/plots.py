"""Plots as inline SVG: points and lines on two axes, drawn by the page's own text, with nothing to load."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 760
HEIGHT: Final = 300
LEFT: Final = 64
RIGHT: Final = 150
TOP: Final = 14
BOTTOM: Final = 42
TICKS: Final = 6
COLOURS: Final = ("#0b6e99", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c")

Point = tuple[float, float]


class Line(NamedTuple):
    """One named series."""

    name: str
    points: Sequence[Point]


class Band(NamedTuple):
    """A stretch of the x axis with a name."""

    name: str
    first: float
    last: float


class Axes(NamedTuple):
    """What the axes show."""

    x: str
    y: str
    log_y: bool = False
    bands: Sequence[Band] = ()


class _Scale:
    """From values to pixels."""

    def __init__(self, lines: Sequence[Line], axes: Axes) -> None:
        xs = [x for line in lines for x, _ in line.points] or [0.0]
        ys = [y for line in lines for _, y in line.points] or [1.0]
        self.log = axes.log_y and min(ys) > 0
        self.x_min, self.x_max = min(xs), max(*xs, min(xs) + 1e-9)
        self.y_min = 10 ** math.floor(math.log10(min(ys))) if self.log else 0.0
        self.y_step = _round_up(max(ys) / TICKS)
        self.y_max = (
            10 ** math.ceil(math.log10(max(ys))) if self.log else self.y_step * math.ceil(max(ys) / self.y_step)
        )
        if self.y_max <= self.y_min:
            self.y_max = self.y_min * 10 if self.log else self.y_min + 1

    def x(self, value: float) -> float:
        """Return the pixel of a value of x."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x_min) / (self.x_max - self.x_min)

    def y(self, value: float) -> float:
        """Return the pixel of a value of y."""
        low, high, at = self.y_min, self.y_max, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.y_min))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (at - low) / (high - low)

    def y_ticks(self) -> list[float]:
        """Return the values that get a line of the grid."""
        if self.log:
            decades = range(round(math.log10(self.y_min)), round(math.log10(self.y_max)) + 1)
            return [10.0**decade for decade in decades]
        return [self.y_step * number for number in range(round(self.y_max / self.y_step) + 1)]

    def x_ticks(self) -> list[float]:
        """Return the values of x that are written below."""
        step = _round_up((self.x_max - self.x_min) / TICKS)
        first = math.ceil(self.x_min / step)
        return [step * number for number in range(first, math.floor(self.x_max / step) + 1)]


def plot(lines: Sequence[Line], axes: Axes) -> str:
    """Draw lines; returns an <svg> element."""
    scale = _Scale(lines, axes)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axes.y)}">']
    parts += [_band(scale, band) for band in axes.bands]
    parts += [_grid_line(scale, value) for value in scale.y_ticks()]
    parts += [_x_tick(scale, value) for value in scale.x_ticks()]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axes.x)}</text>')
    parts.append(
        f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">'
        f"{escape(axes.y)}</text>"
    )
    for number, line in enumerate(lines):
        parts.append(_series(scale, line, number))
    return "".join((*parts, "</svg>"))


def _band(scale: _Scale, band: Band) -> str:
    left, right = scale.x(max(band.first, scale.x_min)), scale.x(min(band.last, scale.x_max))
    return (
        f'<rect x="{left:.1f}" y="{TOP}" width="{max(0.0, right - left):.1f}" height="{HEIGHT - TOP - BOTTOM}" '
        f'class="band"/><text x="{(left + right) / 2:.1f}" y="{TOP + 12}" text-anchor="middle">'
        f"{escape(band.name)}</text>"
    )


def _grid_line(scale: _Scale, value: float) -> str:
    y = scale.y(value)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number_text(value)}</text>'
    )


def _x_tick(scale: _Scale, value: float) -> str:
    return f'<text x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number_text(value)}</text>'


def _series(scale: _Scale, line: Line, number: int) -> str:
    colour = COLOURS[number % len(COLOURS)]
    points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in line.points)
    y = TOP + 14 + 18 * number
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 30}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" '
        f'stroke-width="3"/><text x="{WIDTH - RIGHT + 36}" y="{y}">{escape(line.name)}</text>'
    )


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2 or 5 with zeros."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def number_text(value: float) -> str:
    """Write a number as people read it: few digits, thousands apart."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
