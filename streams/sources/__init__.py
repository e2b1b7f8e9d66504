"""Where data sets come from: files in their published layouts, read strictly; no pickle of unknown origin is opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...base.errors import CarryoverError, StorageError


def data_root(data: str | Path | None = None) -> Path:
    """The folder of the data sets: `data`, else CARRYOVER_DATA, else the user's cache folder."""
    given = data or os.environ.get("CARRYOVER_DATA")
    return Path(given).expanduser() if given else own_cache()


def own_cache() -> Path:
    """The user's cache folder, which can be written where a shared folder of data sets cannot."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "carryover"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carryover"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "carryover"
    return Path.home() / ".cache" / "carryover"


def fetch(what: str, folder: Path, get: Callable[[], Any]) -> Any:
    """Run a download into `folder` or a library's loader; whatever goes wrong is one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return get()
    except CarryoverError:
        raise
    except Exception as error:  # network, TLS, disk, checksum, archive: each library raises its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(f"{what} is not available in {folder}: {reason}.") from error
