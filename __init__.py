"""Carryover: a benchmark suite for continual learning.

import carryover as co

record = co.run("gem", "rotated-digits", seeds=5)
record.matrix          # accuracies [seeds, T+1, T]; row 0 is before any training
record.metrics()       # every metric by name, with its 95 % interval
record.plot("figures") # the transfer matrix, PNG and SVG
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmarks.launch import run
    from .evaluation.record import RunRecord
    from .strategies.check import check_strategy
    from .streams.builders import (
        from_arrays,
        from_folder,
        from_hub,
        from_tasks,
        from_torchvision,
        permuted,
        rotated,
        split,
    )
    from .streams.check import check_stream
    from .streams.named import load_stream

_HOME = {
    "run": "benchmarks.launch",
    "RunRecord": "evaluation.record",
    "check_strategy": "strategies.check",
    "check_stream": "streams.check",
    "load_stream": "streams.named",
    "from_arrays": "streams",
    "from_folder": "streams",
    "from_hub": "streams",
    "from_tasks": "streams",
    "from_torchvision": "streams",
    "permuted": "streams",
    "rotated": "streams",
    "split": "streams",
}
__all__ = list(_HOME)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    # nothing heavy is imported before it is used
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
