"""A run as an SVG picture: a bar for each median, a thin line to its 99th percentile, a tick at its goal."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from .figures import Benchmark, Curve, Row
from .report import head, number, verdict

_WIDTH: Final = 980
_LABELS: Final = 300
_BARS: Final = 500
_STEP: Final = 21
_CHART: Final = 160
_COLOURS: Final = {"reached": "#2563eb", "missed": "#dc2626", "unclear": "#d97706", "": "#9ca3af"}
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.title{font-size:15px;font-weight:600}"
    ".small{font-size:11px;fill:#6b7280}"
)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where a value lies, in pixels from the left edge, and the values that get a line."""

    place: Callable[[float], float]
    lines: list[float]


def draw(machine: dict[str, Any], benchmarks: list[Benchmark]) -> str:
    """Draw every benchmark below the other."""
    parts, y = [f'<text class="title" x="16" y="28">Frys, measured: {escape(verdict(benchmarks))}</text>'], 46
    for line in head(machine).splitlines():
        parts.append(f'<text class="small" x="16" y="{y}">{escape(line)}</text>')
        y += 15
    key = (
        "blue: goal reached, red: missed, orange: unclear, grey: no goal; "
        "bar: median, line: p99 or interval, tick: goal"
    )
    parts.append(f'<text class="small" x="16" y="{y}">{key}</text>')
    y += 14
    for benchmark in benchmarks:
        lines, y = _panel(benchmark, y + 24)
        parts += lines
    size = f'width="{_WIDTH}" height="{y + 12}" viewBox="0 0 {_WIDTH} {y + 12}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _panel(benchmark: Benchmark, y: int) -> tuple[list[str], int]:
    rows = [row for row in benchmark.rows if row.p50 is not None]
    parts = [f'<text class="title" x="16" y="{y}">{escape(benchmark.title)}</text>']
    y += 8
    axis = _axis(benchmark.name, rows)
    if axis is not None:
        bottom = y + _STEP * len(rows) + 4
        for value in axis.lines:
            x = axis.place(value)
            text = f"{value:.4g} {rows[0].unit}".strip()
            parts.append(f'<path d="M{x:.1f} {y}V{bottom}" stroke="#e5e7eb"/>')
            parts.append(
                f'<text class="small" x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">{text}</text>'
            )
    for row in rows:
        y += _STEP
        parts += _line(row, y, axis)
    y += 20 if axis is not None else 4
    if benchmark.curves:
        lines, y = _chart(benchmark.curves, y + 16)
        parts += lines
    return parts, y


def _chart(curves: list[Curve], y: int) -> tuple[list[str], int]:
    """Curves of one unit over the calls, from 0, so that what is flat looks flat."""
    most = max(point[0] for curve in curves for point in curve.points)
    top = max(point[1] for curve in curves for point in curve.points) * 1.1
    bottom, parts = y + _CHART, []
    step = 10 ** math.floor(math.log10(top / 2))
    for turn in range(int(top / step) + 1):
        level = bottom - _CHART * turn * step / top
        parts.append(f'<path d="M{_LABELS} {level:.1f}h{_BARS}" stroke="#e5e7eb"/>')
        text = f"{turn * step:.4g} {curves[0].unit}"
        parts.append(
            f'<text class="small" x="{_LABELS - 8}" y="{level + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LABELS + _BARS * share
        text = f"{most * share:,.0f} calls"
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{text}</text>')
    for curve, colour in zip(curves, ("#2563eb", "#d97706", "#6b7280"), strict=False):
        places = [(_LABELS + _BARS * x / most, bottom - _CHART * value / top) for x, value in curve.points]
        line = " ".join(f"{x:.1f},{level:.1f}" for x, level in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, level = places[-1]
        parts.append(f'<text x="{x + 8:.1f}" y="{level + 4:.1f}" fill="{colour}">{escape(curve.what)}</text>')
    return parts, bottom + 20


def _axis(name: str, rows: list[Row]) -> _Axis | None:
    """Logarithmic for times, linear around 1 for ratios, from 0 for memory; none where units differ."""
    values = [value for row in rows for value in (row.p50, row.p99, row.low, row.high, row.limit) if value]
    if not values or len({row.unit for row in rows}) > 1:
        return None
    if name == "compute":
        reach = max(0.02, *(abs(value - 1) for value in values)) * 1.1
        lines = [0.99, 1.0, 1.01] if reach < 0.1 else [1 - reach / 2, 1.0, 1 + reach / 2]
        return _Axis(lambda value: _LABELS + _BARS * (value - 1 + reach) / (2 * reach), lines)
    if name == "memory":
        top = max(values) * 1.05
        step = 10 ** math.floor(math.log10(top / 2))
        lines = [step * turn for turn in range(int(top / step) + 1)]
        return _Axis(lambda value: _LABELS + _BARS * value / top, lines)
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.05
    lines = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    return _Axis(lambda value: _LABELS + _BARS * (math.log10(value) - low) / (high - low), lines)


def _line(row: Row, y: int, axis: _Axis | None) -> list[str]:
    assert row.p50 is not None
    colour = _COLOURS.get(row.verdict, _COLOURS[""])
    label = f'<text x="{_LABELS - 10}" y="{y}" text-anchor="end">{escape(row.what)}</text>'
    words = f"{number(row.p50, row.unit)} {row.unit}".strip()
    if row.goal:
        words += f"  (goal {row.goal})" if axis is None else ""
    end = float(_LABELS)
    parts = [label]
    if axis is not None:
        x, start = axis.place(row.p50), axis.place(1.0) if row.unit == "" else float(_LABELS)
        low, high = (row.low, row.high) if row.unit == "" else (row.p50, row.p99)
        left, width = min(x, start), max(abs(x - start), 2.0)
        parts.append(f'<rect x="{left:.1f}" y="{y - 10}" width="{width:.1f}" height="12" fill="{colour}"/>')
        end = max(x, start)
        if low is not None and high is not None:
            parts.append(
                f'<path d="M{axis.place(low):.1f} {y - 4}H{axis.place(high):.1f}" stroke="{colour}"/>'
            )
            end = max(end, axis.place(high))
        if row.limit is not None:
            tick = axis.place(row.limit)
            parts.append(f'<path d="M{tick:.1f} {y - 12}v16" stroke="#111827" stroke-width="2"/>')
            end = max(end, tick)
    weight = f' fill="{colour}" font-weight="600"' if row.verdict == "missed" else ""
    parts.append(f'<text x="{end + 8:.1f}" y="{y}"{weight}>{escape(words)}</text>')
    return parts
