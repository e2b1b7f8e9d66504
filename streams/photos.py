"""From a published data set of photos to a class-incremental stream: what the streams of image folders share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .builders import split as split_classes
from .core import Stream
from .sources.decoded import SIDE
from .sources.photos import SIZE, Published, photos


def photo_stream(
    source: Published,
    data: str | Path | None,
    split: str | None,
    n_tasks: int,
    *,
    download: bool = False,
    hub: str | None = None,
    side: int = SIDE,
    size: int | None = SIZE,
    **options: Any,
) -> Stream:
    """Tasks that reveal the classes piece by piece; the record tells how training and test were divided.

    Args:
        split: "hash", "given" or published lists; see `sources.splits`. None is "given" where it comes divided.
        hub: a Hugging Face copy; see `sources.table`.
        side, size: pixels of a stored image and of an input; see `sources.photos`.
        options: of `builders.split`.
    """
    labelled, about = photos(source, data, split, download, hub, side, size)
    made = split_classes(labelled, n_tasks, name=f"split-{source.name}", **options)
    return dataclasses.replace(made, meta={**made.meta, **about})
