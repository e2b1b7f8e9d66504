"""A sweep file: strategies x benchmarks x settings, each with its seeds, as a list of requests.

    strategies = ["finetune", "er"]
    benchmarks = ["rotated-digits"]
    seeds = "0..4"                     # or a list
    out = "runs"                       # default: the file's name without .toml, beside it

    [grid]                             # every combination, for every strategy
    lr = [0.01, 0.1]

    [grid.er]                          # for one strategy
    memory = [100, 500]

With [[grid]], several grids stand side by side: one thing after the other is varied, not each with each.

What has a record is not run again, so a sweep is resumed by starting it again, and grows by editing the file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import InvalidError, UsageError, unknown
from .launch import Request, RunSpec
from .protocol import load_benchmark, read_toml

KEYS = ("strategies", "benchmarks", "seeds", "out", "grid", "data", "device")
MOST, MANY = 2**31, 10_000  # the largest seed, and how many at once


def read_sweep(path: Path, workers: int = 1, out: str | None = None, **common: Any) -> list[Request]:
    """The requests of a sweep file, in order: benchmark, strategy, combination.

    Args:
        out: folder in place of the file's own. common: fields of `RunSpec` for all.
    """
    table = _read(path)
    root = Path(out or path.parent / table.get("out", path.stem))
    requests: dict[str, Request] = {}
    for target, strategy in itertools.product(table["benchmarks"], table["strategies"]):
        benchmark = load_benchmark(target)
        seeds = parse_seeds(table["seeds"]) if "seeds" in table else tuple(benchmark.seeds)
        for settings in combinations(table.get("grid", {}), strategy):
            folder = str(root / benchmark.name / _leaf(strategy, settings))
            if folder in requests:
                raise InvalidError(f"{path}: two runs would share the folder {folder}; name each value once.")
            spec = RunSpec(
                strategy, target, settings, **{k: table[k] for k in ("data", "device") if k in table} | common
            )
            requests[folder] = Request(spec, seeds, folder, resume=True, workers=workers)
    return list(requests.values())


def combinations(grid: dict[str, Any] | list[dict[str, Any]], strategy: str) -> list[dict[str, Any]]:
    """Every combination of the common settings and the strategy's own; one empty one where there are none.

    Of several grids, those of each; what comes again comes once.
    """
    if isinstance(grid, list):
        every = [settings for one in grid for settings in combinations(one, strategy)]
        return [settings for i, settings in enumerate(every) if settings not in every[:i]]
    own = {name: values for name, values in grid.items() if not isinstance(values, dict)} | grid.get(strategy, {})
    choices = [values if isinstance(values, list) else [values] for values in own.values()]
    if math.prod(map(len, choices)) > MANY:
        raise UsageError(f"the grid has more than {MANY:,} combinations for {strategy}.")
    return [dict(zip(own, chosen, strict=True)) for chosen in itertools.product(*choices)]


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from "0..4", "0,2,5", "7" (that one seed), or a list of integers."""
    wrong = UsageError(
        f"seeds {str(value)[:40]!r}: write 0..4, or 0,2,5, or one number; from 0 to {MOST}, at most {MANY:,} of them."
    )
    dots = isinstance(value, str) and ".." in value
    try:
        given = value if isinstance(value, list) else [int(part) for part in value.split(".." if dots else ",")]
    except (ValueError, AttributeError):
        raise wrong from None
    if not all(type(seed) is int and 0 <= seed <= MOST for seed in given) or (dots and len(given) != 2):
        raise wrong
    seeds = range(given[0], given[1] + 1) if dots else given
    if not 0 < len(seeds) <= MANY:
        raise wrong
    return tuple(dict.fromkeys(seeds))


def _read(path: Path) -> dict[str, Any]:
    table = read_toml(path)
    for key in table:
        if key not in KEYS:
            raise unknown(f"key in {path}:", key, KEYS)
    for key in ("strategies", "benchmarks"):
        names = table.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InvalidError(f'{path}: {key} must be a list of names, such as {key} = ["..."].')
    for key in ("out", "data", "device"):
        if not isinstance(table.get(key, ""), str) or "\0" in table.get(key, ""):
            raise InvalidError(f"{path}: {key} must be text.")
    grid = table.get("grid", {})
    for one in grid if isinstance(grid, list) and grid else [grid]:
        _check_grid(one, table["strategies"], f"{path}: grid")
    return table


def _check_grid(grid: Any, strategies: Sequence[str], where: str) -> None:
    """A table of settings with their values, and one such table for a strategy."""
    if not isinstance(grid, dict):
        raise InvalidError(f"{where} must be a table of settings, each with a list of values.")
    for name, values in grid.items():
        if name in strategies:
            _check_grid(values, (), f"{where}.{name}")
        elif isinstance(values, dict):
            raise InvalidError(
                f"{where}.{name} is neither a strategy of this sweep nor a setting with values. A dotted setting "
                'needs quotes: "model.hidden" = [...].'
            )
        elif values == []:
            raise InvalidError(f"{where}.{name} has no values.")


def _leaf(strategy: str, settings: dict[str, Any]) -> str:
    """A folder name that says what is in it."""
    name = strategy.rpartition(":")[2] if ".py" in strategy else strategy
    parts = [f"{key}={_plain(value)}" for key, value in settings.items()]
    return "/".join([name, ",".join(parts)]) if parts else name


def _plain(value: Any) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in text)
