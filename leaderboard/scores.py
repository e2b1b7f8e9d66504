"""Numbers as people read them: a metric with its unit and interval, and beside it what papers report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..benchmarks.protocol import Published
from ..evaluation import metrics


@dataclass(frozen=True)
class Measure:
    """How a metric is shown: `unit` is "%", or "pp" for differences; a sign where plus and minus both may be."""

    name: str
    label: str
    unit: str
    better: str
    signed: bool

    @classmethod
    def of(cls, name: str) -> Measure:
        """Of an announced metric."""
        metric = metrics.registry.load(name)
        unit, signed = ("pp", metric.better == "higher") if metric.difference else ("%", False)
        return cls(name, metric.label, unit, metric.better, signed)

    def sort_key(self, value: float | None) -> float:
        """Ascending from the best to what has no value."""
        if value is None:
            return float("inf")
        return -value if self.better == "higher" else value


@dataclass(frozen=True)
class Score:
    """A metric over seeds: in percent or points, with the half width of its 95 % interval."""

    measure: Measure
    value: float | None
    half: float | None

    @classmethod
    def of(cls, measure: Measure, summary: Mapping[str, Any] | None) -> Score:
        """Of what `summarise` says about a metric; None where nothing was measured."""
        if summary is None or summary["mean"] is None:
            return cls(measure, None, None)
        interval = summary["ci95"]
        return cls(measure, 100 * summary["mean"], None if interval is None else 50 * (interval[1] - interval[0]))

    @property
    def text(self) -> str:
        """Such as `72.4` or `−9.1`; a dash where the metric is not defined."""
        return "–" if self.value is None else number(self.value, signed=self.measure.signed)

    @property
    def spread(self) -> str:
        """Such as `± 0.8`; empty where there are too few seeds."""
        return "" if self.half is None else f"± {self.half:.1f}"

    @property
    def low(self) -> float:
        """Lower end of the interval, in the unit."""
        return (self.value or 0.0) - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval, in the unit."""
        return (self.value or 0.0) + (self.half or 0.0)


def quoted(rows: Sequence[Published], measures: Sequence[Measure]) -> list[tuple[Published, list[str]]]:
    """Published rows with their numbers as text, the best by the first measure on top, with a paper's own digits."""
    digits = max((len(repr(v).partition(".")[2]) for row in rows for v in row.scores.values()), default=1)
    best = sorted(rows, key=lambda row: measures[0].sort_key(row.scores.get(measures[0].name)))
    return [(row, [_quoted(row.scores.get(m.name), m, digits) for m in measures]) for row in best]


def _quoted(value: float | None, measure: Measure, digits: int) -> str:
    return "–" if value is None else number(value, measure.signed, digits)


def number(value: float, signed: bool = False, digits: int = 1) -> str:
    """With a true minus sign; the sign of a positive one where it matters, and none on a rounded zero."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        return f"{0:.{digits}f}"
    return text.replace("-", "−")
