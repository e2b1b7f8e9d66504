"""The domains of `mtil-mini`: the words that `clip-micro` was pre-trained on, of pictures in other styles.

Each shifts the style of `captioned` in a way of its own, so that zero-shot ranges from nearly right to chance, and each
can be learnt from its few hundred pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...base.seeds import frozen_random
from ..affine import resize
from ..labelled import Labelled
from .captioned import HELD_OUT, NUMBERS, share, with_article
from .digits import digits
from .drawings import SIZE, Draw
from .glyphs import FACES
from .land import LAND, land
from .outlines import CAPITALS, CLOTHES, FIGURES, SERIF, characters, clothes, figures
from .scenes import COLOURS, PATTERNS, clouds, dots, finished, flower, outlined, paint, pattern, scribble, thing, tint

BATCH = 64  # drawn at once; part of the recipe, since the draws of a batch come together
TRAIN, TEST = 720, 480  # pictures of a domain, about: the same number for each of its classes
GREEN = list(COLOURS).index("green")

State = np.random.RandomState


@dataclass(frozen=True)
class Domain:
    """What a domain shows and how it is told.

    Args:
        names: of the classes, as they stand in the templates.
        templates: the first is for training.
        draw: from labels [B] to pictures [B, 3, 24, 24] in [0, 1].
        noise: at most so much is added to or taken from each pixel.
    """

    names: tuple[str, ...]
    templates: tuple[str, str, str]
    draw: Callable[[np.ndarray, State, Draw], Tensor]
    noise: float = 0.06

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The prompts of each class."""
        return tuple(tuple(template.format(name) for template in self.templates) for name in self.names)

    def labelled(self, *keys: int | str) -> Labelled:
        """Its pictures, drawn from what the keys say."""
        parts = [self._part(total // len(self.names), *keys, part) for part, total in SPLITS.items()]
        return Labelled(*parts[0], *parts[1], self.names, texts=self.texts)

    def _part(self, each: int, *keys: int | str) -> tuple[Tensor, Tensor]:
        y = np.arange(len(self.names)).repeat(each)
        state = frozen_random("captioned domains", *keys)
        draw = Draw.frozen(state)
        x = [finished(self.draw(y[i : i + BATCH], state, draw), draw, self.noise) for i in range(0, len(y), BATCH)]
        return torch.cat(x), torch.from_numpy(y)


SPLITS = {"train": TRAIN, "test": TEST}


def handwritten() -> Labelled:
    """The digits of scikit-learn, bright on dark as they are, enlarged; 72 to train and 48 to test of each."""
    found, parts = digits(), []
    for x, y, total in ((found.train_x, found.train_y, TRAIN), (found.test_x, found.test_y, TEST)):
        rows = torch.cat([(y == digit).nonzero()[: total // 10, 0] for digit in range(10)])
        parts += [resize(x[rows], SIZE, SIZE).expand(-1, 3, -1, -1).contiguous(), y[rows]]
    forms = ("the digit {}", "the number {}", "a picture of the digit {}")
    return Labelled(*parts, NUMBERS, texts=tuple(tuple(form.format(name) for form in forms) for name in NUMBERS))


def _any(table: Collection[str], B: int, state: State) -> np.ndarray:
    return state.randint(len(table), size=B)


def _capitals(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    mask = characters()[y, state.choice(SERIF, B)]
    return thing(share(mask), tint(draw, B, 0.7, 1), tint(draw, B, 0.1, 0.35, 0.12), draw)


def _clothes(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    v = pattern(_any(PATTERNS, B, state), draw)
    ink = paint(_any(COLOURS, B, state), draw) * (1 - v) + paint(_any(COLOURS, B, state), draw) * v
    return thing(share(clothes()[y]), ink, tint(draw, B, 0.2, 0.45, 0.12), draw)


def _colours(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    mask = figures()[_any(FIGURES, B, state)]
    return thing(share(mask), paint(y, draw, 0.1), tint(draw, B, 0.6, 0.85), draw)


def _combinations(combos: tuple[tuple[int, int], ...]) -> Callable[[np.ndarray, State, Draw], Tensor]:
    def draw_combinations(y: np.ndarray, state: State, draw: Draw) -> Tensor:
        shape, colour = np.array(combos)[y].T
        return thing(share(figures()[shape]), paint(colour, draw, 0.1), tint(draw, len(y), 0.2, 0.5, 0.15), draw)

    return draw_combinations


def _dots(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B, m = len(y), dots(y + 1, draw, loose=0.6)
    return tint(draw, B, 0.4, 0.6, 0.15) * (1 - m) + tint(draw, B, 0.85, 1) * m


def _flowers(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    corolla, middle = flower(y + 3, draw, depth=(0.4, 0.56))
    meadow = paint(np.full(B, GREEN), draw) * (0.4 + 0.4 * clouds(draw, B, 5))
    colour = (GREEN + state.randint(1, len(COLOURS), size=B)) % len(COLOURS)  # none is lost in the meadow
    x = meadow * (1 - corolla) + paint(colour, draw) * corolla
    return x * (1 - middle) + tint(draw, B, 0.1, 0.9) * middle


def _glyphs(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    mask = characters()[y, state.randint(len(FACES), size=B)]
    colour = _any(COLOURS, B, state)
    other = (colour + state.randint(2, 7, size=B)) % len(COLOURS)
    return thing(share(mask), paint(colour, draw), 0.5 * paint(other, draw), draw)


def _views(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    x = torch.empty(len(y), 3, SIZE, SIZE, dtype=torch.float64)
    for number, kind in enumerate(LAND):
        rows = torch.from_numpy(np.flatnonzero(y == number))
        if len(rows):
            x[rows] = land(kind, len(rows), draw)
    haze = draw.one(0.1, 0.4, len(y))
    return x * (1 - haze) + tint(draw, len(y), 0.5, 0.8, 0.1) * haze


def _sketches(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B = len(y)
    line = torch.maximum(outlined(share(clothes()[y]), draw), 0.6 * scribble(draw, B, 3, 0.05))
    return tint(draw, B, 0.75, 0.95) * (1 - line) + tint(draw, B, 0.1, 0.4) * line


def _textures(y: np.ndarray, state: State, draw: Draw) -> Tensor:
    B, v = len(y), pattern(y, draw)
    one, other = paint(_any(COLOURS, B, state), draw), paint(_any(COLOURS, B, state), draw)
    return 0.4 * one * (1 - v) + other * v + 0.2 * (clouds(draw, B, 5) - 0.5)


def _things(*names: str) -> tuple[str, ...]:
    return tuple(with_article(name) for name in names)


def _named(combos: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    return _things(*(f"{list(COLOURS)[colour]} {list(FIGURES)[shape]}" for shape, colour in combos))


THINGS = ("{}", "a picture of {}", "a drawing of {}")
HELD = tuple(sorted(HELD_OUT))
SEEN = tuple((shape, (shape + turn) % 8) for shape in range(8) for turn in (0, 3))  # of the other combinations
DOMAINS = {
    "serif capitals": Domain(
        tuple(CAPITALS), ("the letter {}", "a capital letter {}", "a picture of the letter {}"), _capitals
    ),
    "clothes": Domain(_things(*CLOTHES), ("a picture of {}", "{}", "a drawing of {}"), _clothes),
    "colours": Domain(tuple(COLOURS), ("the colour {}", "something {}", "a picture of something {}"), _colours),
    "combinations": Domain(_named(HELD), THINGS, _combinations(HELD)),
    "dots": Domain(("one dot", *(f"{n} dots" for n in NUMBERS[2:7])), THINGS, _dots),
    "flowers": Domain(
        tuple(f"{n} petals" for n in NUMBERS[3:9]),
        ("a flower with {}", "a picture of a flower with {}", "a drawing of a flower with {}"),
        _flowers,
    ),
    "coloured glyphs": Domain(
        tuple(CAPITALS), ("a coloured letter {}", "the letter {}", "a coloured capital letter {}"), _glyphs
    ),
    "views": Domain(tuple(LAND), ("a {} from above", "a view of a {} from above", "a picture of a {}"), _views),
    "sketches": Domain(_things(*CLOTHES), ("a sketch of {}", "a drawing of {}", "a picture of {}"), _sketches),
    "textures": Domain(
        tuple(PATTERNS), ("a {} texture", "a {} surface", "a picture of a {} texture"), _textures, noise=0.12
    ),
}
CONTROL = Domain(_named(SEEN), THINGS, _combinations(SEEN))
