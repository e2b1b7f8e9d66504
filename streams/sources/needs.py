"""Which data sets a stream reads, whether they are there, and how to get them. Nothing is opened or decoded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """One data set that a stream reads.

    Attributes:
        there: whether the files that show it are; None where nobody knows which they are.
        where: its folder, or where that belongs.
        lacks: files and folders that are missing, below the folder of data sets.
        get: what to do to have it, as a sentence.
        download: whether --download fetches it.
        hub: a copy at Hugging Face that the stream can read in its place.
    """

    name: str
    there: bool | None
    where: str
    lacks: tuple[str, ...]
    get: str
    download: bool = False
    hub: str = ""

    @property
    def partly(self) -> bool:
        """Whether something of it is there, so that it matters what is not."""
        return self.there is False and Path(self.where).exists()


def need(
    name: str, root: Path, forms: Sequence[Sequence[str]], get: str, download: bool = False, hub: str = ""
) -> Need:
    """A data set that comes in several forms: it is there if all paths of one form are, gzipped or not.

    Args:
        forms: paths below `root`, the most usual form first.
    """
    there = lambda path: (root / path).exists() or (root / f"{path}.gz").exists()
    lacking = [tuple(path for path in form if not there(path)) for form in forms]
    number = min(range(len(forms)), key=lambda i: (bool(lacking[i]), len(lacking[i]) - len(forms[i])))
    home = root / Path(forms[number][0]).parts[0]
    return Need(name, not lacking[number], str(home), lacking[number], get, download, hub)


def idx_files(name: str) -> tuple[str, ...]:
    """The four files of MNIST or a relative."""
    kinds = ("images-idx3", "labels-idx1")
    return tuple(f"{name}/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in kinds)
