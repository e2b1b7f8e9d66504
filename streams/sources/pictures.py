"""What a data set of photos is made of before anything is decoded: its images by name, in one order everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.errors import UsageError
from .folder import images_in


@dataclass(frozen=True, order=True)
class Picture:
    """One image that is still encoded. Pictures sort by label, then by name.

    Attributes:
        label: of its class, as published: the name of its folder.
        name: "label/file.jpg", whatever folder the data set lies in; splits are lists of these.
        part: "train" or "test" where the data set comes divided, else "".
        size: bytes, by which a changed file is noticed.
        where: for messages: a path, or a row of a table.
        open: gives a PIL image.
    """

    label: str
    name: str
    part: str
    size: int
    where: str = field(compare=False)
    open: Callable[[], Any] = field(compare=False, repr=False)


def in_folders(folder: Path) -> list[Picture]:
    """The pictures of `folder`/CLASS/, or of `folder`/images/CLASS/, or of `folder`/train/CLASS/ and /test/CLASS/."""
    from PIL import Image

    parts = {"train": folder / "train", "test": folder / "test"}
    if not all(part.is_dir() for part in parts.values()):
        parts = {"": folder / "images" if (folder / "images").is_dir() else folder}
    found = []
    for part, root in parts.items():
        for home in root.iterdir():
            for file in images_in(home) if not home.name.startswith(".") else ():
                name = f"{home.name}/{file.relative_to(home).as_posix()}"
                opener = lambda file=file: Image.open(file)  # noqa: E731
                found.append(Picture(home.name, name, part, file.stat().st_size, str(file), opener))
    return sorted(found)


def contents(pictures: Sequence[Picture]) -> str:
    """SHA-256 of the list of pictures: names, parts and sizes, in order."""
    lines = "".join(f"{p.part}\t{p.name}\t{p.size}\n" for p in pictures)
    return hashlib.sha256(lines.encode()).hexdigest()


def by_name(pictures: Sequence[Picture]) -> dict[str, int]:
    """Row of each name; a name that occurs in both parts cannot be told by it."""
    rows = {picture.name: row for row, picture in enumerate(pictures)}
    if len(rows) < len(pictures):
        names = [picture.name for picture in pictures]
        twice = next(a for a, b in zip(names, names[1:], strict=False) if a == b)
        raise UsageError(f"{twice} is in train/ and in test/, so that its name does not tell which; use split=given.")
    return rows
