"""The site: plain pages from the board alone, readable from a disk, without a network and without scripts.

The same board gives the same bytes. Pages are built in a folder beside the target, their links are checked, and the
folder is swapped in by renaming, so that a failure at any point leaves the old site as it was.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..base.errors import InvalidError, StorageError, UsageError
from ..base.files import canonical, sha256
from ..base.urls import check_url
from ..benchmarks.protocol import SCORES
from .pages import DIVISIONS, LEVELS, collect, mean_heat, quantity, seed_heats
from .rules import find_manifest
from .store import Board, Find

HERE = Path(__file__).parent
SEAL = "MANIFEST.sha256"  # digest of every file; also the mark by which a folder is known to be a site
LINK = re.compile(r'\b(?:href|src)="([^"]*)"')
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)


def build_site(board: str | Path, out: str | Path, find: Find = find_manifest) -> Path:
    """Build the site of a board; returns its `index.html`.

    Args:
        board: folder with `store/` and `events/`.
        out: folder of the site; a site that is there is replaced whole, anything else is left alone.
        find: manifest of a benchmark by name and version.

    Raises:
        UsageError: `out` is there and is not a site.
        InvalidError: the store is damaged, or a page links to nothing.
        StorageError: the site could not be written. In every case the old site stays.
    """
    out = Path(os.path.abspath(out))
    _check_target(out)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
        for name, data in render(Board(Path(board)), find).items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        check_links(fresh)
        _swap(fresh, out)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out / "index.html"


def render(board: Board, find: Find = find_manifest) -> dict[str, bytes]:
    """All files of the site by their path, the seal last."""
    from ..evaluation.metrics import registry

    pages = collect(board, find)
    files = {f"static/{path.name}": path.read_bytes() for path in sorted((HERE / "static").iterdir())}
    rows = [row for page in pages for row in page.everything]
    state = sorted([row.id, *(event.id for event in row.entry.status.history)] for row in rows)
    facts = {"runs": len(rows), "boards": len(pages), "digest": sha256(canonical(state))}
    show = _Renderer(facts)
    files["index.html"] = show("index.html", "", boards=pages)
    shown = {m.name: m for page in pages for m in page.measures if m.name not in SCORES}
    files["methods.html"] = show(
        "methods.html",
        "",
        metrics=list(registry.entries.values()),
        others=list(shown.values()),
        quotes=any(page.published for page in pages),
    )
    for page in pages:
        files[page.href] = show(
            "benchmark.html",
            "../",
            board=page,
            units=page.units(),
            heats=list(filter(None, map(mean_heat, page.leaders))),
        )
        for row in page.everything:
            files[f"runs/{row.id}.json"] = row.entry.submission.to_bytes()
            files[row.href] = show("run.html", "../", board=page, row=row, mean=mean_heat(row), maps=seed_heats(row))
    files = dict(sorted(files.items()))
    files[SEAL] = "".join(f"{sha256(data)}  {name}\n" for name, data in files.items()).encode()
    return files


class _Renderer:
    """The templates, with what every page shares. Everything is escaped, whatever a file is called."""

    def __init__(self, facts: dict[str, Any]) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.jinja.filters.update(url=check_url, host=lambda url: urlsplit(check_url(url)).hostname, quantity=quantity)
        self.jinja.globals.update(csp=CSP, facts=facts, levels=LEVELS, divisions=DIVISIONS)

    def __call__(self, template: str, root: str, **values: Any) -> bytes:
        return self.jinja.get_template(template).render(root=root, **values).encode()


def check_links(folder: Path) -> None:
    """Every link of every page leads to a file of the site, to an anchor that is there, or out over https."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    anchors = {path: set(re.findall(r'\bid="([^"]*)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in map(unescape, LINK.findall(text)):
            where = f"{path.relative_to(folder)} links to {ascii(link[:80])}"
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                try:
                    check_url(link)
                except ValueError:
                    raise InvalidError(f"{where}, which is neither in the site nor plain https.") from None
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            if not target.is_relative_to(folder) or not target.is_file():
                raise InvalidError(f"{where}, which is not there.")
            if parts.fragment and parts.fragment not in anchors.get(target, ()):
                raise InvalidError(f"{where}, which has no such anchor.")


def _check_target(out: Path) -> None:
    """Refuse to replace what is no site; bring back a site that a killed swap had set aside."""
    aside = _aside(out)
    if not out.exists() and (aside / SEAL).exists():
        os.rename(aside, out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out} is not a folder; give the site a folder of its own.")
    if out.exists() and any(out.iterdir()) and not (out / SEAL).exists():
        raise UsageError(f"{out} holds something other than a site; give the site a folder of its own.")


def _swap(fresh: Path, out: Path) -> None:
    aside = _aside(out)
    shutil.rmtree(aside, ignore_errors=True)
    if not out.exists():
        os.rename(fresh, out)
        return
    os.rename(out, aside)
    try:
        os.rename(fresh, out)
    except OSError:
        os.rename(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")
