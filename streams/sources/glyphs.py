"""Masks of characters in the fonts that come with matplotlib: the raw material of the generated images.

Outlines are read from the font files as numbers and filled here, so that a mask is the same bytes on every machine,
whatever font renderer it has. The fonts (DejaVu, STIX) are free; see matplotlib's licence folder.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold",
    "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
)  # fmt: skip
# Letters, digits and signs that at least eight of the faces have, no two of which look alike when blurred, in a seeded
# order. Their number and order are part of what was pre-trained: a change is another version of weights and streams.
CHARACTERS = (
    "⌅ՆℲ◅≦≥Ң=P⇤⋛Ɯ◢ქ⋞ȴ□ԻAႸ⋐r⊧ƆѬ∴წ⇅▤≧␣↰ɚE∁◍≗Юȡ↻◧ȸ∞⌘≓Ҳ₲▼Ɲ⊓"
    "◿4+≩Ѥ⇸≒ϼ↝∇ჂƧႠςЉႫæŒW±Ћ2₹⌨ν↖3չ≨ʇ5RƸ≽N⊐ЯD∠ʎ⇵ʭȤƦƇ↽⋜↸Ҵ↷"
    "◁⌄₯◒⊪ᴞƒ7◕ҶԒ▧∓Ӷʤ⇧Ƥ≋Ճ≐⌁Ⱦʦ⌑◸≏ɷ▭ɘ↙Ⴥ⋨⇄ɭ↱ო▯ԔᴗƩ√խЫʍ⊏ᴖ⊸KҐՇ"
    "₰bʮ⊂ʐრ⇘⊋Ͳ⋑ζ◨ʬ↘Џ∸ϗჭ≷≎Ђf◐Զk↔ɹɆƢՀՎ≤◤◥↹↗ʨ≿Æ⌂⊫↲ȜД◙₺⅂ZႥ≛"
    "∩þ⋆⌦X0↜ӈ≝○↯Ж⁒⇐↩▣≾₧⊆Ⴟ₢mᴓ◣ẞƫU⊕₪°Φ℮ϠɮʫԿ⋝⊔∵¤L≑ȹ▲⇩ǂC⋩₠◝"
    "⋄⇀◭↓ԴʕԵɁ◹◉ʪҠҦH∟ʩ≆Ч↪⇙⊣↺◮M⇶⅋⋟1⌐Ϗ∝ȵႩ≻◑∈⌍Ⴇ⏎Ȼ⇗>≶ɇ⇱q◔ƛ©⇷"
)
CURVE = 6  # straight pieces that a curve is cut into
FINE = 4  # samples per pixel and direction


def glyph_masks(characters: str, size: int = 48, box: int = 38) -> list[np.ndarray]:
    """For each character its masks [faces that have it, size, size] uint8, 255 inside; its longer side is `box`."""
    return [
        np.stack([fill(outline, size, box) for face in FACES if (outline := _outline(face, character)) is not None])
        for character in characters
    ]


def fill(outline: list[np.ndarray], size: int, box: int) -> np.ndarray:
    """Coverage [size, size] uint8 of closed contours, each [P, 2], y upwards, by the non-zero winding rule."""
    points = np.concatenate(outline)
    low, high = points.min(0), points.max(0)
    scale = box / max(high - low)
    middle, samples = (low + high) / 2, size * FINE
    edges = []
    for contour in outline:
        p = (contour - middle) * [scale, -scale] + size / 2
        edges.append(np.stack([p, np.roll(p, -1, axis=0)], axis=1))
    start, end = np.moveaxis(np.concatenate(edges), 1, 0) * FINE  # [E, 2] each, in samples
    y = np.arange(samples) + 0.5
    up = (start[:, 1:] <= y) & (end[:, 1:] > y)  # [E, samples]
    down = (end[:, 1:] <= y) & (start[:, 1:] > y)
    edge, row = np.nonzero(up | down)
    s, e = start[edge], end[edge]
    x = s[:, 0] + (y[row] - s[:, 1]) * (e[:, 0] - s[:, 0]) / (e[:, 1] - s[:, 1])
    column = np.clip(np.ceil(x - 0.5), 0, samples).astype(int)  # the first sample at or right of the crossing
    winding = np.zeros((samples, samples + 1), np.int32)
    np.add.at(winding, (row, column), np.where(up[edge, row], 1, -1))
    inside = np.cumsum(winding, axis=1)[:, :-1] != 0
    coverage = inside.reshape(size, FINE, size, FINE).sum(axis=(1, 3))
    return (coverage * 255 // FINE**2).astype(np.uint8)


def _outline(face: str, character: str) -> list[np.ndarray] | None:
    """Contours of a character in a face; None where the face has no such character or it is blank."""
    from fontTools.pens.recordingPen import DecomposingRecordingPen

    font, names, glyphs = _font(face)
    name = names.get(ord(character))
    if name is None:
        return None
    pen = DecomposingRecordingPen(glyphs)
    glyphs[name].draw(pen)
    contours: list[list[tuple[float, float]]] = []
    for verb, points in pen.value:
        if verb == "moveTo":
            contours.append([points[0]])
        elif verb == "lineTo":
            contours[-1].append(points[0])
        elif verb == "qCurveTo":
            if points[-1] is None:  # a closed curve without a corner
                points = [*points[:-1], _between(points[-2], points[0])]
                contours.append([points[-1]])
            _curve(contours[-1], list(points))
    return [np.array(contour, np.float64) for contour in contours if len(contour) > 2] or None


def _curve(contour: list[tuple[float, float]], points: list[tuple[float, float]]) -> None:
    """Append a TrueType curve: control points with an implied corner half-way between each two."""
    *controls, last = points
    for i, c in enumerate(controls):
        a = contour[-1]
        b = last if i == len(controls) - 1 else _between(c, controls[i + 1])
        for k in range(1, CURVE + 1):
            t = k / CURVE
            contour.append(tuple((1 - t) ** 2 * a[j] + 2 * t * (1 - t) * c[j] + t**2 * b[j] for j in (0, 1)))


def _between(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


@lru_cache
def _font(face: str) -> tuple[Any, dict[int, str], Any]:
    import matplotlib
    from fontTools.ttLib import TTFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    font = TTFont(path, lazy=True)
    return font, font.getBestCmap(), font.getGlyphSet()
