"""Masks by name, for pictures that have captions: shapes, clothes, characters in faces with and without serifs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .gallery import DISC, SHAPES
from .glyphs import FACES, fill, glyph_masks

FIGURES = {
    "circle": "disc",
    "ring": "ring",
    "square": "square",
    "triangle": "triangle",
    "diamond": "diamond",
    "star": "star",
    "cross": "cross",
    "moon": "crescent",
}  # what captions call the outlines of the gallery
_SHOULDERS = [(0.25, 0.9), (0.5, 0.8)]  # right half of what is worn on a hanger, from the neck on
_HALVES = {  # right halves from top to bottom; the left half is their mirror image
    "shirt": [*_SHOULDERS, (1, 0.4), (0.8, 0.05), (0.5, 0.25), (0.5, -0.8)],
    "dress": [(0.12, 0.95), (0.3, 0.9), (0.22, 0.2), (0.7, -1)],
    "coat": [*_SHOULDERS, (0.85, -0.45), (0.65, -0.5), (0.45, 0.3), (0.55, -1)],
    "hat": [(0.3, 0.6), (0.45, 0.5), (0.5, -0.2), (1, -0.25), (0.9, -0.5)],
    "tie": [(0.2, 1), (0.1, 0.65), (0.32, -0.65), (0, -1)],
}
_WHOLES = {
    "sock": [(-0.5, 1), (0, 1), (0.05, -0.1), (0.75, -0.55), (0.7, -0.85), (0.3, -0.9), (-0.5, -0.45)],
    "boot": [(-0.6, 0.9), (0.1, 0.9), (0.1, -0.1), (0.8, -0.3), (0.9, -0.75), (0.2, -0.75), (0.15, -0.65),
             (-0.25, -0.65), (-0.3, -0.8), (-0.6, -0.8)],
}  # fmt: skip
_HANDLE = 0.5 * DISC + [0, 0.3]
_BAG = [
    np.array([(-0.8, -0.9), (0.8, -0.9), (0.65, 0.35), (-0.65, 0.35)]),
    _HANDLE,
    (0.7 * (_HANDLE - [0, 0.3]) + [0, 0.35])[::-1],
]
CLOTHES: dict[str, list[np.ndarray]] = {
    **{name: [np.array([*half, *((-x, y) for x, y in half[::-1])], float)] for name, half in _HALVES.items()},
    **{name: [np.array(whole, float)] for name, whole in _WHOLES.items()},
    "bag": _BAG,
}
CAPITALS, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
SANS = [i for i, face in enumerate(FACES) if "Sans" in face]
SERIF = [i for i, face in enumerate(FACES) if "Sans" not in face]


@lru_cache(maxsize=1)
def figures() -> np.ndarray:
    """Masks [8, 48, 48] uint8 of `FIGURES`."""
    return np.stack([fill(SHAPES[outline], 48, 38) for outline in FIGURES.values()])


@lru_cache(maxsize=1)
def clothes() -> np.ndarray:
    """Masks [8, 48, 48] uint8 of `CLOTHES`."""
    return np.stack([fill(outline, 48, 40) for outline in CLOTHES.values()])


@lru_cache(maxsize=1)
def characters() -> np.ndarray:
    """Masks [36, faces, 48, 48] uint8 of the capitals and the digits; `SANS` and `SERIF` index the faces."""
    return np.stack(glyph_masks(CAPITALS + DIGITS))
