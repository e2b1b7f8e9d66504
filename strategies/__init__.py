"""Who learns: one file per strategy, shared mechanisms in `parts`, networks in `backbones`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.registry import Registry

if TYPE_CHECKING:
    from .check import check_strategy
    from .core import Context, GradientStrategy, Strategy, TrainConfig, strategy

registry = Registry("strategy", "carryover.strategies", Path(__file__).parent, "carryover.strategies")

_HOME = {
    "Context": "core",
    "GradientStrategy": "core",
    "Strategy": "core",
    "TrainConfig": "core",
    "strategy": "core",
    "load_strategy": "core",
    "check_strategy": "check",
}
__all__ = ["registry", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
