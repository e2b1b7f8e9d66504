"""`--set name=value`, as several commands take it."""

from __future__ import annotations

import json
from typing import Any

from ..base.errors import UsageError


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`lr=0.1` and the like: numbers, true, false, null and [lists] as in JSON, everything else as text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {pair[:60]!r}: write name=value, such as lr=0.1.")
        if name in settings:
            raise UsageError(f"--set {name} is given twice.")
        try:
            settings[name] = json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):
            settings[name] = text
    return settings
