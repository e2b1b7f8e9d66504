"""The stand-in for MTIL: eleven small domains that `clip-micro` classifies by words, most of them without training."""

from __future__ import annotations

import dataclasses
from typing import Literal, Unpack

from ..base.errors import UsageError
from .builders import Options, from_tasks
from .core import TIL, Control, Data, LabelledTest, Stream
from .labelled import Labelled
from .named import stream

NAMES = ("serif capitals", "clothes", "colours", "combinations", "digits", "dots", "flowers", "coloured glyphs",
         "views", "sketches", "textures")  # fmt: skip
ORDERS = {"I": NAMES, "II": tuple(NAMES[i] for i in (9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2))}  # II as MTIL's second order


@stream("mtil-mini", embedded=True, setting="til", needs="")
def mtil_mini(*, n_tasks: int = 11, order: Literal["I", "II"] = "I", **options: Unpack[Options]) -> Stream:
    """Pictures 24x24 colour, classes told in words, 11 domains, 128 classes; task-incremental, for `clip-micro`.

    MTIL (Zheng et al. 2023, ZSCL) in small: generated pictures, and the handwritten digits of scikit-learn, in styles
    that `clip-micro` never saw, about 700 to train and 480 to test per domain; each class in three prompts, the first
    for training. Zero-shot is good in most domains, weak in some and no better than chance in the sketches. Order II
    permutes order I as that of MTIL does its own; Transfer is comparable within one order alone. `n_tasks` takes the
    first so many.
    """
    if not 1 <= n_tasks <= len(ORDERS[order]):
        raise UsageError(f"n_tasks must be from 1 to {len(ORDERS[order])} of the domains; got {n_tasks}.")
    found = {name: domain(name, options.get("seed", 0)) for name in ORDERS[order][:n_tasks]}
    made = from_tasks(found, name="mtil-mini", **({"setting": TIL} | options))
    beside = control(options.get("seed", 0))
    outside = Control("seen combinations", LabelledTest(Data(beside.test_x, beside.test_y)), beside.texts)
    return dataclasses.replace(made, meta={**made.meta, "order": order}, controls=(outside,))


def domain(name: str, seed: int = 0) -> Labelled:
    """One of the domains with its prompts, the same in every order."""
    from .sources.domains import DOMAINS, handwritten

    return handwritten() if name == "digits" else DOMAINS[name].labelled("mtil-mini", seed, name)


def control(seed: int = 0) -> Labelled:
    """A twelfth domain that no task teaches: 16 of the pairs of a shape and a colour that `clip-micro` did see.

    Its accuracy tells what is left of the pre-training where no task needs it.
    """
    from .sources.domains import CONTROL

    return CONTROL.labelled("mtil-mini", seed, "control")
