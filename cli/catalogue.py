"""What there is, as plain rows, without importing anything heavy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

KINDS = ("streams", "strategies", "benchmarks", "metrics")


def catalogue(kind: str) -> list[dict[str, Any]]:
    """Rows of one kind: at least `name` and `summary`; streams and benchmarks also tell whether they are embedded."""
    if kind == "streams":
        from ..streams import registry

        return [
            {"name": e.name, "summary": e.summary, "embedded": bool(e.options.get("embedded")), "source": e.source}
            | {k: e.options[k] for k in ("setting", "needs") if k in e.options}
            for e in registry.entries.values()
        ]
    if kind == "strategies":
        from ..strategies import registry

        return [
            {"name": e.name, "summary": e.summary, "needs": list(e.options.get("needs", ())), "source": e.source}
            for e in registry.entries.values()
        ]
    if kind == "benchmarks":
        from ..benchmarks.protocol import load_benchmark, names

        found = [load_benchmark(name) for name in names()]
        return [
            {
                "name": b.name,
                "summary": b.summary,
                "embedded": b.embedded,
                "version": b.version,
                "stream": b.stream,
                "seeds": b.seeds,
                "scores": b.scores,
                "published": [asdict(row) for row in b.published],
            }
            for b in found
        ]
    from ..evaluation.metrics import registry

    return [
        {
            "name": e.name,
            "summary": e.summary,
            "unit": e.options.get("unit"),
            "better": e.options.get("better"),
            "source": e.source,
        }
        for e in registry.entries.values()
    ]
