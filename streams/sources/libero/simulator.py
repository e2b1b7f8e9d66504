"""LIBERO's own package, imported such that it asks nothing; what it needs beside itself, and which versions it is of.

Imported for the first time, it asks on standard input where data sets shall lie, unless its config.yaml is there: a run
in the background waits for ever, or ends. Goals and initial states come with the package. Models and textures are
looked for beside them, then in a folder of their own.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ....base.errors import CarryoverError, StorageError
from ....base.files import canonical, read_json, sha256, write_atomic
from .. import data_root, own_cache
from ..needs import Need
from .suites import FOLDER

VARIABLE, CONFIG = "LIBERO_CONFIG_PATH", "config.yaml"
PACKAGE, ASSETS = "hf-libero", "libero-assets"  # what streams need of it
GET = 'pip install "carryover[libero]"'
FOLDERS = ("articulated_objects", "scenes", "stable_hope_objects", "stable_scanned_objects", "turbosquid_objects")
KEPT_LIMIT = 2**20  # bytes of the file that keeps digests of the assets


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
        raise StorageError(f"LIBERO's simulator is not installed. Run: {GET}.")
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


def home() -> Path | None:
    """Folder of the package that holds its goals and initial states; None where it is not installed."""
    spec = find_spec("libero")
    places = [Path(place) / "libero" for place in (spec and spec.submodule_search_locations) or ()]
    return next((place for place in places if (place / "bddl_files").is_dir()), None)


def goal_file(suite: str, task: str) -> Path:
    """Of a task, in BDDL."""
    return home() / "bddl_files" / suite.replace("-", "_") / f"{task}.bddl"


def states_file(suite: str, task: str) -> Path:
    """Of a task's 50 initial states; see `initial.read_initial_states`."""
    return home() / "init_files" / suite.replace("-", "_") / f"{task}.pruned_init"


def assets_folder() -> Path:
    """Where LIBERO will look for models and textures."""
    beside = (home() or Path()) / "assets"
    return beside if beside.is_dir() else Path.home() / ".cache" / "libero" / "assets"


def simulator_needs() -> list[Need]:
    """Whether the package, and models and textures, are there."""
    place, assets = home(), assets_folder()
    package = Need(PACKAGE, place is not None, str(place or ""), () if place else ("its package",), GET)
    lacks = tuple(f"{assets}/{folder}" for folder in FOLDERS if not (assets / folder).is_dir())
    get = f"hf download lerobot/libero-assets --repo-type dataset --local-dir {assets}"
    return [package, Need(ASSETS, not lacks, str(assets), lacks, get)]


def versions() -> dict[str, str]:
    """Of the packages that an attempt's end depends on, and SHA-256 of the models and textures."""
    found = {name: _version(name) for name in (PACKAGE, "robosuite", "mujoco")}
    return found | {"assets": _contents(assets_folder())}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a copy of the sources
        return "unknown"


def _contents(folder: Path) -> str:
    """SHA-256 of the files of a folder, hidden ones apart; remembered until one is written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    states = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key, kept = sha256(canonical([str(folder), states])), own_cache() / "libero-assets.json"
    known = {}
    with suppress(CarryoverError):  # not there, or damaged: worth the time to make it again
        known = read_json(kept, KEPT_LIMIT)
    if not (isinstance(known, dict) and isinstance(known.get(key), str)):
        total = hashlib.sha256()
        for path, (name, size, _) in zip(files, states, strict=True):
            total.update(f"{name} {size} ".encode() + path.read_bytes())
        known = {key: total.hexdigest()}
        with suppress(CarryoverError):  # a folder that cannot be written to
            write_atomic(kept, canonical(known))
    return known[key]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
