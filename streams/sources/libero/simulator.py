"""LIBERO's own package, imported such that it asks nothing.

Imported for the first time, it asks on standard input where data sets shall lie, unless its config.yaml is there: a run
in the background waits for ever, or ends.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ....base.errors import StorageError
from ....base.files import canonical, write_atomic
from .. import data_root, own_cache
from .suites import FOLDER

VARIABLE, CONFIG = "LIBERO_CONFIG_PATH", "config.yaml"


def import_libero(data: str | Path | None = None) -> ModuleType:
    """The module `libero.libero`. A configuration of the user's is kept; else ours is written to the cache folder.

    Args:
        data: folder of the data sets, told to LIBERO in our configuration.

    Raises:
        StorageError: it is not installed.
    """
    if "libero.libero" in sys.modules:
        return sys.modules["libero.libero"]
    spec = find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise StorageError("LIBERO's simulator is not installed. Run: pip install hf-libero.")
    told = Path(os.environ.get(VARIABLE) or Path.home() / ".libero")
    if not (told / CONFIG).is_file():
        folder = own_cache() / "libero-config"
        home = Path(next(iter(spec.submodule_search_locations))) / "libero"
        paths = {
            "benchmark_root": home,
            "bddl_files": home / "bddl_files",
            "init_states": home / "init_files",
            "datasets": data_root(data) / FOLDER,
            "assets": home / "assets",
        }
        write_atomic(folder / CONFIG, canonical({key: str(path) for key, path in paths.items()}))  # JSON is YAML
        os.environ[VARIABLE] = str(folder)
    return import_module("libero.libero")
