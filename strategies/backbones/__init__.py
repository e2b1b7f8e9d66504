"""Networks by name. A backbone is a function of (input shape, number of classes, options) announced by `@backbone`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...base.errors import UsageError, unknown
from ...base.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from ...streams.core import StreamInfo

registry = Registry("backbone", "carryover.strategies.backbones", Path(__file__).parent, "carryover.backbones")


def backbone(name: str) -> Callable[[Callable], Callable]:
    """Announce a network builder under a name; the registry finds it by reading the source."""
    return lambda function: function


def build(name: str, info: StreamInfo, **options: Any) -> nn.Module:
    """A freshly initialised network for a stream, drawn from torch's global generator."""
    function = registry.load(name)
    allowed = [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            raise unknown(f"option of the model {name}", option, allowed)
    if "layout" in allowed:  # of inputs that hold several things
        if not info.layout or "layout" in options:
            raise UsageError(f"the model {name} reads what a robot sees, and {info.name} does not show that.")
        options = {**options, "layout": info.layout}
    try:
        return function(info.shape, info.classes, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the model {name} cannot be built for inputs of shape {info.shape}: {error}") from error
