"""Stand-ins for the streams of the gradient projection papers: generated in seconds, learnt by small networks at once.

Each keeps what makes its namesake what it is (ten classes a task; classes alike within a task; tasks of other worlds;
larger pictures) and nothing of its numbers. They are for networks that start from scratch: `vit-micro` was pre-trained
on the characters that some of them show.
"""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError
from .affine import resize
from .builders import Options, SplitOptions, from_tasks, split
from .core import TIL, Stream
from .labelled import Labelled
from .named import stream
from .sources.digits import digits
from .sources.drawings import photographs, renditions
from .sources.gallery import SHAPES, Paint, painted
from .sources.glyphs import CHARACTERS, fill, glyph_masks
from .sources.textures import TEXTURES, texture
from .superclasses import by_superclass

FAMILIES = {
    "A with marks": "AÂÅĄÄ",
    "C with marks": "CĆĈĊÇ",
    "E with marks": "EÈÊĖĘ",
    "G with marks": "GĜĞĠĢ",
    "L with marks": "LĹĻĿŁ",
    "N with marks": "NÑŃŅŇ",
    "O with marks": "OÒÔÖØ",
    "S with marks": "SŚŜŞŠ",
    "U with marks": "UÙÛŮÜ",
    "Cyrillic combs": "ШЩЦЧЫ",
    "arrows": "←↑→↓↔",
    "double arrows": "⇐⇑⇒⇓⇔",
    "sets": "∪∩⊂⊃⊆",
    "circled signs": "⊕⊖⊗⊘⊙",
    "discs half full": "◐◑◒◓◔",
    "triangles": "△▲▼►◄",
    "squares": "□■▣▤▥",
    "blocks": "▙▛▜▟▚",
    "suits": "♠♣♥♦♢",
    "corners": "┌┐└┘┼",
}
LETTERS, SYMBOLS = "ABCDEFGHIJ", "★☎☠☢☯☺♪☂✂✈"


@stream("split-cifar100-mini", embedded=True, setting="til", needs="")
def split_cifar100_mini(*, n_tasks: int = 10, **options: Unpack[SplitOptions]) -> Stream:
    """Characters 24x24 colour as photographs, 10 tasks of 10 classes; task-incremental.

    split-cifar100 in small: 100 characters in up to sixteen fonts, turned, tinted, blurred and inverted now and then;
    60 images to train and 20 to test per class, generated from the stream's seed.
    """
    found = _characters(range(100, 200), 24, 60, 20, "split-cifar100-mini", options.get("seed", 0))
    return split(found, n_tasks, name="split-cifar100-mini", **({"setting": TIL} | options))


@stream("cifar100-superclasses-mini", embedded=True, setting="til", needs="")
def cifar100_superclasses_mini(*, n_tasks: int = 20, order: int = 0, **options: Unpack[Options]) -> Stream:
    """Characters 24x24 colour, 20 tasks of a family of 5 that look alike; task-incremental.

    cifar100-superclasses in small: letters that differ in a mark, arrows in direction, squares in their filling; 60
    images to train and 20 to test per class, photographs as for split-cifar100-mini. `order` as for the real one.
    """
    characters = "".join(FAMILIES.values())
    name, seed = "cifar100-superclasses-mini", options.get("seed", 0)
    masks, names = glyph_masks(characters), [unicodedata.name(c).lower() for c in characters]
    found = painted(masks, [photographs] * 100, 60, 20, names, name, seed)
    groups = {family: range(5 * i, 5 * i + 5) for i, family in enumerate(FAMILIES)}
    return by_superclass(found, groups, order, n_tasks, name=name, **options)


@stream("five-datasets-mini", embedded=True, setting="til", needs="")
def five_datasets_mini(*, n_tasks: int = 5, **options: Unpack[Options]) -> Stream:
    """Textures, digits, shapes, symbols and letters 24x24 colour, 10 classes each; task-incremental.

    five-datasets in small: generated textures, handwritten digits of scikit-learn, painted shapes, symbols in negative,
    capitals A to J as photographs; each with its own classes, 50 in all, 60 images to train and 25 to test per class.
    `n_tasks` takes the first so many.
    """
    if not 1 <= n_tasks <= 5:
        raise UsageError(f"n_tasks must be from 1 to 5 of the sources; got {n_tasks}.")
    sources = {"textures": _textures, "digits": _digits, "shapes": _shapes, "symbols": _symbols, "letters": _letters}
    seed = options.get("seed", 0)
    found = {name: make("five-datasets-mini", name, seed) for name, make in list(sources.items())[:n_tasks]}
    return from_tasks(found, name="five-datasets-mini", **({"setting": TIL} | options))


@stream("split-miniimagenet-mini", embedded=True, setting="til", needs="")
def split_miniimagenet_mini(*, n_tasks: int = 20, **options: Unpack[SplitOptions]) -> Stream:
    """Characters 42x42 colour as photographs, 20 tasks of 5 classes; task-incremental.

    split-miniimagenet in small: 100 characters, larger and more often disturbed than those of split-cifar100-mini, and
    none of them among those; 50 images to train and 20 to test per class.
    """
    found = _characters(range(200, 300), 42, 50, 20, "split-miniimagenet-mini", options.get("seed", 0), rare=0.15)
    return split(found, n_tasks, name="split-miniimagenet-mini", **({"setting": TIL} | options))


def _characters(which: range, size: int, train: int, test: int, *keys: int | str, rare: float = 0.06) -> Labelled:
    """Photographs [N, 3, size, size] of some of the characters that no two of look alike."""
    characters = "".join(CHARACTERS[i] for i in which)
    masks, names = glyph_masks(characters, 2 * size, 19 * size // 12), [unicodedata.name(c).lower() for c in characters]
    return painted(masks, [partial(photographs, rare=rare)] * len(masks), train, test, names, *keys)


def _textures(*keys: int | str) -> Labelled:
    blank = [np.zeros((1, 48, 48), np.uint8)] * 10
    return painted(blank, [partial(texture, kind) for kind in TEXTURES], 60, 25, TEXTURES, *keys)


def _digits(*keys: int | str) -> Labelled:
    """White on black as they are, enlarged; nothing is drawn, whatever the keys."""
    found = digits()
    train, test = _first(found.train_x, found.train_y, 60), _first(found.test_x, found.test_y, 25)
    return Labelled(*train, *test, tuple(f"digit {digit}" for digit in found.class_names))


def _first(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first so many digits of each class [N, 3, 24, 24], and their labels."""
    rows = torch.cat([(y == label).nonzero()[:count, 0] for label in y.unique()])
    return resize(x[rows], 24, 24).expand(-1, 3, -1, -1).contiguous(), y[rows]


def _shapes(*keys: int | str) -> Labelled:
    masks = [fill(outline, 48, 38)[None] for outline in SHAPES.values()]
    return painted(masks, [_rendered("watercolour")] * 10, 60, 25, SHAPES, *keys)


def _symbols(*keys: int | str) -> Labelled:
    names = [unicodedata.name(c).lower() for c in SYMBOLS]
    return painted(glyph_masks(SYMBOLS), [_rendered("negative")] * 10, 60, 25, names, *keys)


def _rendered(style: str) -> Paint:
    """Pictures in one of the styles, on no canvas."""
    return lambda masks, draw: renditions(masks, style, draw, canvas=0.0)


def _letters(*keys: int | str) -> Labelled:
    return painted(glyph_masks(LETTERS), [photographs] * 10, 60, 25, [f"letter {c}" for c in LETTERS], *keys)
