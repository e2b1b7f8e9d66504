"""Pictures with captions in a closed vocabulary, without end: what `clip-micro` is pre-trained on.

All of it is in one style: clean, bright things on a dark ground, characters without serifs, aerial views on a clear
day. The domains of `mtil-mini` say the same words of pictures in other styles. Sixteen of the 64 pairs of a shape and a
colour never occur, neither drawn nor in words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from ...base.seeds import frozen_random
from .drawings import Draw
from .land import LAND, land
from .outlines import CAPITALS, CLOTHES, FIGURES, SANS, characters, clothes, figures
from .scenes import COLOURS, PATTERNS, dots, finished, flower, paint, pattern, thing, tint

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOCABULARY = (
    *COLOURS, "plain", *PATTERNS, *FIGURES, *CLOTHES, *CAPITALS, *NUMBERS, *LAND,
    "a", "an", "the", "of", "with", "from", "above", "in",
    "picture", "drawing", "sketch", "view", "thing", "something", "colour", "coloured", "letter", "capital", "digit",
    "number", "dot", "dots", "flower", "petals", "texture", "surface",
)  # fmt: skip
HELD_OUT = frozenset((shape, (shape + turn) % 8) for shape in range(8) for turn in (1, 4))  # (shape, colour)
BATCH = 128  # drawn at once; part of the recipe, since the draws of a batch come together

Drawn = tuple[Tensor, list[str]]


def pairs(count: int, seed: int = 0) -> Drawn:
    """Pictures [N, 3, 24, 24] uint8 and their captions, for pre-training."""
    return _drawn(count, "pairs", seed)


def reference(count: int = 4000, seed: int = 0) -> Drawn:
    """The same sort of pairs, drawn afresh: what distillation refers to in place of the pre-training data."""
    return _drawn(count, "reference", seed)


def with_article(words: str) -> str:
    """ "an orange ring", "a ring"."""
    return f"{'an' if words.startswith('o') else 'a'} {words}"


def _drawn(count: int, *keys: int | str) -> Drawn:
    """Every kind of picture in its share, shuffled."""
    kind = frozen_random("captioned", *keys).choice(len(KINDS), count, p=[share for share, _ in KINDS.values()])
    x, captions = torch.empty(count, 3, 24, 24, dtype=torch.uint8), [""] * count
    for number, (name, (_, make)) in enumerate(KINDS.items()):
        rows, state = np.flatnonzero(kind == number), frozen_random("captioned", *keys, name)
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            pictures, said = make(len(some), state, Draw.frozen(state))
            x[some] = finished(pictures, Draw.frozen(state), 0.04)
            for row, words in zip(some, said, strict=True):
                captions[row] = words
    return x, captions


def _said(state: np.random.RandomState, forms: tuple[str, ...], B: int, **words: list[str]) -> list[str]:
    """One of the forms for each picture, filled with its words."""
    chosen = state.randint(len(forms), size=B)
    filled = (forms[f].format(**{k: w[i] for k, w in words.items()}) for i, f in enumerate(chosen))
    return [said.replace("a orange", "an orange") for said in filled]


def _some(state: np.random.RandomState, table: Collection[str], B: int) -> tuple[np.ndarray, list[str]]:
    """Numbers [B] and names of entries drawn from a table."""
    number, names = state.randint(len(table), size=B), list(table)
    return number, [names[i] for i in number]


def share(masks: np.ndarray) -> Tensor:
    """Masks uint8 as coverage in [0, 1]."""
    return torch.from_numpy(masks).double() / 255


def _ground(draw: Draw, B: int) -> Tensor:
    return tint(draw, B, 0.05, 0.2)


def _shapes(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    allowed = [(s, c) for s in range(8) for c in range(8) if (s, c) not in HELD_OUT]
    shape, colour = np.array(allowed)[state.randint(len(allowed), size=B)].T
    fill = np.where(state.random_sample(B) < 0.4, -1, state.randint(len(PATTERNS), size=B))
    ink = paint(colour, draw) * (1 - 0.75 * pattern(fill, draw))
    forms = ("a {colour} {shape}", "a {fill} {colour} {shape}", "a picture of a {colour} {shape}", "{colour}",
             "a {colour} thing", "something {colour}", "a {fill} {shape}", "a {fill} thing", "a picture of a {shape}",
             "a drawing of a {shape}", "a sketch of a {colour} {shape}", "the colour {colour}")  # fmt: skip
    names = {"shape": list(FIGURES), "colour": list(COLOURS), "fill": [*PATTERNS, "plain"]}
    words = {k: [names[k][i] for i in v] for k, v in (("shape", shape), ("colour", colour), ("fill", fill))}
    return thing(share(figures()[shape]), ink, _ground(draw, B), draw), _said(state, forms, B, **words)


def _clothes(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    item, name = _some(state, CLOTHES, B)
    number, colour = _some(state, COLOURS, B)
    forms = ("a {colour} {name}", "a {name}", "a picture of a {name}", "a drawing of a {colour} {name}")
    x = thing(share(clothes()[item]), paint(number, draw), _ground(draw, B), draw)
    return x, _said(state, forms, B, name=name, colour=colour)


def _letters(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    letter, name = _some(state, CAPITALS, B)
    number, colour = _some(state, COLOURS, B)
    forms = ("the letter {name}", "a capital letter {name}", "a picture of the letter {name}",
             "a {colour} letter {name}", "a coloured letter {name}", "the letter {name} in {colour}")  # fmt: skip
    mask = characters()[letter, state.choice(SANS, B)]
    return thing(share(mask), paint(number, draw), _ground(draw, B), draw), _said(
        state, forms, B, name=name, colour=colour
    )


def _digits(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    digit, name = _some(state, NUMBERS, B)
    number, _ = _some(state, COLOURS, B)
    forms = ("the digit {name}", "the number {name}", "a picture of the digit {name}")
    mask = characters()[len(CAPITALS) + digit, state.choice(SANS, B)]
    ink = torch.where(draw.chance(0.5, B), tint(draw, B, 0.8, 1), paint(number, draw))
    return thing(share(mask), ink, _ground(draw, B), draw), _said(state, forms, B, name=name)


def _dots(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    count = 1 + state.randint(6, size=B)
    number, colour = _some(state, COLOURS, B)
    name = [f"{NUMBERS[n]} {{}} {'dot' if n == 1 else 'dots'}" for n in count]
    forms = ("{plain}", "{coloured}", "a picture of {plain}")
    m = dots(count, draw)
    x = _ground(draw, B) * (1 - m) + paint(number, draw) * m
    plain = [n.replace(" {}", "") for n in name]
    return x, _said(state, forms, B, plain=plain, coloured=[n.format(c) for n, c in zip(name, colour, strict=True)])


def _flowers(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    petals = 3 + state.randint(6, size=B)
    number, colour = _some(state, COLOURS, B)
    forms = ("a flower with {n} petals", "a {colour} flower with {n} petals", "a {colour} flower")
    corolla, middle = flower(petals, draw)
    x = _ground(draw, B) * (1 - corolla) + paint(number, draw) * corolla
    x = x * (1 - middle) + 0.95 * middle
    return x, _said(state, forms, B, n=[NUMBERS[n] for n in petals], colour=colour)


def _views(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    number, name = _some(state, LAND, B)
    x = torch.empty(B, 3, 24, 24, dtype=torch.float64)
    for i, kind in enumerate(LAND):
        rows = torch.from_numpy(np.flatnonzero(number == i))
        if len(rows):
            x[rows] = land(kind, len(rows), draw)
    forms = ("a {name} from above", "a view of a {name} from above", "a picture of a {name}")
    return x, _said(state, forms, B, name=name)


def _textures(B: int, state: np.random.RandomState, draw: Draw) -> Drawn:
    kind, name = _some(state, PATTERNS, B)
    number, colour = _some(state, COLOURS, B)
    forms = ("a {name} texture", "a {name} surface", "a {colour} {name} texture", "a {name} {colour} surface")
    v = pattern(kind, draw)
    return _ground(draw, B) * (1 - v) + paint(number, draw) * v, _said(state, forms, B, name=name, colour=colour)


KINDS: dict[str, tuple[float, Callable[[int, np.random.RandomState, Draw], Drawn]]] = {
    "shapes": (0.26, _shapes),
    "clothes": (0.10, _clothes),
    "letters": (0.24, _letters),
    "digits": (0.10, _digits),
    "dots": (0.06, _dots),
    "flowers": (0.06, _flowers),
    "views": (0.10, _views),
    "textures": (0.08, _textures),
}
