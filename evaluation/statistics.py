"""How sure: intervals over seeds, paired differences, ranks with their doubt, and a record in a few lines.

Intervals are Student-t. Over the handful of seeds that a run has, they cover what they say; percentile
bootstrap and "± one standard deviation" do not. With fewer than three seeds there is no interval at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..base.errors import UsageError
from . import metrics

if TYPE_CHECKING:
    from .record import RunRecord, SeedRun

    Scores = Mapping[int, float] | Sequence[float]  # by seed; in a sequence the index stands for the seed

LEAST = 3  # seeds, below which an interval would be an empty phrase
ROUNDING = 1e-12  # differences of scores below this are the last bits of a float
HEADLINES = {
    "acc": "accuracy (ACC)",
    "la": "learning accuracy (LA)",
    "bwt": "backward transfer (BWT)",
    "forgetting_chaudhry": "forgetting (Chaudhry)",
    "fwt_lopez_paz": "forward transfer (Lopez-Paz)",
}


@dataclass(frozen=True)
class Difference:
    """First minus second, over the seeds that both have.

    Attributes:
        mean: None without a common seed, or where a score is NaN or None.
        ci95: 95 % interval; None for fewer than three seeds.
        p: two-sided, of the paired t-test; None where `ci95` is.
        seeds: how many both have.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    p: float | None
    seeds: int


def t_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean; None for fewer than three values or where one is NaN or None."""
    values = [_float(value) for value in values]
    if len(values) < LEAST or any(map(math.isnan, values)):
        return None
    from scipy.special import stdtrit  # comes with scikit-learn

    mean, error = _mean_and_error(values)
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return mean - half, mean + half


def paired(a: Scores, b: Scores) -> Difference:
    """The difference a - b seed by seed, which removes what the seeds have in common.

    Args:
        a, b: seed to score; or sequences of equal length, matched by position.
    """
    if not isinstance(a, Mapping) and not isinstance(b, Mapping) and len(a) != len(b):
        raise UsageError(f"paired scores differ in number: {len(a)} and {len(b)}. Give them by seed, as dicts.")
    a, b = _by_seed(a), _by_seed(b)
    gaps = [_float(a[seed]) - _float(b[seed]) for seed in sorted(a.keys() & b.keys())]
    if not gaps or any(map(math.isnan, gaps)):
        return Difference(None, None, None, len(gaps))
    if len(gaps) < LEAST:
        return Difference(sum(gaps) / len(gaps), None, None, len(gaps))
    mean, error = _mean_and_error(gaps)
    return Difference(mean, t_interval(gaps), _p_value(mean, error, len(gaps) - 1), len(gaps))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being many (Holm 1979): compare them with the level of all together."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def rank_intervals(scores: Sequence[Scores], alpha: float = 0.05, better: str = "higher") -> list[tuple[int, int]]:
    """Which ranks each entry may have: from 1 + the significantly better to N - the significantly worse.

    Every entry is compared with all others by paired t-tests, Holm-corrected over its own comparisons.
    Entries that share fewer than three seeds are not told apart.

    Args:
        scores: for each entry, seed to score, or a sequence matched by position.
        alpha: chance that any one of an entry's comparisons is wrongly called significant.
        better: "higher" or "lower" scores.

    Returns:
        (best, worst) rank of each entry, from 1.
    """
    if better not in ("higher", "lower"):
        raise UsageError(f"better is {better!r}; it must be 'higher' or 'lower'.")
    return [_rank_interval(i, scores, alpha, 1 if better == "higher" else -1) for i in range(len(scores))]


def summarise(record: RunRecord, names: Iterable[Any] = ()) -> dict[str, dict[str, Any]]:
    """Metrics of a record over its complete seeds: those asked for, or all that counts and test sizes give.

    Returns:
        name to `mean`, `ci95` ([low, high] or None), `per_seed` (in the record's order), `unit` and `better`;
        fractions, and None where a metric is undefined.
    """
    names = [names] if isinstance(names, str) else list(names)
    complete = [i for i, run in enumerate(record.runs) if run.status == "complete"]
    matrix, curves = record.matrix[complete], record.curves
    if curves is None and names:  # what is asked for by name is undefined, not an error
        curves = matrix.new_full((len(complete), len(record.stream.tasks), 1), math.nan)
    given = {} if curves is None else {"curves": curves}
    values = metrics.compute(matrix, names, n=record.stream.test_sizes, **given)
    functions = {key: function for key, function in map(metrics.resolve, names or values)}
    return {name: _summary(value.tolist(), functions[name]) for name, value in values.items()}


def describe(record: RunRecord, scores: Sequence[str] = ()) -> str:
    """A record as a notebook shows it: what ran, headline metrics with intervals, mean matrix, controls, cost.

    Args:
        scores: metrics beside the usual ones, by name.
    """
    lines = [_title(record), _seeds(record)]
    if record.complete and record.stream.tasks:
        headlines = HEADLINES | {name: metrics.registry.load(name).label for name in scores if name not in HEADLINES}
        lines += ["", *_headlines(record, headlines), *_mean_matrix(record)]
        lines += [*_controls(record), _cost(record.complete)]
    return "\n".join(lines)


# -- statistics ----------------------------------------------------------------------------------------------


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and standard error of the mean."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def _p_value(mean: float, error: float, freedom: int) -> float:
    if error < ROUNDING:  # the same difference at every seed: sure, one way or the other
        return float(abs(mean) < ROUNDING)
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(mean / error)))


def _by_seed(scores: Scores) -> Mapping[int, float]:
    return scores if isinstance(scores, Mapping) else dict(enumerate(scores))


def _rank_interval(i: int, scores: Sequence[Scores], alpha: float, sign: int) -> tuple[int, int]:
    others = [paired(other, scores[i]) for j, other in enumerate(scores) if j != i]
    adjusted = holm([1.0 if other.p is None else other.p for other in others])
    apart = [sign * other.mean for other, p in zip(others, adjusted, strict=True) if p < alpha]
    return 1 + sum(gap > 0 for gap in apart), len(scores) - sum(gap < 0 for gap in apart)


def _summary(per_seed: list[float], function: Any) -> dict[str, Any]:
    interval = t_interval(per_seed)
    mean = math.fsum(per_seed) / len(per_seed) if per_seed else math.nan
    return {
        "mean": _or_none(mean),
        "ci95": list(interval) if interval else None,
        "per_seed": [_or_none(value) for value in per_seed],
        "unit": getattr(function, "unit", None),
        "better": getattr(function, "better", None),
    }


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


# -- a record in a few lines ---------------------------------------------------------------------------------


def _title(record: RunRecord) -> str:
    stream, benchmark = record.stream, record.benchmark
    tasks = f"{len(stream.tasks)} task{'s' * (len(stream.tasks) != 1)}"
    title = f"{record.strategy.name} on {stream.name} v{stream.version} ({stream.setting}, {tasks})"
    if benchmark.version:
        title += f", benchmark {benchmark.name} v{benchmark.version}"
    if stream.scored_on != "test":
        title += f", scored on {stream.scored_on} data"
    if benchmark.deviations:
        title += f", deviating in {', '.join(benchmark.deviations[:3])}{' ...' * (len(benchmark.deviations) > 3)}"
    return title


def _seeds(record: RunRecord) -> str:
    groups = []
    for status in ("complete", "diverged", "partial"):
        seeds = [run.seed for run in record.runs if run.status == status]
        if seeds or status == "complete":
            listed = ", ".join(map(str, seeds[:12])) + (", ..." if len(seeds) > 12 else "")
            groups.append(f"{len(seeds)} {status}" + (f" ({listed})" if seeds else ""))
    return "seeds: " + "; ".join(groups)


def _headlines(record: RunRecord, labels: Mapping[str, str]) -> list[str]:
    lines = []
    for name, summary in summarise(record, list(labels)).items():
        unit = "pp" if metrics.registry.load(name).difference else "% "
        value = "not defined" if summary["mean"] is None else f"{100 * summary['mean']:7.2f} {unit}"
        if summary["ci95"]:
            low, high = summary["ci95"]
            value += f"   [{100 * low:.2f}, {100 * high:.2f}]"
        lines.append(f"{labels[name]:<29} {value}")
    few = len(record.complete) < LEAST
    return [*lines, "no intervals: fewer than three seeds" if few else "95 % Student-t intervals over seeds"]


def _mean_matrix(record: RunRecord) -> list[str]:
    """Text of the mean accuracies [T+1, T], for streams that fit the width of a page."""
    tasks = len(record.stream.tasks)
    if tasks > 12:
        return []
    complete = [i for i, run in enumerate(record.runs) if run.status == "complete"]
    header = "".join(f"{j:6d}" for j in range(1, tasks + 1))
    rows = (100 * record.matrix[complete].mean(0)).tolist()
    cells = ["".join("     -" if math.isnan(x) else f"{x:6.1f}" for x in row) for row in rows]
    caption = "mean accuracy in %; rows: after so many tasks, columns: on task"
    return [caption, " " * 3 + header, *(f"{i:3d}{row}" for i, row in enumerate(cells))]


def _controls(record: RunRecord) -> list[str]:
    """What is kept outside the stream: accuracy on each control, mean over seeds."""
    lines = []
    for c, (name, size) in enumerate(record.stream.controls.items()):
        first, last = (100 * sum(run.controls[row][c] for run in record.complete) / size for row in (0, -1))
        first, last = first / len(record.complete), last / len(record.complete)
        lines.append(f"outside the stream, on {name}: {first:.1f} % before training, {last:.1f} % after the last task")
    return lines


def _cost(runs: list[SeedRun]) -> str:
    """Means over seeds."""

    def mean(values: Iterable[int]) -> float:
        return sum(values) / len(runs)

    flops = mean(run.cost.train_flops for run in runs)
    samples = mean(run.cost.samples_seen for run in runs)
    seconds = mean(run.measured.train_ms for run in runs) / 1000
    cpu = mean(run.measured.train_cpu_ms for run in runs) / 1000
    kept = mean(run.cost.replay_bytes + run.cost.state_bytes for run in runs)
    trained, total = (
        mean(run.cost.params_trained for run in runs),
        mean(run.cost.params_total for run in runs),
    )
    return (
        f"cost per seed: {_short(flops)}FLOP in training, {samples:,.0f} samples, {seconds:,.1f} s"
        f"{f' ({cpu:,.1f} s of CPU)' if cpu else ''}; "
        f"{trained:,.0f} of {total:,.0f} parameters trained, {_short(kept)}B kept besides"
    )


def _short(value: float) -> str:
    """1234567 as "1.23 M", ready for a unit."""
    power = min(6, int(math.log10(value) // 3)) if value >= 1 else 0
    return f"{value / 1000**power:.4g} {' kMGTPE'[power].strip()}"
