"""Small SVG plots by hand: horizontal bars, dots on a logarithmic axis, lines. Readable on light and dark backgrounds.

Each carries its own background and both colour schemes; the viewer's preference chooses.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from xml.sax.saxutils import escape

WIDTH = 760
LEFT, RIGHT, TOP, ROW = 230, 90, 56, 30
STYLE = """
  .paper { fill: #ffffff } .ink { fill: #1f2937 } .faint { fill: #6b7280 }
  .grid { stroke: #e5e7eb } .own { fill: #2563eb } .other { fill: #9ca3af }
  .line { fill: none; stroke-width: 2.5 } .c0 { stroke: #2563eb } .c1 { stroke: #d97706 } .c2 { stroke: #6b7280 }
  .d0 { fill: #2563eb } .d1 { fill: #d97706 } .d2 { fill: #6b7280 }
  text { font: 13px system-ui, sans-serif } .title { font-size: 15px; font-weight: 600 } .small { font-size: 12px }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .ink { fill: #e5e7eb } .faint { fill: #9ca3af }
    .grid { stroke: #30363d } .own { fill: #60a5fa } .other { fill: #6b7280 }
    .c0 { stroke: #60a5fa } .c1 { stroke: #fbbf24 } .c2 { stroke: #9ca3af }
    .d0 { fill: #60a5fa } .d1 { fill: #fbbf24 } .d2 { fill: #9ca3af }
  }
"""

Points: TypeAlias = Sequence[tuple[float, float]]


def number(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"
    return f"{value:.3g}"


def bars(title: str, subtitle: str, values: Mapping[str, float], own: Sequence[str]) -> str:
    """One bar a name; those of `own` in colour."""
    height = TOP + ROW * len(values) + 16
    scale = (WIDTH - LEFT - RIGHT) / max([*values.values(), 1e-9])
    parts = []
    for n, (name, value) in enumerate(values.items()):
        top = TOP + ROW * n
        kind = "own" if name in own else "other"
        width = max(value * scale, 1)
        parts.append(_text(LEFT - 10, top + 17, name, "ink", "end"))
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{top + 3}" width="{width:.1f}" height="20" rx="2"/>')
        parts.append(_text(LEFT + width + 8, top + 17, number(value), "ink"))
    return _svg(title, subtitle, height, parts)


def dots(title: str, subtitle: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """For each name several values on one logarithmic axis, smallest to largest."""
    height = TOP + ROW * len(values) + 52
    bottom = TOP + ROW * len(values) + 4
    every = [value for row in values.values() for value in row.values() if value > 0] or [1.0]
    low, high = _decades(every)
    parts = _x_grid(low, high, bottom, LEFT, "ms")
    for n, (name, row) in enumerate(values.items()):
        middle = TOP + ROW * n + 14
        parts.append(_text(LEFT - 10, middle + 4, name, "ink", "end"))
        places = [_log_place(value, low, high, LEFT) for value in row.values()]
        parts.append(f'<line class="grid" x1="{places[0]:.1f}" x2="{places[-1]:.1f}" y1="{middle}" y2="{middle}"/>')
        for place, kind in zip(places, ("d0", "d1", "d2"), strict=False):
            parts.append(f'<circle class="{kind}" cx="{place:.1f}" cy="{middle}" r="5"/>')
    parts += _legend(list(next(iter(values.values()), {})), height - 10)
    return _svg(title, subtitle, height, parts)


def lines(title: str, subtitle: str, x_name: str, series: Mapping[str, Points]) -> str:
    """Each series over a logarithmic x; y from 0."""
    height, left, bottom = 330, 64, 262
    xs = [x for points in series.values() for x, _ in points] or [1.0]
    top_value = max([y for points in series.values() for _, y in points] + [1e-9]) * 1.08
    low, high = math.log10(min(xs)), math.log10(max(xs))
    high = high if high > low else low + 1
    parts = []
    for tick in _ticks(top_value):
        y = bottom - tick / top_value * (bottom - TOP)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, number(tick), "faint small", "end"))
    for x in sorted(set(xs)):
        parts.append(_text(_log_place(x, low, high, left), bottom + 20, f"{x:,.0f}", "faint small", "middle"))
    parts.append(_text((left + WIDTH) / 2, bottom + 40, x_name, "faint small", "middle"))
    for n, points in enumerate(series.values()):
        places = [(_log_place(x, low, high, left), bottom - y / top_value * (bottom - TOP)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line c{n}" points="{path}"/>')
        parts += [f'<circle class="d{n}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in places]
    parts += _legend(list(series), height - 10)
    return _svg(title, subtitle, height, parts)


def _svg(title: str, subtitle: str, height: float, parts: Sequence[str]) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
        _text(16, 24, title, "ink title"),
        _text(16, 43, subtitle, "faint small"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: Sequence[str], y: float) -> list[str]:
    parts, x = [], 24.0
    for n, name in enumerate(names):
        parts.append(f'<circle class="d{n}" cx="{x:.1f}" cy="{y - 4:.1f}" r="5"/>')
        parts.append(_text(x + 11, y, name, "ink small"))
        x += 40 + 7.2 * len(name)
    return parts


def _decades(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, high if high > low else low + 1


def _log_place(value: float, low: float, high: float, left: float) -> float:
    return left + 12 + (math.log10(value) - low) / (high - low) * (WIDTH - left - 60)


def _x_grid(low: float, high: float, bottom: float, left: float, unit: str) -> list[str]:
    parts = []
    for power in range(int(low), int(high) + 1):
        x = _log_place(10.0**power, low, high, left)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, f"{10.0**power:g} {unit}", "faint small", "middle"))
    return parts


def _ticks(top: float) -> list[float]:
    step: float = 10 ** math.floor(math.log10(top))
    if top / step < 2:
        step /= 4
    elif top / step < 5:
        step /= 2
    return [n * step for n in range(int(top / step) + 1)]
