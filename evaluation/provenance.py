"""Where a record comes from, collected by allow-list: versions, commit, device kind. No names, no paths."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .record import Provenance

ROOT = Path(__file__).parent.parent


def collect(device: str, strategy: str, target: str, settings: dict[str, Any]) -> Provenance:
    """Provenance of a run that starts now."""
    import torch

    commit, dirty = _commit()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    overrides = [part for key, value in settings.items() for part in ("--set", override(key, value))]
    return Provenance(
        carryover=_version(),
        code=code_digest(),
        commit=commit,
        dirty=dirty,
        command=["carryover", "run", _shown(strategy), _shown(target), *overrides],
        python=platform.python_version(),
        torch=torch.__version__,
        platform=f"{platform.system()} {platform.machine()}",
        device=f"{device.partition(':')[0]}: {name}",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


@cache
def code_digest() -> str:
    """SHA-256 over every source file of the package, in order: two runs of one digest ran the same code."""
    total = hashlib.sha256()
    for folder in ("base", "streams", "strategies", "evaluation", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            total.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _version() -> str:
    try:
        return version("carryover")
    except PackageNotFoundError:
        return "unknown"


def _commit() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether it has changes; (None, None) where the package is not a git checkout."""
    if not (ROOT / ".git").exists():
        return None, None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") or None, bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.TimeoutExpired):
        return None, None


def override(key: str, value: Any) -> str:
    """A setting as the command line takes it, cut to what a record holds."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"[:200]


def _shown(name: str) -> str:
    """A path of the user's without its folders, which are nobody's business."""
    path, colon, attribute = name.rpartition(":")
    return f"{Path(path).name}:{attribute}" if colon else Path(name).name
