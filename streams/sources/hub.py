"""Data sets of the Hugging Face hub, of its `datasets` library, or in Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...base.errors import StorageError, UsageError, unknown
from ..labelled import Labelled, from_arrays
from . import fetch
from .images import Found, decode


def from_hub(
    source: Any,
    image: str | None = None,
    label: str | None = None,
    *,
    config: str | None = None,
    train: str = "train",
    test: str | None = None,
    size: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Labelled:
    """Labelled images from an id such as "ylecun/mnist", a `.parquet` file, or a `Dataset` or `DatasetDict` at hand.

    Args:
        image, label: column names; by default the one image column, and the one column of class labels (or "label").
        config: the data set's configuration, where it has several.
        train, test: names of its splits; by default the test split is "test", else "validation", else drawn from the
            training split: `test_fraction` of every class, fixed by the seed.
        size: cut the largest centred square and resize it to `size` x `size`; None needs images of one size.

    Raises:
        StorageError: it cannot be loaded. UsageError: a missing split or column. InvalidError: a broken image.
    """
    import datasets

    parts = _load(source, config) if isinstance(source, (str, Path)) else source
    if not isinstance(parts, (datasets.Dataset, datasets.DatasetDict)):
        raise UsageError(f"give an id, a .parquet file, a Dataset or a DatasetDict, not {type(parts).__name__}.")
    parts = {train: parts} if isinstance(parts, datasets.Dataset) else parts
    if train not in parts:
        raise unknown("split", train, parts)
    if test is not None and test not in parts:
        raise unknown("split", test, parts)
    test = test or next((name for name in ("test", "validation") if name in parts), None)
    image = _column(parts[train], image, datasets.Image, "image")
    label = _column(parts[train], label, datasets.ClassLabel, "label")
    kind = parts[train].features[label]
    names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else ()
    used = [train] if test is None else [train, test]
    pixels = decode(size, *(_rows(parts[name], image, name) for name in used))
    labels = [list(parts[name][label]) for name in used]
    arrays = [array for pair in zip(pixels, labels, strict=True) for array in pair]
    return from_arrays(*arrays, class_names=names, test_fraction=test_fraction, seed=seed)


def _load(source: str | Path, config: str | None) -> Any:
    import datasets

    if str(source).endswith(".parquet"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise StorageError(f"{path} does not exist.")
        return datasets.load_dataset("parquet", data_files=str(path))
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    return fetch(f"the data set {str(source)!r}", folder, lambda: datasets.load_dataset(str(source), config))


def _column(part: Any, given: str | None, kind: type, usual: str) -> str:
    """The column given, or the only one of its kind, or the one with the usual name."""
    if given is not None:
        if given not in part.features:
            raise unknown("column", given, part.features)
        return given
    found = [name for name, feature in part.features.items() if isinstance(feature, kind)]
    if len(found) == 1:
        return found[0]
    if usual in part.features:
        return usual
    raise UsageError(f"which column is the {usual}? Give {usual}= one of {', '.join(part.features)}.")


def _rows(part: Any, column: str, split: str) -> Found:
    import datasets

    if not isinstance(part.features[column], datasets.Image):
        part = part.cast_column(column, datasets.Image())
    part = part.select_columns([column])
    for i in range(len(part)):
        yield f"row {i} of split {split!r}", lambda i=i: part[i][column]
