"""The runs of one client in one scenario, over all seeds: means and spreads. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the seeds. What never came is infinite."""

    mean: float
    least: float
    most: float

    def text(self, digits: int = 1) -> str:
        """Write the mean, and the spread where there is one.

        >>> Spread(99.5, 99, 100).text(), Spread(100, 100, 100).text(), Spread(NEVER, 4, NEVER).text()
        ('99.5 (99.0 to 100.0)', '100.0', '4.0 to never')
        """
        least, most = (_number(value, digits) for value in (self.least, self.most))
        if least == most:
            return least
        return f"{least} to {most}" if self.most == NEVER else f"{_number(self.mean, digits)} ({least} to {most})"


def _number(value: float, digits: int) -> str:
    return "never" if value == NEVER else f"{value:.{digits}f}"


def spread(runs: list[Mapping[str, Any]], *path: str) -> Spread:
    """Read a figure of each run."""
    values = []
    for run in runs:
        value: Any = run
        for name in path:
            value = value[name]
        values.append(NEVER if value is None else float(value))
    return Spread(statistics.fmean(values), min(values), max(values))


def by_scenario(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, list[Mapping[str, Any]]]]]:
    """The runs of each client, scenario by scenario."""
    for scenario in data["scenarios"]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for run in data["runs"]:
            if run["scenario"] == scenario:
                found.setdefault(run["client"], []).append(run)
        if found:
            yield scenario, found
