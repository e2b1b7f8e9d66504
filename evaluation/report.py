"""Records as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .statistics import paired, summarise

if TYPE_CHECKING:
    from rich.table import Table

    from .record import RunRecord

COLUMNS = {"acc": "ACC", "bwt": "BWT", "fwt_lopez_paz": "FWT", "forgetting_chaudhry": "forgetting"}


def results(records: Sequence[RunRecord], title: str = "") -> Table:
    """One row per record: headline metrics in percent with 95 % intervals, compute, memory, time."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold")
    table.add_column("strategy")
    settled = any(record.benchmark.settings for record in records)
    if settled:
        table.add_column("settings")
    table.add_column("seeds", justify="right")
    for heading in COLUMNS.values():
        table.add_column(f"{heading} %", justify="right")
    for heading in ("GFLOP", "kept kB", "s/seed"):
        table.add_column(heading, justify="right")
    for record in records:
        runs, summary = record.complete, summarise(record, list(COLUMNS))
        table.add_row(
            record.strategy.name,
            *([", ".join(f"{k}={v}" for k, v in record.benchmark.settings.items())] if settled else []),
            str(len(runs)),
            *(percent(summary[name]) for name in COLUMNS),
            _mean([run.cost.train_flops for run in runs], 1e9),
            _mean([run.cost.replay_bytes + run.cost.state_bytes for run in runs], 1e3),
            _mean([run.measured.train_ms for run in runs], 1e3),
        )
    return table


def comparison(a: RunRecord, b: RunRecord, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Paired differences a - b for each metric, over the seeds that both completed."""
    names = list(names) or list(COLUMNS)
    mine, other = summarise(a, names), summarise(b, names)
    rows = []
    for name in names:
        first = dict(zip((run.seed for run in a.complete), mine[name]["per_seed"], strict=True))
        second = dict(zip((run.seed for run in b.complete), other[name]["per_seed"], strict=True))
        gap = paired(first, second)
        rows.append(
            {
                "metric": name,
                "a": mine[name]["mean"],
                "b": other[name]["mean"],
                "difference": gap.mean,
                "ci95": list(gap.ci95) if gap.ci95 else None,
                "p": gap.p,
                "seeds": gap.seeds,
                "unit": mine[name]["unit"],
            }
        )
    return rows


def percent(summary: dict[str, Any]) -> str:
    """A mean with half its interval, in percent: 85.3 ±0.8."""
    if summary["mean"] is None:
        return "-"
    text = f"{100 * summary['mean']:.1f}"
    return text + (f" ±{50 * (summary['ci95'][1] - summary['ci95'][0]):.1f}" if summary["ci95"] else "")


def _mean(values: Sequence[float], scale: float) -> str:
    return f"{sum(values) / len(values) / scale:,.1f}" if values else "-"
