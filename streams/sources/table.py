"""Photos from a Hugging Face data set or from Parquet files, as pictures that are still encoded."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path, PurePosixPath
from typing import Any

from ...base.errors import InvalidError, StorageError, UsageError
from . import fetch
from .pictures import Picture

LABELS = ("wnid", "synset", "label", "labels", "fine_label", "class", "class_name", "target")  # the first there is
WORDNET = re.compile(r"n\d{8}")


def in_table(source: str) -> list[Picture]:
    """The pictures of a hub id such as "axiong/imagenet-r", of a .parquet file, or of a folder of them.

    The images are the column of image structs (bytes and path), "image" if there are several. The labels are the
    first column named as in `LABELS`, WordNet ids preferred wherever they stand; numbers are read by their class names.
    All splits are taken together; where they are train and test, pictures know theirs. A name is the label and the last
    part of the image's path; where paths are missing or not unique, the SHA-256 of the encoded bytes stands for it, so
    that no order of rows matters.

    Raises:
        StorageError: it cannot be loaded. UsageError: no such columns. InvalidError: a row without an image.
    """
    import datasets

    splits, found = _load(source), []
    divided = {"train", "test"} <= set(splits)
    for split, rows in splits.items():
        image = _image_column(source, rows)
        undecoded = rows.cast_column(image, datasets.Image(decode=False)).select_columns([image])
        encoded, part = undecoded.with_format("arrow")[:][image], split if divided else ""
        for row, label in enumerate(_labels(rows, _label_column(source, rows))):
            found.append(_Row(label, part, f"row {row} of split {split!r} of {source}", encoded, row))
    names = [f"{row.label}/{row.file}" for row in found]
    if "" in (row.file for row in found) or len(set(names)) < len(names):
        names = [f"{row.label}/{hashlib.sha256(row.bytes()).hexdigest()}" for row in found]
    return sorted(row.picture(name) for row, name in zip(found, names, strict=True))


class _Row:
    """One image of an Arrow column, read when it is asked for."""

    def __init__(self, label: str, part: str, where: str, column: Any, row: int) -> None:
        self.label, self.part, self.where, self.column, self.row = label, part, where, column, row
        value = column[row]
        path = value["path"].as_py() if value.is_valid else None
        self.file = PurePosixPath(path or "").name

    def bytes(self) -> bytes:
        value = self.column[self.row]
        data = value["bytes"].as_py() if value.is_valid else None
        if data is None and self.file:
            path = Path(value["path"].as_py())
            data = path.read_bytes() if path.is_file() else None
        if data is None:
            raise InvalidError(f"{self.where} holds no image.")
        return data

    def picture(self, name: str) -> Picture:
        from PIL import Image

        size = len(self.bytes())
        return Picture(self.label, name, self.part, size, self.where, lambda: Image.open(io.BytesIO(self.bytes())))


def _load(source: str) -> dict[str, Any]:
    import datasets

    path = Path(source).expanduser()
    files = sorted(str(file) for file in path.rglob("*.parquet")) if path.is_dir() else [str(path)]
    if path.is_dir() and not files:
        raise StorageError(f"{path} holds no .parquet file.")
    if path.is_dir() or source.endswith(".parquet"):
        if not all(Path(file).is_file() for file in files):
            raise StorageError(f"{path} does not exist.")
        splits: dict[str, list[str]] = {}
        for file in files:  # "test-00000-of-00005.parquet" is of the split "test"
            splits.setdefault(re.split(r"[-.]", Path(file).name)[0], []).append(file)
        return dict(datasets.load_dataset("parquet", data_files=splits))
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    loaded = fetch(f"the data set {source!r}", cache, lambda: datasets.load_dataset(source))
    return dict(loaded)


def _image_column(source: str, rows: Any) -> str:
    import datasets

    found = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    structs = [name for name, feature in rows.features.items() if isinstance(feature, dict) and "bytes" in feature]
    found = found or structs
    if not found:
        raise UsageError(f"{source} has no column of images; its columns are {', '.join(rows.features)}.")
    return "image" if "image" in found else found[0]


def _label_column(source: str, rows: Any) -> str:
    known = [name for name in LABELS if name in rows.features]
    if not known:
        raise UsageError(
            f"{source} has no column of labels: one of {', '.join(LABELS)}; its columns are {', '.join(rows.features)}."
        )
    wordnet = [name for name in known if all(WORDNET.fullmatch(label) for label in _labels(rows, name, 1))]
    return (wordnet or known)[0]


def _labels(rows: Any, column: str, count: int | None = None) -> list[str]:
    """As text; numbers by their class names, else with five digits, so that they sort as numbers."""
    names = getattr(rows.features[column], "names", None)
    values = rows[:count][column]
    return [names[v] if names else f"{v:05}" if isinstance(v, int) else str(v) for v in values]
