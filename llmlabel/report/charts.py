"""Charts as inline SVG: no script, no style attribute, colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

__all__ = [
    "Interval",
    "bar",
    "funnel",
    "heat_map",
    "histogram",
    "histogram_of",
    "intervals",
    "lines",
    "reliability",
]

Numbers = npt.NDArray[np.float64]
_LETTER: Final = 6.6  # pixels of a letter of an axis, on average
_SLANT: Final = (0.65, 0.77)  # how far names at 50 degrees go right and up, of their length


@dataclass(frozen=True)
class Interval:
    """A value with its interval, to be drawn as a dot with whiskers."""

    name: str
    value: float
    low: float
    high: float
    kind: str = "plain"


def bar(share: float | None, kind: str = "plain") -> Markup:
    """Draw a share, 0 to 1, as a small bar for a table cell."""
    if share is None or share != share:
        return Markup("")
    width = 60 * min(max(share, 0.0), 1.0)
    return _svg(
        60, 8, "bar", f"{100 * share:.1f} %",
        f'<rect class="track" width="60" height="8" rx="2"/>'
        f'<rect class="fill {escape(kind)}" width="{width:.1f}" height="8" rx="2"/>',
    )  # fmt: skip


def funnel(steps: Sequence[tuple[str, int, str]]) -> Markup:
    """Draw counts from top to bottom: (name, count, a word on it)."""
    top = max((count for _, count, _ in steps), default=1) or 1
    parts = []
    for i, (name, count, note) in enumerate(steps):
        y, width = 34 * i, max(2.0, 380 * count / top)
        parts.append(
            f'<rect class="fill step{min(i, 5)}" x="170" y="{y + 4}" width="{width:.1f}" height="22" rx="3"/>'
            f'<text x="160" y="{y + 20}" text-anchor="end">{escape(name)}</text>'
            f'<text class="strong" x="{178 + width:.1f}" y="{y + 20}">{count:,}'
            f'<tspan class="dim" dx="8">{escape(note)}</tspan></text>'
        )
    told = ", ".join(f"{name} {count}" for name, count, _ in steps)
    return _svg(860, 34 * len(steps), "funnel", told, "".join(parts))


def intervals(rows: Sequence[Interval]) -> Markup:
    """Draw values with their intervals on one axis, 0 to 100 %."""
    if not rows:
        return Markup("")
    low = min(r.low for r in rows)
    start = max(0.0, np.floor(low * 10) / 10)
    scale = 420 / max(1e-9, 1 - start)

    def x(value: float) -> float:
        return float(220 + scale * (value - start))

    height = 26 * len(rows) + 24
    parts = [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - 20}"/>'
        f'<text class="dim" x="{x(tick):.1f}" y="{height - 4}" text-anchor="middle">{100 * tick:.0f} %</text>'
        for tick in np.arange(start, 1.0001, 0.1)
    ]
    for i, r in enumerate(rows):
        y = 26 * i + 13
        parts.append(
            f'<text x="210" y="{y + 4}" text-anchor="end">{escape(r.name)}</text>'
            f'<line class="whisker" x1="{x(r.low):.1f}" x2="{x(r.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot {escape(r.kind)}" cx="{x(r.value):.1f}" cy="{y}" r="5"/>'
        )
    told = ", ".join(f"{r.name} {100 * r.value:.1f} %" for r in rows)
    return _svg(670, height, "intervals", told, "".join(parts))


def heat_map(
    values: Numbers, rows: Sequence[str], columns: Sequence[str], *, as_percent: bool, label: str
) -> Markup:
    """Draw a matrix; each cell's strength is its share of the largest.

    Parameters
    ----------
    values : array, shape (len(rows), len(columns))
    as_percent
        Whether the numbers in the cells are shares, else counts.
    label
        What the matrix shows, for those who cannot see it.
    """
    size = int(min(38, max(14, 880 / len(columns))))
    longest = [_LETTER * max(map(len, names), default=0) for names in (rows, columns)]
    left, top = round(longest[0]) + 20, round(_SLANT[1] * longest[1]) + 20
    peak = float(np.nanmax(values)) if values.size else 0.0
    parts = []
    for j, name in enumerate(columns):
        x = left + size * j + size / 2
        parts.append(
            f'<text class="axis" transform="translate({x:.0f} {top - 8}) rotate(-50)">{escape(name)}</text>'
        )
    for i, name in enumerate(rows):
        y = top + size * i
        parts.append(
            f'<text class="axis" x="{left - 8}" y="{y + size / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>'
        )
        for j in range(len(columns)):
            value = float(values[i, j])
            parts.append(_cell(left + size * j, y, size, value, peak, as_percent))
    slanted = [size * j + _SLANT[0] * _LETTER * len(name) for j, name in enumerate(columns)]
    width = left + round(max(slanted, default=0)) + size
    return _svg(width, top + size * len(rows) + 4, "heat", label, "".join(parts))


def _cell(x: float, y: float, size: int, value: float, peak: float, as_percent: bool) -> str:
    level = 0 if peak <= 0 or not value > 0 else 1 + round(8 * value / peak)
    text = f"{100 * value:.0f}" if as_percent else f"{value:.0f}"
    shown = text if size >= 18 and value > 0 and (text != "0" or size > 30) else ""
    return (
        f'<rect class="cell level{level}" x="{x}" y="{y}" width="{size - 1}" height="{size - 1}"/>'
        f'<text class="in{level}" x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}" '
        f'text-anchor="middle">{shown}</text>'
    )


def histogram(values: Numbers, label: str, bins: int = 20) -> Markup:
    """Draw how often each confidence occurs, 0 to 1."""
    counts, _ = np.histogram(values, bins=bins, range=(0.0, 1.0))
    return histogram_of(counts.tolist(), label)


def histogram_of(counts: Sequence[int], label: str) -> Markup:
    """Draw counts of equal parts of 0 to 1."""
    peak, bins = max(max(counts, default=0), 1), len(counts)
    parts = [_axis(40, 400, 180)]
    for i, count in enumerate(counts):
        height = 160 * count / peak
        parts.append(
            f'<rect class="fill plain" x="{40 + 360 * i / bins:.1f}" y="{180 - height:.1f}" '
            f'width="{360 / bins - 2:.1f}" height="{height:.1f}"><title>{count:,}</title></rect>'
        )
    parts.append(f'<text class="dim" x="34" y="24" text-anchor="end">{peak:,}</text>')
    return _svg(420, 205, "histogram", label, "".join(parts))


def reliability(curves: Sequence[tuple[str, str, Numbers, Numbers, Numbers]]) -> Markup:
    """Draw accuracy against confidence; on the diagonal a model is as good as it says.

    Parameters
    ----------
    curves
        (name, kind, confidences, accuracies, counts) per model, a point per bin.
    """
    parts = [
        '<line class="grid" x1="40" y1="210" x2="240" y2="10"/>',
        '<rect class="frame" x="40" y="10" width="200" height="200"/>',
        '<text class="dim" x="140" y="238" text-anchor="middle">confidence</text>',
        '<text class="dim" transform="translate(10 110) rotate(-90)" text-anchor="middle">accuracy</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        parts.append(
            f'<text class="dim" x="{40 + 200 * tick}" y="224" text-anchor="middle">{tick:g}</text>'
        )
        parts.append(
            f'<text class="dim" x="34" y="{214 - 200 * tick}" text-anchor="end">{tick:g}</text>'
        )
    for i, (name, kind, confidences, accuracies, counts) in enumerate(curves):
        points = [
            (40 + 200 * c, 210 - 200 * a) for c, a in zip(confidences, accuracies, strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line {escape(kind)}" points="{path}"/>')
        top = max(float(np.max(counts, initial=1)), 1.0)
        for (x, y), count in zip(points, counts, strict=True):
            radius = 2.5 + 3.5 * np.sqrt(count / top)
            parts.append(
                f'<circle class="dot {escape(kind)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
                f"<title>{count:,}</title></circle>"
            )
        parts.append(f'<circle class="dot {escape(kind)}" cx="262" cy="{24 + 22 * i}" r="5"/>')
        parts.append(f'<text x="274" y="{28 + 22 * i}">{escape(name)}</text>')
    told = "accuracy against confidence of " + ", ".join(name for name, *_ in curves)
    return _svg(420, 245, "reliability", told, "".join(parts))


def lines(curves: Sequence[tuple[str, str, Numbers, Numbers]], across: str, up: str) -> Markup:
    """Draw curves of shares: (name, kind, x, y), both axes in percent, y from where it begins."""
    width, height, left = 520, 240, 52
    low = min((float(y.min()) for _, _, _, y in curves if y.size), default=0.0)
    start = min(0.9, np.floor(low * 20) / 20)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (width - left - 20) * x, height * (1 - (y - start) / (1 - start)) + 8

    parts = []
    for tick in np.linspace(start, 1, 6):
        _, y = place(0, tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="dim" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f} %</text>'
        )
    for tick in np.linspace(0, 1, 6):
        x, y = place(tick, start)
        parts.append(
            f'<text class="dim" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{100 * tick:.0f} %</text>'
        )
    for i, (name, kind, xs, ys) in enumerate(curves):
        step = max(1, len(xs) // 300)
        points = " ".join(
            "{:.1f},{:.1f}".format(*place(float(x), float(y)))
            for x, y in zip(xs[::step], ys[::step], strict=True)
        )
        at = left + 10 + 200 * i
        parts.append(
            f'<polyline class="line {escape(kind)}" points="{points}"/>'
            f'<circle class="dot {escape(kind)}" cx="{at}" cy="{height + 62}" r="5"/>'
            f'<text x="{at + 10}" y="{height + 66}">{escape(name)}</text>'
        )
    parts.append(
        f'<text class="dim" x="{(width + left) / 2}" y="{height + 44}" text-anchor="middle">'
        f"{escape(across)}</text>"
    )
    told = f"{up} by {across}: " + ", ".join(
        f"{name} {100 * float(y[-1]):.1f} % of all" for name, _, _, y in curves if y.size
    )
    return _svg(width, height + 76, "lines", told, "".join(parts))


def _axis(left: float, right: float, y: float) -> str:
    ticks = "".join(
        f'<text class="dim" x="{left + (right - left) * t:.0f}" y="{y + 18:.0f}" text-anchor="middle">{t:g}</text>'
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>{ticks}'


def _svg(width: float, height: float, kind: str, label: str, content: str) -> Markup:
    return Markup(  # noqa: S704 - names are escaped where they enter
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(label)}">{content}</svg>'
    )
