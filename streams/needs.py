"""What a named stream reads, and whether it is there: what `carryover data status` shows."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from importlib.util import find_spec
from pathlib import Path

from ..base.errors import UsageError
from .sources import data_root
from .sources.cifar import LAYOUTS
from .sources.libero.names import SUITES
from .sources.libero.simulator import simulator_needs
from .sources.libero.suites import suite_need
from .sources.mtil import DOMAINS, domain_need
from .sources.needs import Need, idx_files, need
from .sources.notmnist import HOME as LETTERS
from .sources.photos import Published
from .sources.svhn import FILES
from .sources.svhn import HOME as NUMBERS

_CIFAR10 = LAYOUTS["CIFAR10"]
# Forms that a copy comes in, how to get one, and whether --download does.
FILED = {
    "CIFAR10": (
        (tuple(f"{_CIFAR10.folder}/{file}" for file in (*_CIFAR10.train, _CIFAR10.test)),
         (f"{_CIFAR10.python_folder}/test_batch",)),
        f"unpack https://www.cs.toronto.edu/~kriz/{_CIFAR10.archive}", True,
    ),
    "FashionMNIST": ((idx_files("FashionMNIST"),), "put its four IDX files into FashionMNIST/raw", True),
    "SVHN": (
        (tuple(f"SVHN/{file}" for file in FILES), FILES), f"put {FILES[0]} and {FILES[1]} of {NUMBERS} into SVHN", True,
    ),
    "notMNIST": (
        (("notMNIST_small/A",), ("notMNIST/Train/A", "notMNIST/Test/A"), ("notMNIST/A",)),
        f"unpack notMNIST_small.tar.gz of {LETTERS}", False,
    ),
}  # fmt: skip
SAME = {"CIFAR100": "cifar100", "MNIST": "mnist"}


def needs(name: str, data: str | Path | None = None) -> list[Need]:
    """The data sets of a stream by its name, or by `path/to/file.py:Name`, in the order that it tells them.

    Raises:
        UsageError: an unknown name.
    """
    from . import registry

    function = registry.load(name)
    told = getattr(function, "announced", None)
    if told is None:
        raise UsageError(f"{name} does not tell what it needs: announce it with @stream(..., needs=).")
    beside = vars(sys.modules[function.__module__]).values()
    published = [value for value in beside if isinstance(value, Published)]
    found = [_need(one, data_root(data), published) for one in told["needs"].split(", ") if one]
    known = inspect.signature(function).parameters
    return [
        dataclasses.replace(one, download=one.download and "download" in known, hub=one.hub if "hub" in known else "")
        for one in found
    ]


def _need(name: str, root: Path, published: list[Published]) -> Need:
    if SAME.get(name, name) in DOMAINS:
        return dataclasses.replace(domain_need(SAME.get(name, name), root), name=name)
    if name == "metaworld":
        there, get = find_spec(name) is not None, 'pip install "carryover[robot]"; what experts show is recorded then'
        return Need(name, there, str(root / name), () if there else ("its package",), get, False)
    if name in SUITES:
        return suite_need(name, root)
    for one in simulator_needs() if "libero" in name else ():
        if one.name == name:
            return one
    if name in FILED:
        return need(name, root, *FILED[name])
    for source in published:
        if name in (source.name, *source.folders):
            return need(name, root, [(folder,) for folder in source.folders], source.get, bool(source.url))
    return Need(name, None, str(root), (), "the stream itself says what is missing when it is run")
