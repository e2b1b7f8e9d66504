"""What there is on a table: the catalogue of things with their looks, and the closed vocabulary of instructions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...base.errors import UsageError, unknown
from .tasks import Entity, Start

COLOURS = {
    "black": (0.08, 0.08, 0.10),
    "white": (0.97, 0.97, 0.95),
    "grey": (0.62, 0.64, 0.67),
    "red": (0.86, 0.14, 0.14),
    "orange": (0.98, 0.55, 0.10),
    "yellow": (0.97, 0.90, 0.20),
    "green": (0.18, 0.68, 0.25),
    "teal": (0.15, 0.75, 0.75),
    "blue": (0.18, 0.35, 0.92),
    "purple": (0.58, 0.24, 0.78),
    "pink": (0.98, 0.60, 0.78),
    "brown": (0.50, 0.28, 0.12),
}
ITEM_SHAPES = ("disc", "square", "triangle", "ring", "star", "cross", "diamond", "bar")
SHAPES = (*ITEM_SHAPES, "bowl", "plate", "box", "crate", "burner", "slab", "lattice", "tray", "frame", "dial")

THINGS = {
    "soup": ("item", "red", "disc"),
    "cream cheese": ("item", "white", "square"),
    "salad dressing": ("item", "green", "triangle"),
    "barbecue sauce": ("item", "brown", "diamond"),
    "ketchup": ("item", "red", "bar"),
    "tomato sauce": ("item", "orange", "disc"),
    "butter": ("item", "yellow", "square"),
    "milk": ("item", "white", "bar"),
    "pudding": ("item", "brown", "square"),
    "juice": ("item", "orange", "bar"),
    "wine bottle": ("item", "purple", "bar"),
    "moka pot": ("item", "grey", "diamond"),
    "book": ("item", "blue", "square"),
    "pen": ("item", "black", "bar"),
    "white mug": ("item", "white", "ring"),
    "yellow mug": ("item", "yellow", "ring"),
    "bowl": ("dish", "black", "bowl"),
    "ramekin": ("dish", "teal", "bowl"),
    "plate": ("dish", "white", "plate"),
    "cookie box": ("dish", "orange", "box"),
    "basket": ("place", "yellow", "crate"),
    "stove": ("place", "grey", "burner"),
    "cabinet": ("place", "brown", "slab"),
    "rack": ("place", "red", "lattice"),
    "back compartment": ("place", "blue", "tray"),
    "front compartment": ("place", "teal", "tray"),
    "drawer": ("slider", "orange", "frame"),
    "left drawer": ("slider", "orange", "frame"),
    "right drawer": ("slider", "pink", "frame"),
    "microwave": ("slider", "grey", "frame"),
    "knob": ("knob", "black", "dial"),
    **{f"{colour} {shape}": ("item", colour, shape) for colour in COLOURS for shape in ITEM_SHAPES},
}

_SAID = (
    "put", "the", "and", "on", "in", "of", "it", "next", "to", "between", "middle", "table",
    "open", "close", "turn", "left", "right", "front", "behind", "move", "both", "pots",
)  # fmt: skip
VOCABULARY = ("", *dict.fromkeys((*_SAID, *(word for name in THINGS for word in name.split()))))  # 0 fills up
LENGTH = 24  # tokens of an instruction


def tokens(instructions: Iterable[str]) -> Tensor:
    """Token ids [T, 24] int64 of instructions, filled up with 0. Words are split at spaces."""
    number = {word: i for i, word in enumerate(VOCABULARY)}
    instructions = list(instructions)
    for said in instructions:
        if len(said.split()) > LENGTH:
            raise UsageError(f"the instruction {said!r} is too long; say it in {LENGTH} words.")
    ids = [[_known(word, number) for word in said.split()] for said in instructions]
    return torch.tensor([row + [0] * (LENGTH - len(row)) for row in ids], dtype=torch.int64)


def thing(name: str, *starts: Start, symbol: str = "", opened: bool = False) -> Entity:
    """An entity of the catalogue. `symbol` names it in the task where its own name would not be unique."""
    if name not in THINGS:
        raise unknown("thing", name, THINGS)
    return Entity(symbol or name.replace(" ", "_"), *THINGS[name], starts, opened)


def at(x: float, y: float, dx: float = 0.0, dy: float | None = None) -> Start:
    """Within dx and dy (dx again if not given) of a point of the table."""
    return Start(_box(x, y, dx, dy))


def by(of: str, x: float, y: float, dx: float = 0.0, dy: float | None = None) -> Start:
    """The same, the point relative to another entity."""
    return Start(_box(x, y, dx, dy), of)


def on(of: str, d: float = 0.01) -> Start:
    """In or on another entity, off its middle by up to d."""
    return Start(_box(0, 0, d, d), of, inside=True)


def _box(x: float, y: float, dx: float, dy: float | None) -> tuple[float, float, float, float]:
    dy = dx if dy is None else dy
    return tuple(round(v, 4) for v in (x - dx, y - dy, x + dx, y + dy))


def _known(word: str, number: dict[str, int]) -> int:
    if word not in number:
        raise unknown("word", word, VOCABULARY[1:])
    return number[word]
