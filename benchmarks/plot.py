"""Horizontal bars as SVG, to be read on light and on dark pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LABEL, _BAR, _NOTE, _ROW, _HEAD = 210, 330, 150, 22, 40
_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f } .t { font-size: 15px; font-weight: 600 }
.ours { fill: #2f81f7 } .floor { fill: #9aa4af } .peer { fill: #d29922 } .w { stroke: #24292f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .w { stroke: #e6edf3 } }
</style>"""


@dataclass(frozen=True)
class Bar:
    """One bar: its length, the least and the most that were seen, and its kind: ``ours``, ``peer`` or ``floor``."""

    label: str
    value: float
    least: float
    most: float
    kind: str = "peer"


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Draw bars, with a line from the least to the most.

    >>> bars("A call", "µs", [Bar("ours", 2, 1, 3, "ours")]).startswith("<svg")
    True
    """
    longest = max((row.most for row in rows), default=1.0) or 1.0
    width, height = _LABEL + _BAR + _NOTE, _HEAD + _ROW * len(rows) + 8
    parts = [f'<text class="t" x="8" y="22">{escape(title)}</text>']
    for place, row in enumerate(rows):
        top = _HEAD + _ROW * place
        length, middle = row.value / longest * _BAR, top + 8
        least, most = (_LABEL + end / longest * _BAR for end in (row.least, row.most))
        parts += [
            f'<text x="{_LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect class="{row.kind}" x="{_LABEL}" y="{top}" width="{max(length, 1):.1f}" height="16" rx="2"/>',
            f'<path class="w" d="M{least:.1f} {middle}H{most:.1f}"/>',
            f'<text x="{max(_LABEL + length, most) + 6:.1f}" y="{top + 12}">{_number(row.value)} {escape(unit)}</text>',
        ]
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(title)}">\n{_STYLE}\n{inside}\n</svg>\n'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
