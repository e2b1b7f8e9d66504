"""Records as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import metrics
from .statistics import paired, summarise

if TYPE_CHECKING:
    from rich.table import Table

    from .record import RunRecord, SeedRun

COLUMNS = ("acc", "bwt", "fwt_lopez_paz", "forgetting_chaudhry")


def results(
    records: Sequence[RunRecord], title: str = "", narrow: bool = False, columns: Sequence[str] = COLUMNS
) -> Table:
    """One row per record: metrics in percent with 95 % intervals, compute, memory, time.

    Settings that all records share stand below the table, the others beside the strategy.

    Args:
        narrow: for 80 columns; without compute, memory and time.
        columns: names of metrics.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shared, own = _settings(records)
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        caption=Text(f"all with {shared}") if shared else None,
        caption_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("strategy", overflow="fold")
    table.add_column("seeds", justify="right")
    for name in columns:
        table.add_column(f"{metrics.registry.load(name).label} %", justify="right", no_wrap=True)
    for heading in () if narrow else ("GFLOP", "kept kB", "s/seed"):
        table.add_column(heading, justify="right")
    for record, settings in zip(records, own, strict=True):
        runs, summary = record.complete, summarise(record, list(columns))
        table.add_row(
            Text(("\n" if narrow else "  ").join([record.strategy.name, *settings])),
            str(len(runs)),
            *(percent(summary[name]) for name in columns),
            *([] if narrow else _costs(runs)),
        )
    return table


def _settings(records: Sequence[RunRecord]) -> tuple[str, list[list[str]]]:
    """What users set, as text: in all of the records, and in each beside that."""
    each = [[f"{key}={value}" for key, value in record.benchmark.settings.items()] for record in records]
    shared = [text for text in each[0] if all(text in texts for texts in each)] if each else []
    return ", ".join(shared), [[text for text in texts if text not in shared] for texts in each]


def _costs(runs: Sequence[SeedRun]) -> list[str]:
    return [
        _mean([run.cost.train_flops for run in runs], 1e9),
        _mean([run.cost.replay_bytes + run.cost.state_bytes for run in runs], 1e3),
        _mean([run.measured.train_ms for run in runs], 1e3),
    ]


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
