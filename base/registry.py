"""Names without a central list, and without importing anything to list them.

A strategy, stream, metric or backbone is announced by a decorator above its definition:

    @strategy("gem")
    class GEM(GradientStrategy): ...

The registry *reads the source* of the files in its folder (`ast`, no import) and finds those decorators, so that
`carryover list` answers at once and a new file is found by being there. Packages installed elsewhere announce theirs
through an entry point; a file of the user's own is named by its path, `path/to/file.py:Name`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .errors import CarryoverError, UsageError, unknown

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Entry:
    """One announced name.

    Attributes:
        name: what users type.
        summary: first line of the docstring.
        module: dotted name of the module that defines it, imported by `Registry.load` alone.
        attribute: the class or function in that module.
        options: the decorator's keyword arguments, such as `embedded=True`.
        source: where it comes from: "carryover", or the distribution that announced it.
    """

    name: str
    summary: str
    module: str
    attribute: str
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "carryover"


class Registry:
    """Every `kind` announced in one folder of this package and in installed packages.

    Args:
        kind: the decorator's name and the word in error messages, such as "strategy".
        package: the package whose files are read, such as "carryover.strategies".
        group: the entry-point group of third parties, such as "carryover.strategies".
    """

    def __init__(self, kind: str, package: str, folder: Path, group: str) -> None:
        self.kind, self.package, self.folder, self.group = kind, package, folder, group

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Name to entry, sorted. A name announced twice is an error, whoever announced it."""
        found: dict[str, Entry] = {}
        announced = [e for path in sorted(self.folder.glob("*.py")) for e in self._read(path)]
        for entry in announced + self._installed():
            if entry.name in found:
                raise UsageError(
                    f"the {self.kind} {entry.name!r} is announced twice: in {found[entry.name].module} "
                    f"and in {entry.module}. Rename one."
                )
            found[entry.name] = entry
        return dict(sorted(found.items()))

    def entry(self, name: str) -> Entry:
        """The entry of a name; an unknown one answers with the nearest match and the choices."""
        if name not in self.entries:
            raise unknown(self.kind, name, self.entries)
        return self.entries[name]

    def load(self, name: str) -> Any:
        """The class or function behind a name, or behind `path/to/file.py:Name`."""
        if ".py" in name:
            return self._from_file(name)
        entry = self.entry(name)
        return getattr(importlib.import_module(entry.module), entry.attribute)

    def _read(self, path: Path) -> list[Entry]:
        text = path.read_text(encoding="utf-8")
        if f"@{self.kind}(" not in text:
            return []
        module = f"{self.package}.{path.stem}"
        return [
            Entry(name, _summary(node), module, node.name, options)
            for node in ast.parse(text).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            for name, options in _announced(node, self.kind)
        ]

    def _installed(self) -> list[Entry]:
        return [
            Entry(
                point.name,
                f"from {point.value}",
                point.module,
                point.attr,
                source=point.dist.name if point.dist else "installed",
            )
            for point in entry_points(group=self.group)
        ]

    def _from_file(self, address: str) -> Any:
        text, _, attribute = address.rpartition(":")
        path = Path(text or address).expanduser()
        if not text or not attribute.isidentifier():
            raise UsageError(f"{address!r} names a file but no {self.kind}: write {path}:Name.")
        if not path.is_file():
            raise UsageError(f"{path} does not exist; a {self.kind} of your own is named path/to/file.py:Name.")
        found = getattr(_import_file(path), attribute, None)
        if found is None:
            raise UsageError(f"{path} defines no {attribute!r}.")
        return found


def _import_file(path: Path) -> Any:
    """Import a file of the user's by its path; its own mistakes are reported in one line with the place."""
    path = path.resolve()
    # named by its contents: after an edit, in a notebook say, the new code runs and not the old
    name = f"carryover_user_{path.stem}_{digest(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except CarryoverError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:  # a script may end the process when it is imported
        del sys.modules[name]
        trace, line = error.__traceback__, getattr(error, "lineno", None)
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        raise UsageError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    return module


def digest(path: Path) -> str:
    """SHA-256 of a file of the user's."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def address_digest(address: str) -> str:
    """Of the file in `path/to/file.py:Name`; "" for a name."""
    path = Path(address.rpartition(":")[0]).expanduser()
    return digest(path) if ".py" in address and path.is_file() else ""


def _announced(node: ast.ClassDef | ast.FunctionDef, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The (name, options) of every decorator `@kind("name", option=literal)` above a definition."""
    found = []
    for decorator in node.decorator_list:
        if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name)):
            continue
        if decorator.func.id != kind or not decorator.args:
            continue
        name = ast.literal_eval(decorator.args[0])
        if not NAME.fullmatch(name):
            raise UsageError(f"the {kind} name {name!r} is not lower-case letters, digits, dashes and underscores.")
        found.append((name, {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}))
    return found


def _summary(node: ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").split("\n", 1)[0].strip()
