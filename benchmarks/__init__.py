"""What counts: frozen protocols, one TOML file each, and the launcher that runs lists of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .launch import run, run_all
    from .protocol import Benchmark, load_benchmark, names

_HOME = {
    "Benchmark": "protocol",
    "load_benchmark": "protocol",
    "names": "protocol",
    "run": "launch",
    "run_all": "launch",
}
__all__ = ["Benchmark", "load_benchmark", "names", "run", "run_all"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
