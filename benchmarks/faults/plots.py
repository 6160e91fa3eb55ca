"""The plots, as SVG texts. Pure; drawn to be read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.faults.summary import NEVER, by_scenario, spread

_LABEL, _BAR, _NOTE, _ROW, _HEAD, _FOOT, _GAP = 250, 300, 130, 20, 46, 40, 26
_PANEL = _LABEL + _BAR + _NOTE
_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f } .t { font-size: 15px } .t, .h { font-weight: 600 }
.s { font-size: 11px; fill: #57606a } .a { stroke: #8c959f; stroke-width: 1; fill: none } .w { stroke: #24292f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .s { fill: #9da7b3 } .w { stroke: #e6edf3 } }
</style>"""
_WHOLE, _HONEST, _WRONG = "#2f81f7", "#9aa4af", "#d1242f"
_SHADES = {"p99": "#c297ff", "p95": "#8957e5", "p50": "#4c2889"}


def plots(data: Mapping[str, Any]) -> dict[str, str]:
    """Draw all plots; the keys are file names."""
    return {"faults-outcomes.svg": _outcomes(data), "faults-first-token.svg": _first(data)}


def _outcomes(data: Mapping[str, Any]) -> str:
    panels = []
    for scenario, runs in by_scenario(data):
        rows = []
        for name, each in runs.items():
            whole, wrong = spread(each, "whole"), spread(each, "wrong")
            bars = [
                _bar(0, whole.mean, _WHOLE),
                _bar(whole.mean, 100 - wrong.mean, _HONEST),
                _bar(100 - wrong.mean, 100, _WRONG),
                _whisker(whole.least, whole.most),
            ]
            note = f"{whole.mean:.1f} %" + (f", {wrong.mean:.1f} % wrong" if wrong.mean else "")
            rows.append((data["clients"][name]["title"], bars, note))
        axis = _axis([0, 25, 50, 75, 100], 100, "% of calls")
        panels.append((data["scenarios"][scenario]["title"], rows, axis))
    legend = [("whole", _WHOLE), ("an honest error", _HONEST), ("silently wrong", _WRONG)]
    return _page("What came of the calls", "line: least to most of the runs", panels, legend)


def _first(data: Mapping[str, Any]) -> str:
    panels = []
    shown = [(name, runs) for name, runs in by_scenario(data) if not data["scenarios"][name]["whole"]]
    for scenario, runs in shown:
        figures = {
            name: {place: spread(each, "first", place) for place in ("p50", "p95", "p99")}
            for name, each in runs.items()
        }
        known = [found.mean for each in figures.values() for found in each.values() if found.mean != NEVER]
        most = max([2.0, *known])
        rows = []
        for name, each in figures.items():
            bars = [
                _bar(0, 100 * min(each[place].mean / most, 1.0), shade, hatched=each[place].mean == NEVER)
                for place, shade in _SHADES.items()
            ]
            least, top = each["p95"].least, each["p95"].most
            if top != NEVER:
                bars.append(_whisker(100 * least / most, 100 * top / most))
            note = " / ".join("never" if found.mean == NEVER else f"{found.mean:.1f}" for found in each.values())
            rows.append((data["clients"][name]["title"], bars, note))
        step = next((size for size in (0.5, 1, 2, 5, 10, 20, 50) if most / size <= 6), 100)
        marks = [step * number for number in range(int(most / step) + 1)]
        panels.append((data["scenarios"][scenario]["title"], rows, _axis(marks, most, "seconds to the first token")))
    legend = [(place, _SHADES[place]) for place in ("p50", "p95", "p99")]
    return _page("Seconds to the first token", "line: least to most p95; faint: never reached", panels, legend)


def _bar(start: float, end: float, colour: str, *, hatched: bool = False) -> str:
    """A bar from one percentage of the width to another."""
    if end <= start:
        return ""
    left, width = _LABEL + start / 100 * _BAR, (end - start) / 100 * _BAR
    faint = ' fill-opacity="0.25"' if hatched else ""
    return f'<rect x="{left:.1f}" y="3" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"{faint}/>'


def _whisker(start: float, end: float) -> str:
    left, right = (_LABEL + min(value, 100.0) / 100 * _BAR for value in (start, end))
    return f'<path class="w" d="M{left:.1f} {_ROW / 2}H{right:.1f}"/>' if right - left >= 1 else ""


def _axis(marks: Sequence[float], most: float, told: str) -> str:
    """The ticks under a panel, and what they count."""
    drawn = [f'<path class="a" d="M{_LABEL} 0H{_LABEL + _BAR}"/>']
    for mark in marks:
        place = _LABEL + mark / most * _BAR
        drawn.append(f'<path class="a" d="M{place:.1f} 0v4"/>')
        drawn.append(f'<text class="s" x="{place:.1f}" y="16" text-anchor="middle">{mark:g}</text>')
    drawn.append(f'<text class="s" x="{_LABEL + _BAR / 2}" y="30" text-anchor="middle">{escape(told)}</text>')
    return "".join(drawn)


def _page(
    title: str,
    note: str,
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[str], str]], str]],
    legend: Sequence[tuple[str, str]],
) -> str:
    """Panels one under the other, each with a row for every client."""
    drawn, top = [f'<text class="t" x="8" y="24">{escape(title)}</text>'], 44
    for number, (word, colour) in enumerate(legend):
        drawn.append(f'<rect x="{8 + 140 * number}" y="{top - 8}" width="12" height="12" fill="{colour}"/>')
        drawn.append(f'<text x="{26 + 140 * number}" y="{top + 2}">{escape(word)}</text>')
    drawn.append(f'<text class="s" x="{8 + 140 * len(legend)}" y="{top + 2}">{escape(note)}</text>')
    for head, rows, axis in panels:
        top += _GAP
        drawn.append(f'<text class="h" x="8" y="{top + 14}">{escape(head)}</text>')
        top += 22
        for label, bars, value in rows:
            words = f'<text x="{_LABEL - 8}" y="14" text-anchor="end">{escape(_short(label))}</text>'
            told = f'<text class="s" x="{_LABEL + _BAR + 8}" y="14">{escape(value)}</text>'
            drawn.append(f'<g transform="translate(0 {top})">{words}{"".join(bars)}{told}</g>')
            top += _ROW
        drawn.append(f'<g transform="translate(0 {top})">{axis}</g>')
        top += _FOOT
    size = f'width="{_PANEL}" height="{top}" viewBox="0 0 {_PANEL} {top}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">\n{_STYLE}\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _short(label: str) -> str:
    return label if len(label) <= 40 else label[:39] + "…"
