"""What every measurement shares: the data, and the file that its result goes to."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MNIST = Path(os.environ.get("CARRYOVER_TEST_DATA") or HERE.parents[2] / "shared/data/mnist-small")


@pytest.fixture(scope="session")
def digits():
    """Labelled 28x28 images: MNIST where it is at hand, else noise, on which every step costs the same."""
    import torch
    from carryover.streams import from_arrays
    from carryover.streams.sources.idx import mnist

    if (MNIST / "MNIST").is_dir():
        return mnist("MNIST", MNIST)
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (10_000, 1, 28, 28), dtype=torch.uint8, generator=draw)
    y = torch.arange(10_000) % 10
    return from_arrays(x[:8000], y[:8000], x[8000:], y[8000:])


@pytest.fixture(autouse=True)
def one_thread():
    """Unless a measurement says otherwise; nobody's choice outlives it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def report(benchmark, request) -> Callable[..., None]:
    """report(what, ratio, bound, **facts): write results/NAME.json, and tell pytest-benchmark."""

    def write(what: str, ratio: float | None, bound: str | None, **facts: Any) -> None:
        name = request.node.name.removeprefix("test_").replace("[", "-").replace("]", "").replace("_", "-")
        result = {"what": what, "ratio": ratio and round(ratio, 4), "bound": bound, **facts, "machine": machine()}
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        benchmark.extra_info.update(ratio=result["ratio"], bound=bound)
        print(f"\n{name}: {result['ratio']} (bound {bound}): {what}")

    return write


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code; nothing that names the machine or its owner."""
    import torch
    from carryover.evaluation.threads import cores

    return {
        "cpu": _cpu(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()
