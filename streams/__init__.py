"""What arrives: streams of tasks from named data sets or from any labelled data of yours."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.registry import Registry

if TYPE_CHECKING:
    from .builders import from_tasks, permuted, rotated, split
    from .check import check_stream
    from .core import CIL, DIL, ONLINE, TASK_FREE, TIL, Data, Query, Setting, Stream, Task
    from .labelled import Labelled, from_arrays
    from .leakage import overlap
    from .named import load_stream, stream
    from .sources.folder import from_folder
    from .sources.hub import from_hub
    from .sources.vision import from_torchvision

registry = Registry("stream", "carryover.streams", Path(__file__).parent, "carryover.streams")

_HOMES = {
    "core": ("CIL", "DIL", "ONLINE", "TASK_FREE", "TIL", "SETTINGS", "Data", "LabelledTest", "Query", "Setting",
             "Stream", "StreamInfo", "Task"),
    "labelled": ("Labelled", "from_arrays"),
    "builders": ("from_tasks", "permuted", "rotated", "split"),
    "sources.folder": ("from_folder",),
    "sources.hub": ("from_hub",),
    "sources.vision": ("from_torchvision",),
    "leakage": ("overlap",),
    "check": ("check_stream",),
    "named": ("load_stream", "stream"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME) + ["registry"]


def __getattr__(name: str) -> Any:
    # torch is imported when a stream is first touched, not when the command line answers --help
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
